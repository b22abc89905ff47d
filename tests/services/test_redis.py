"""Against a real Redis: the contract of a store, and a server that dies, hangs and comes back under load."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.process import kit
from tests.process.kit import eventually
from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.redis import RedisStore
from toolring.testing import CacheStoreContract
from toolring.workers.cache.guarded import Guarded

pytestmark = pytest.mark.services


class Server:
    """A redis-server on a socket of its own, with nothing on disk."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "these tests need redis-server: apt install redis-server"
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._command = [program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._directory = directory
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=self._directory, stdout=subprocess.DEVNULL)

        def answers() -> bool:
            try:
                RedisStore(self.settings).close()
            except redis.ConnectionError:
                return False
            return True

        eventually(answers, "redis answers")

    @property
    def settings(self) -> StoreSettings:
        return StoreSettings("", self.url, 0, 1.0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@contextmanager
def serving() -> Iterator[Server]:
    with kit.place() as directory:
        server = Server(directory)
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


class TestRedis(CacheStoreContract):
    factory = RedisStore
    url = ""

    @pytest.fixture(autouse=True)
    def _at(self, server: Server) -> None:
        type(self).url = server.url

    def settings(self, directory: str) -> StoreSettings:
        return StoreSettings(directory, self.url, 0, 1.0)


TAGS = (b"*", b"tag:x")


def kept(store: Any, key: bytes, value: bytes) -> None:
    _, token = store.get(key, TAGS)
    store.put(key, TAGS, token, Stored(value, 0, 60.0, 0.0, 0.1))


def test_an_evicted_stamp_takes_its_entries_along(server: Server) -> None:
    store = RedisStore(server.settings)
    kept(store, b"e" * 32, b"v")
    store._redis.delete(b"toolring:tag:tag:x")
    assert store.get(b"e" * 32, TAGS)[0] is None
    store.close()


def test_a_value_that_is_not_ours_is_a_miss(server: Server) -> None:
    store = RedisStore(server.settings)
    store._redis.set(b"toolring:entry:" + b"f" * 32, b"garbage", px=60_000)
    assert store.get(b"f" * 32, TAGS)[0] is None
    store.close()


def test_the_claim_of_one_that_died_runs_out(server: Server) -> None:
    one, two = RedisStore(server.settings), RedisStore(server.settings)
    assert one.claim(b"d" * 32, 0.05)
    one.close()
    eventually(lambda: two.claim(b"d" * 32, 60.0), "the claim runs out")
    two.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_server_that_is_gone_is_misses_until_it_is_back(how: str) -> None:
    with serving() as server:
        now = [0.0]
        settings = StoreSettings("", server.url, 0, 0.1)
        debts = [0, 0]
        guarded = Guarded("redis", lambda: RedisStore(settings), 0.2, clock=lambda: now[0], debts=debts)
        kept(guarded, b"k" * 32, b"old")
        assert guarded.get(b"k" * 32, TAGS)[0] is not None
        if how == "kill":
            server.kill()
        else:
            server.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            assert guarded.get(b"k" * 32, TAGS) == (None, None)
        guarded.invalidate([b"tag:x"])
        assert debts[0] != debts[1]
        if how == "kill":
            server.start()
        else:
            server.process.send_signal(signal.SIGCONT)
        now[0] += 100.0
        eventually(lambda: [guarded.get(b"k" * 32, TAGS)[1], now.__setitem__(0, now[0] + 100.0)][0], "it is used again")
        assert guarded.get(b"k" * 32, TAGS)[0] is None, "what was invalidated meanwhile is not given"
        kept(guarded, b"k" * 32, b"new")
        found, _ = guarded.get(b"k" * 32, TAGS)
        assert found is not None
        assert found.value == b"new"


@pytest.mark.parametrize("layers", ["redis", "sqlite,redis"])
def test_two_nodes_share_results_and_make_each_once(tmp_path: Path, layers: str) -> None:
    ledger = str(tmp_path / "ledger")
    with serving() as server:
        shared: dict[str, Any] = {
            "TOOLRING_CACHE_LAYERS": layers,
            "TOOLRING_CACHE_URL": server.url,
            "TOOLRING_CACHE_NAMESPACE": "both",
            "TOOLRING_CACHE_TIMEOUT": "1",
        }
        with kit.running(**shared) as one, kit.running(**shared) as two, one.client() as a, two.client() as b:
            arguments = {"path": ledger, "seconds": 0.3}
            handles = [client.submit("tally", arguments) for client in (a, b) for _ in range(100)]
            assert [handle.result() for handle in handles] == [1] * 200
            assert kit.lines(Path(ledger)) == ["run"]
            a.call("change", {"path": ledger})
            assert a.call("tally", arguments) == 2
            eventually(lambda: b.call("tally", arguments) == 2, "the other node hears of it")


def test_calls_go_on_while_redis_is_stopped_and_started(tmp_path: Path) -> None:
    with serving() as server:
        shared: dict[str, Any] = {
            "TOOLRING_CACHE_LAYERS": "redis",
            "TOOLRING_CACHE_URL": server.url,
            "TOOLRING_CACHE_HOT_BYTES": "0",
        }
        with kit.running(**shared) as node, node.client() as client:
            for turn in range(4):
                numbers = [{"x": number % 50} for number in range(300)]
                results = client.map("square", numbers)
                for at, (arguments, result) in enumerate(zip(numbers, results, strict=True)):
                    assert result == arguments["x"] ** 2
                    if at == 100 and turn % 2 == 0:
                        server.kill()
                    elif at == 100:
                        server.start()
            failures = eventually(
                lambda: client.status()["cache"]["stores"].get("redis", {}).get("failures"), "figures"
            )
            assert failures > 0
    assert not os.path.exists(server.socket)

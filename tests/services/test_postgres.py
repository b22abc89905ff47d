"""Against a real PostgreSQL: a server that restarts, ends connections, hangs, is full; a spike, and a fork."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.process.kit import Background, Node, eventually, failure, place, running
from toolring import Pool
from toolring.errors import PoolExhausted, PoolTimeout, ToolError
from toolring.resources import postgres

pytestmark = pytest.mark.services


class Server:
    """A PostgreSQL of its own, at a socket in its directory; only 20 may connect."""

    def __init__(self, directory: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
        found = shutil.which("postgres") or (str(programs[-1]) if programs else "")
        assert found, "these tests need PostgreSQL: apt install postgresql"
        self._bin = Path(found).parent
        self.directory = directory
        self.data = directory / "data"
        self.conninfo = f"host={directory} user=test dbname=postgres"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            who = pwd.getpwnam("postgres")
            os.chown(directory, who.pw_uid, who.pw_gid)
            self._as = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "test", "-A", "trust", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory, **self._as)
        self.start()

    def start(self) -> None:
        settings = {
            "unix_socket_directories": self.directory,
            "listen_addresses": "",
            "max_connections": 20,
            "fsync": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            command = [str(self._bin / "postgres"), "-D", str(self.data), *words]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **self._as)
        eventually(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once
        self.process.wait(20)

    def end_connections(self, but: int = 0) -> int:
        with closing(psycopg.connect(self.conninfo)) as mine:
            found = mine.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            return len(found.fetchall())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with place() as directory:
        server = Server(directory)
        try:
            yield server
        finally:
            server.stop()


def ask(pool: Pool[Any]) -> int:
    with pool.acquire() as connection:
        return int(connection.execute("SELECT 40 + 2").fetchone()[0])


@pytest.fixture
def pool(server: Server) -> Iterator[Pool[Any]]:
    with postgres(server.conninfo, max=3, validate_after=0.0, name="db") as made:
        yield made


def test_connections_that_the_server_ends_are_replaced(server: Server, pool: Pool[Any]) -> None:
    assert ask(pool) == 42
    for _ in range(3):
        assert server.end_connections() >= 1
        assert ask(pool) == 42
    assert pool.stats()["invalid"] >= 3


def test_one_that_is_ended_while_it_is_used_fails_that_call_and_no_other(server: Server, pool: Pool[Any]) -> None:
    def use() -> None:
        with pool.acquire() as connection:
            server.end_connections()
            connection.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        use()
    assert ask(pool) == 42


def test_a_server_that_restarts(server: Server, pool: Pool[Any]) -> None:
    assert ask(pool) == 42
    server.stop()
    error = failure(lambda: pool.acquire(timeout=0.3).take())
    assert isinstance(error, PoolTimeout)
    assert isinstance(error.__cause__, psycopg.OperationalError)
    waits = Background(lambda: ask(pool))
    server.start()
    assert waits.result() == 42, "whoever waited meanwhile is served"
    assert ask(pool) == 42


def test_what_is_left_uncommitted_is_undone(server: Server, pool: Pool[Any]) -> None:
    with pool.acquire() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.commit()
    with pool.acquire() as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
    with pool.acquire() as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone()[0] == 0


def test_a_connect_that_hangs_costs_its_caller_no_more_than_its_time(server: Server) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)  # it accepts, and says nothing
        conninfo = f"host=127.0.0.1 port={deaf.getsockname()[1]} user=test"
        with postgres(conninfo, max=1, options={"connect_timeout": 3}) as pool:
            assert isinstance(failure(lambda: pool.acquire(timeout=0.2).take()), PoolTimeout)
            assert pool.stats()["creating"] == 1, "and the place is still taken"


def test_more_than_the_server_allows(server: Server) -> None:
    with postgres(server.conninfo, max=40, acquire_timeout=15.0) as pool:
        together = threading.Barrier(30)

        def one() -> int:
            together.wait(10)
            return ask(pool)

        assert [call.result() for call in [Background(one) for _ in range(30)]] == [42] * 30
        assert pool.stats()["idle"] <= 20


def test_a_spike_is_served_in_turn_by_a_few(server: Server) -> None:
    with postgres(server.conninfo, max=3, max_waiting=300) as pool:
        calls = [Background(lambda: ask(pool)) for _ in range(200)]
        assert [call.result() for call in calls] == [42] * 200
        assert pool.stats()["created"] <= 3
    with postgres(server.conninfo, max=1, max_waiting=1) as pool, pool.acquire():
        waits = Background(lambda: failure(lambda: pool.acquire(timeout=1.0).take()))
        eventually(lambda: pool.stats()["waiting"] == 1)
        assert isinstance(failure(lambda: pool.acquire().take()), PoolExhausted)
        assert isinstance(waits.result(), PoolTimeout)


def test_a_child_that_is_forked_leaves_its_parents_connections_alone(server: Server, pool: Pool[Any]) -> None:
    with pool.acquire() as connection:
        mine = connection.info.backend_pid
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with pool.acquire() as theirs:
                os.write(write, str(theirs.info.backend_pid).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs_pid = int(os.read(read, 100))
    assert theirs_pid != mine
    with pool.acquire() as connection:
        assert connection.info.backend_pid == mine
        assert connection.execute("SELECT 1").fetchone() == (1,)


TOOLS = """
import asyncio, time
import psycopg
from toolring import tool
from toolring.resources import async_postgres, postgres

db = postgres({conninfo!r}, max=2, validate_after=0.0)
adb = async_postgres({conninfo!r}, max=2, validate_after=0.0)

@tool(read_only=True)
def backend(db: psycopg.Connection) -> int:
    return db.execute("SELECT pg_backend_pid()").fetchone()[0]

@tool(read_only=True)
def sleep(seconds: float, db: psycopg.Connection) -> int:
    db.execute("SELECT pg_sleep(%s)", [seconds])
    return 1

@tool(read_only=True)
async def async_backend(adb: psycopg.AsyncConnection, seconds: float = 0.0) -> int:
    found = await adb.execute("SELECT pg_backend_pid(), pg_sleep(%s)", [seconds])
    return (await found.fetchone())[0]
"""


@pytest.fixture
def node(server: Server) -> Iterator[Node]:
    with place() as directory:
        (directory / "rows.py").write_text(TOOLS.format(conninfo=server.conninfo))
        with running(directory / "rows.py", workers=1, directory=directory) as node:
            yield node


@pytest.mark.parametrize("tool", ["backend", "async_backend"])
def test_tools_keep_their_connection_and_survive_its_loss(server: Server, node: Node, tool: str) -> None:
    with node.client() as client:
        first = client.call(tool)
        assert client.call(tool) == first
        server.end_connections()
        second = client.call(tool)
        assert second != first
        assert client.call(tool) == second


@pytest.mark.parametrize("tool", ["sleep", "async_backend"])
def test_a_deadline_ends_a_query_and_the_connection(server: Server, node: Node, tool: str) -> None:
    def queries() -> int:
        with closing(psycopg.connect(server.conninfo)) as mine:
            found = mine.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND state = 'active' "
                "AND pid <> pg_backend_pid()"
            ).fetchone()
            return int(found[0]) if found else -1

    with node.client() as client:
        failure(lambda: client.call(tool, {"seconds": 60.0}, timeout=0.4))
        eventually(lambda: queries() == 0, "the server has noticed")
        assert client.call("backend") > 0


def test_async_tools_share_two(server: Server, node: Node) -> None:
    with node.client() as client:
        found = set(client.map("async_backend", [{"seconds": 0.01}] * 30, window=30))
        assert 1 <= len(found) <= 2


def test_a_tool_whose_server_is_gone(server: Server, node: Node) -> None:
    with node.client() as client:
        assert client.call("backend") > 0
        server.stop()
        try:
            error = failure(lambda: client.call("backend", timeout=10))
            assert isinstance(error, PoolTimeout | ToolError)
        finally:
            server.start()

        def again() -> Any:
            try:
                return client.call("backend", timeout=10)
            except (PoolTimeout, ToolError):
                return None

        assert eventually(again, "it is asked again")

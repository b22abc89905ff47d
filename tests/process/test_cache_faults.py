"""Stores that hang, fail, are cut off, locked, read-only or full, under a node: no wrong answer, no failed call."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, lines
from toolring import Client

PLUGIN = """
import time
from toolring import hookimpl

class Bad:
    shared = False
    def __init__(self, settings): pass
    def get(self, key, tags): self.act()
    def put(self, key, tags, token, entry): self.act()
    def invalidate(self, tags): self.act()
    def claim(self, key, seconds): self.act()
    def release(self, key): self.act()
    def stats(self): return {}
    def close(self): self.act()

class Hangs(Bad):
    def act(self):
        while True:
            try: time.sleep(60)
            except Exception: pass

class Fails(Bad):
    def act(self): raise RuntimeError("no")

class Lies(Bad):
    def act(self): return 7

@hookimpl
def toolring_cache_stores():
    return {"hangs": Hangs, "fails": Fails, "lies": Lies}
"""


def squares(client: Client, count: int = 200) -> None:
    asked = [{"x": number % 60} for number in range(count)]
    for arguments, result in zip(asked, client.map("square", asked), strict=True):
        assert result == arguments["x"] ** 2


def of_store(client: Client, name: str) -> dict[str, Any]:
    return dict(client.status()["cache"]["stores"].get(name, {}))


@pytest.mark.parametrize("how", ["hangs", "fails", "lies"])
def test_a_bad_store_is_only_misses(tmp_path: Path, how: str) -> None:
    (tmp_path / "badstores.py").write_text(PLUGIN)
    settings: dict[str, Any] = {"TOOLRING_PLUGINS_LOAD": "badstores", "TOOLRING_CACHE_LAYERS": f"{how},sqlite"}
    with kit.running(directory=tmp_path, TOOLRING_CACHE_HOT_BYTES="0", **settings) as node, node.client() as client:
        ledger = str(tmp_path / "ledger")
        squares(client)
        assert [client.call("tally", {"path": ledger}) for _ in range(3)] == [1, 1, 1]
        client.call("change", {"path": ledger})
        assert client.call("tally", {"path": ledger}) == 2
        eventually(lambda: of_store(client, how).get("failures"), "its failures are counted")
        assert of_store(client, how)["hits"] == 0
        assert node.status()["restarts"] == 0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with kit.running(directory=tmp_path, TOOLRING_CACHE_HOT_BYTES="0", TOOLRING_CACHE_MAX_ENTRIES="1") as node:
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


def file_of(node: Node) -> Path:
    (path,) = (node.directory / "run" / "toolring").glob("*/results.sqlite3")
    return path


@pytest.mark.parametrize("fault", ["truncated", "garbage", "deleted"])
def test_a_file_that_is_damaged_under_load_does_no_harm(node: Node, client: Client, fault: str) -> None:
    squares(client)
    path = file_of(node)
    assert path.exists()
    if fault == "deleted":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(0 if fault == "truncated" else None)
            if fault == "garbage":
                file.write(os.urandom(100_000))

    squares(client)
    assert node.status()["restarts"] == 0
    before = node.status()["workers"]
    for worker in before:
        kit.kill_one(worker["pid"])  # their successors know nothing of what the file was

    def works() -> bool:
        squares(client, 60)
        store = of_store(client, "sqlite")
        return path.exists() and store.get("state") == "closed" and store.get("hits", 0) > 0

    eventually(works, "the store is used again")


def test_a_locked_file_is_misses_and_what_was_invalidated_is_not_given(
    node: Node, client: Client, tmp_path: Path
) -> None:
    ledger = str(tmp_path / "ledger")
    assert client.call("tally", {"path": ledger}) == 1
    lock = sqlite3.connect(file_of(node), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    squares(client)
    client.call("change", {"path": ledger})
    assert client.call("tally", {"path": ledger}) == 2
    lock.close()
    squares(client)
    assert client.call("tally", {"path": ledger}) in (2, 3)
    assert 2 <= len(lines(Path(ledger))) <= 3


def test_a_directory_that_cannot_be_written_to_is_misses(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("not a directory")
    settings: dict[str, Any] = {"TOOLRING_CACHE_DIRECTORY": str(place), "TOOLRING_CACHE_HOT_BYTES": "0"}
    with kit.running(directory=tmp_path, **settings) as node, node.client() as client:
        squares(client)
        assert "left out for a while" in eventually(lambda: node.log, "it says so")
    assert place.read_text() == "not a directory"

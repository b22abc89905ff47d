"""Ends at random moments: each call ends once, nothing of it is left, and no cache holds a half-written result."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process import kit
from tests.process.kit import Node, eventually
from toolring import Client
from toolring.errors import Cancelled, Expired, OutcomeUnknown

MODULE = """
import asyncio, hashlib, os, tempfile, time
from toolring import tool

def _made(key, size):
    text = hashlib.blake2b(str(key).encode()).hexdigest()
    return (text * (size // len(text) + 1))[:size]

@tool(read_only=True, cache=600, concurrency=2)
def sealed(key: int, size: int, folder: str) -> list[str]:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        text = ""
        for at in range(0, size, 1000):
            part = _made(key, size)[at : at + 1000]
            file.write(part.encode())
            text += part
            time.sleep(0.0002)
        return [text, hashlib.sha256(text.encode()).hexdigest()]

@tool(read_only=True, cache=600, concurrency=8)
async def async_sealed(key: int, size: int, folder: str) -> list[str]:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        text = ""
        for at in range(0, size, 1000):
            part = _made(key, size)[at : at + 1000]
            file.write(part.encode())
            text += part
            await asyncio.sleep(0.0002)
        return [text, hashlib.sha256(text.encode()).hexdigest()]
"""
CALLS, SIZE = 80, 20_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    module = tmp_path_factory.mktemp("sealed") / "sealing.py"
    module.write_text(MODULE)
    with kit.running(module, workers=2) as node:
        yield node


def check(client: Client, tool: str, folder: Path, counts: Counter[str]) -> None:
    """Whatever is cached is right, and everything that was taken was given back.

    An exception may strike a plain tool in the very moment in which a file has been made and nobody holds it yet, or in
    its cleanup: so some few may be left. An async one is cancelled where it awaits.
    """
    for key in range(CALLS):
        text, digest = client.call(tool, {"key": key, "size": SIZE, "folder": str(folder)})
        assert len(text) == SIZE
        assert hashlib.sha256(text.encode()).hexdigest() == digest
    eventually(lambda: not client.queue()["waiting"], "nobody waits")
    eventually(lambda: client.queue()["limits"][f"tool {tool}"]["running"] == 0, "every permit came back")
    few = CALLS // 20 if tool == "sealed" else 0
    eventually(lambda: len(list(folder.iterdir())) <= few, "no file is left")
    assert sum(counts.values()) == CALLS


def one(client: Client, tool: str, key: int, dice: random.Random, folder: Path) -> str:
    """A call that is ended after some milliseconds, one way or the other; what it ended in."""
    arguments = {"key": key, "size": SIZE, "folder": str(folder)}
    pause = dice.expovariate(1 / 0.012)
    if dice.random() < 0.5:
        error = client.submit(tool, arguments, timeout=0.0005 + pause).exception()
    else:
        handle = client.submit(tool, arguments)
        try:
            handle.result(pause)
        except TimeoutError:
            handle.cancel()
        error = handle.exception()
    assert error is None or isinstance(error, Cancelled | Expired), error
    return "" if error is None else error.code


@pytest.mark.parametrize("tool", ["sealed", "async_sealed"])
def test_calls_that_end_at_random_moments(node: Node, tmp_path: Path, tool: str) -> None:
    dice = random.Random(f"{tool} 1")
    with node.client() as client:
        counts = Counter(one(client, tool, key, dice, tmp_path) for key in range(CALLS))
        check(client, tool, tmp_path, counts)
        assert min(counts[""], counts["EXPIRED"], counts["CANCELLED"]) > 0, counts
        assert counts["EXPIRED"] + counts["CANCELLED"] > CALLS / 5, counts
    node.until_whole(4)
    for worker in node.status()["workers"]:
        assert psutil.Process(worker["pid"]).num_fds() < 60


@pytest.mark.parametrize("tool", ["sealed", "async_sealed"])
def test_workers_that_are_killed_at_random_moments(node: Node, tmp_path: Path, tool: str) -> None:
    """In the middle of a run, of a cache's writing, or between."""
    dice = random.Random(f"{tool} 2")
    with node.client() as client:
        counts = Counter[str]()
        handles = []
        for n in range(CALLS):
            arguments = {"key": n, "size": SIZE, "folder": str(tmp_path)}
            handles.append(client.submit(tool, arguments))
            if n % 10 == 9:
                kit.kill_one(dice.choice(eventually(node.workers, "somebody is there")))
        for handle in handles:
            error = handle.exception()
            assert error is None or error.code == "POISONED", error
            assert not isinstance(error, OutcomeUnknown)
            counts["" if error is None else error.code] += 1
        for path in tmp_path.iterdir():
            path.unlink()  # of those that were killed
        check(client, tool, tmp_path, counts)

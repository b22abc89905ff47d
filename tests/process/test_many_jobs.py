"""Many jobs while workers are killed: every call is answered, rightly, and at most one run of what may not be repeated.

The ledger is a file outside of the product: each run of ``note`` appends its number.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, eventually, kill_one, lines
from toolring import Client
from toolring.errors import OutcomeUnknown, ToolError, ToolringError

THREADS = 8


class Score:
    """What became of each job, by number."""

    def __init__(self) -> None:
        self.noted: set[int] = set()
        self.unknown: set[int] = set()
        self.wrong: list[Any] = []
        self.answered = 0
        self._mutex = threading.Lock()

    def settle(self, kind: str, number: int, outcome: Any) -> None:
        with self._mutex:
            self.answered += 1
            if kind == "note" and outcome == number:
                self.noted.add(number)
            elif kind == "note" and isinstance(outcome, OutcomeUnknown):
                self.unknown.add(number)
            elif kind == "fail":
                if type(outcome) is not ToolError or f"number {number}" not in str(outcome):
                    self.wrong.append((kind, number, outcome))
            elif outcome != {"echo": number, "nap": number, "square": (number % 50) ** 2}.get(kind):
                self.wrong.append((kind, number, outcome))

    def check(self, ledger: Path) -> None:
        assert self.wrong == []
        written = Counter(int(line) for line in lines(ledger))
        assert {n: times for n, times in written.items() if times > 1} == {}, "ran more than once"
        assert self.noted <= set(written), "answered, but never run"
        assert set(written) <= self.noted | self.unknown


def _arguments(kind: str, number: int, rng: random.Random, ledger: Path) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {
        "note": {"path": str(ledger), "number": number},
        "nap": {"seconds": rng.uniform(0.005, 0.02), "x": number},
        "square": {"x": number % 50},
        "echo": {"x": number},
        "fail": {"message": f"number {number}"},
    }
    return arguments[kind]


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ToolringError as error:
        return error


def _calls(client: Client, numbers: range, ledger: Path, score: Score) -> None:
    """One thread's jobs: some called one by one, most submitted in windows."""
    rng = random.Random(numbers.start)
    kinds = rng.choices(("note", "echo", "square", "nap", "fail"), (35, 35, 20, 6, 4), k=len(numbers))
    window = []
    for number, kind in zip(numbers, kinds, strict=True):
        arguments = _arguments(kind, number, rng, ledger)
        if rng.random() < 0.1:
            score.settle(kind, number, _outcome(partial(client.call, kind, arguments)))
            continue
        window.append((kind, number, client.submit(kind, arguments)))
        if len(window) == 64:
            for each, n, handle in window:
                score.settle(each, n, _outcome(handle.result))
            window = []
    for each, n, handle in window:
        score.settle(each, n, _outcome(handle.result))


def _assassin(node: Node, stop: threading.Event, rng: random.Random) -> int:
    killed = 0
    with node.client() as client:
        while not stop.wait(rng.uniform(0.1, 0.4)):
            ready = [w["pid"] for w in client.status()["workers"] if w["state"] in ("ready", "busy")]
            if ready:
                kill_one(rng.choice(ready))
                killed += 1
    return killed


def test_ten_thousand_mixed_jobs_while_workers_are_killed(node: Node, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    score = Score()
    stop = threading.Event()
    assassin = Background(lambda: _assassin(node, stop, random.Random(1)))
    each = 10_000 // THREADS
    with node.client() as one, node.client() as two:
        threads = [
            Background(partial(_calls, (one, two)[n % 2], range(n * each, (n + 1) * each), ledger, score))
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.result(120)
    stop.set()
    killed = assassin.result()
    assert score.answered == THREADS * each
    score.check(ledger)
    assert killed >= 3
    assert len(score.unknown) <= killed, "one death, one unknown outcome at most"
    assert node.status()["state"] == "healthy"


def test_random_kills_of_several_workers(tmp_path: Path) -> None:
    """Four workers on whatever cores there are, killed two at a time."""
    ledger = tmp_path / "ledger"
    score = Score()
    stop = threading.Event()
    rng = random.Random(3)

    def pairs() -> int:
        killed = 0
        with node.client() as client:
            while not stop.wait(rng.uniform(0.05, 0.2)):
                ready = [w["pid"] for w in client.status()["workers"] if w["state"] in ("ready", "busy")]
                for pid in rng.sample(ready, min(2, len(ready))):
                    kill_one(pid)
                    killed += 1
        return killed

    with kit.running(workers=4) as node, node.client() as client:
        assassin = Background(pairs)
        for first in range(0, 4000, 400):
            handles = {n: client.submit("note", {"path": str(ledger), "number": n}) for n in range(first, first + 400)}
            for n, handle in handles.items():
                score.settle("note", n, _outcome(handle.result))
        stop.set()
        killed = assassin.result()
        score.check(ledger)
        assert len(score.unknown) <= killed
        node.until_whole(4)


# ---- taking back


def test_jobs_behind_a_long_one_are_taken_back(node: Node, client: Client, tmp_path: Path) -> None:
    """``note`` was quick so far, so a long one is mis-estimated and many are sent behind it."""
    ledger = tmp_path / "ledger"
    for _ in range(500):
        client.call("note", {"path": "/dev/null", "number": 0})
    client.call("gate_once", {"path": _open(tmp_path / "g0")})  # make the gate known as quick, too
    for n in range(30):
        client.call("gate_once", {"path": _open(tmp_path / f"g{n}")})
    gate = client.submit("gate_once", {"path": str(tmp_path / "gate")})
    notes = [client.submit("note", {"path": str(ledger), "number": n}) for n in range(2000)]
    assert [note.result() for note in notes] == list(range(2000))  # although the gate is still closed
    assert not gate.done()
    (tmp_path / "gate.open").touch()
    assert gate.result()["attempt"] == 1
    assert sorted(int(line) for line in lines(ledger)) == list(range(2000))


def _open(path: Path) -> str:
    Path(f"{path}.open").touch()
    return str(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_runs_twice_under_random_recalls(node: Node, client: Client, tmp_path: Path, seed: int) -> None:
    """Now and then one job is a hundred times longer than its tool's average; the rest moves over, each run once."""
    ledger = tmp_path / "ledger"
    rng = random.Random(seed)
    handles = {}
    for n in range(3000):
        seconds = rng.uniform(0.02, 0.06) if rng.random() < 0.01 else 0.0
        handles[n] = client.submit("note", {"path": str(ledger), "number": n, "seconds": seconds})
        if n % 300 == 299:
            for number, handle in handles.items():
                assert handle.result() == number
            handles = {}
    assert sorted(int(line) for line in lines(ledger)) == list(range(3000))


def test_everything_at_once_is_answered(node: Node, client: Client) -> None:
    """More than any line holds, in one go."""
    handles = [client.submit("echo", {"x": n}) for n in range(9000)]
    assert [handle.result() for handle in handles] == list(range(9000))
    eventually(lambda: node.status()["jobs"]["running"] == 0)

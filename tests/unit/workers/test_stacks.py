"""The stacks of this very process."""

from __future__ import annotations

import sys
import threading

from toolring.workers.stacks import DEEPEST, threads


def outer() -> list[str]:
    return inner()


def inner() -> list[str]:
    told = threads(sys._getframe(), {outer.__code__})
    return [frame["function"] for frame in told[0]["frames"]]


def test_what_called_a_root_is_not_told() -> None:
    assert outer() == ["inner", "outer"]


def test_other_threads_are_told_by_name() -> None:
    go, there = threading.Event(), threading.Event()

    def wait_here() -> None:
        there.set()
        go.wait()

    thread = threading.Thread(target=wait_here, name="waits")
    thread.start()
    try:
        assert there.wait(20)
        told = {one["name"]: one["frames"] for one in threads(None, ())}
    finally:
        go.set()
        thread.join()
    assert told["MainThread"] == []
    found = [frame for frame in told["waits"] if frame["function"].endswith("wait_here")]
    assert found[0]["file"] == __file__


def test_a_stack_without_end_is_cut() -> None:
    def dig(left: int) -> int:
        return dig(left - 1) if left else len(threads(sys._getframe(), ())[0]["frames"])

    assert dig(DEEPEST + 50) == DEEPEST

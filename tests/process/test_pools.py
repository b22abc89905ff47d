"""Pools where processes fork, and where a signal interrupts the main thread at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.process.kit import eventually
from toolring.workers.pools.buffers import BufferPool
from toolring.workers.pools.objects import ObjectPool
from toolring.workers.pools.pool import Pool

ROUNDS = 1500


# ---- a child leaves alone what is its parent's


def in_child(work: Callable[[], Any]) -> Any:
    """What it gives in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as end:
        found = end.read()
    os.waitpid(pid, 0)
    return json.loads(found)


def test_a_child_starts_with_an_empty_pool_and_tears_down_nothing_of_its_parents() -> None:
    torn: list[tuple[int, int]] = []
    reset: list[int] = []

    def connection() -> Iterator[int]:
        mine = os.getpid()
        try:
            yield mine
        finally:
            torn.append((mine, os.getpid()))

    pool: Pool[int] = Pool(connection, max=2, reset=lambda _: reset.append(os.getpid()))
    idle = pool.acquire()
    idle.take()

    def child() -> Any:
        before = pool.stats()["total"]
        with pool.acquire() as found:
            own = found == os.getpid()
        held.give()
        pool.close()
        return [before, own, [mine == by for mine, by in torn], len(reset)]

    with pool.acquire() as parents:
        held = pool.acquire()
        idle.give()
        held.take()
        assert in_child(child) == [0, True, [True], 2]
        assert parents == os.getpid()
    held.give()
    assert pool.close() == []
    assert torn == [(os.getpid(), os.getpid())] * 2


def test_a_lock_that_another_thread_held_is_free_in_the_child() -> None:
    pool, objects, buffers = Pool(object), ObjectPool(object), BufferPool()
    locked, go = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock, objects._lock, buffers._lock:
            locked.set()
            go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(20)

    def child() -> bool:
        with pool.acquire(), objects.acquire(), buffers.acquire(10) as view:
            return not any(view)

    assert in_child(child) is True
    go.set()
    thread.join()


def test_a_closed_pool_is_closed_in_the_child_too() -> None:
    pool = Pool(object)
    pool.close()

    def child() -> str:
        try:
            with pool.acquire():
                return ""
        except Exception as error:
            return type(error).__name__

    assert in_child(child) == "PoolClosed"


# ---- a process ends although a pool is open


def test_a_pool_keeps_no_process_alive(tmp_path: Path) -> None:
    code = """
import threading
from toolring import Pool
pool = Pool(lambda: threading.Event().wait(), name="hung")
try:
    pool.acquire(timeout=0.05).take()
except Exception as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("POOL_TIMEOUT\n", "")


# ---- interrupts


class Struck(BaseException):
    pass


@pytest.fixture
def strike() -> Iterator[Callable[[float], None]]:
    """Have Struck raised in this thread after so many seconds, wherever it is then, and again until it is called off
    (0): what is raised in a callback of the interpreter's is lost."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        error = sys.exc_info()[1]
        while error is not None:
            if isinstance(error, Struck):
                return  # as the worker's own: no interrupt breaks into the cleanup of another
            error = error.__context__
        raise Struck

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds, 0.02 if seconds else 0.0) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def storm(strike: Callable[[float], None], step: Callable[[], None], rounds: int = ROUNDS) -> int:
    """Run the step over and over, interrupted at random moments; how often."""
    dice, struck = random.Random(1), 0
    for _ in range(rounds):
        try:
            strike(dice.uniform(20e-6, 200e-6))
            while True:
                step()
        except Struck:
            strike(0.0)
            struck += 1
    return struck


class Resource:
    def __init__(self) -> None:
        self.holder: int | None = None
        self.alive = True


class Watched:
    """A pool whose resources know when two have them, or one after its teardown."""

    def __init__(self, **more: Any) -> None:
        self.faults: list[str] = []
        self.born: list[Resource] = []
        self.pool: Pool[Resource] = Pool(self.make, destroy=self.destroy, acquire_timeout=20.0, **more)

    def make(self) -> Resource:
        self.born.append(Resource())
        return self.born[-1]

    def destroy(self, one: Resource) -> None:
        if not one.alive:
            self.faults.append("torn down twice")
        one.alive = False

    def use(self) -> None:
        with self.pool.acquire() as one:
            if not one.alive:
                self.faults.append("used after its teardown")
            if one.holder is not None and one.holder != threading.get_ident():
                self.faults.append("two have it")
            one.holder = threading.get_ident()
            one.holder = None

    def check(self) -> None:
        eventually(lambda: self.pool.stats()["active"] == 0, "everything came back")
        assert self.pool.stats()["waiting"] == 0
        eventually(lambda: not (self.pool.stats()["closing"] or self.pool.stats()["creating"]), "all is done")
        stats = self.pool.stats()
        assert stats["total"] == stats["idle"] == stats["created"] - stats["destroyed"]
        assert stats["created"] == len(self.born)
        assert stats["total"] == sum(one.alive for one in self.born)
        self.use()
        assert self.pool.close(20.0) == []
        assert not any(one.alive for one in self.born)
        assert self.faults == []


def test_interrupts_lose_nothing_and_give_nothing_twice(strike: Callable[[float], None]) -> None:
    watched = Watched(max=2)
    assert storm(strike, watched.use) == ROUNDS
    watched.check()


@pytest.mark.parametrize("more", [{}, {"reset": lambda _: None}, {"max_uses": 3}, {"validate": lambda _: True}])
def test_interrupts_beside_other_threads(strike: Callable[[float], None], more: dict[str, Any]) -> None:
    """Which wait for the same resources, so that hand-overs are interrupted, too."""
    if "validate" in more:
        more = {**more, "validate_after": 0.0}
    watched, over = Watched(max=2, **more), threading.Event()

    def work() -> None:
        while not over.is_set():
            watched.use()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert storm(strike, watched.use, 500) == 500
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    watched.check()


def test_what_an_interrupt_has_cut_short_is_not_used_again(strike: Callable[[float], None]) -> None:
    watched, used = Watched(max=1), list[Resource]()

    def hold() -> None:
        with watched.pool.acquire() as one:
            used.append(one)
            while True:
                pass

    assert storm(strike, hold, 300) == 300
    assert len(used) == len(set(used)) > 0
    watched.check()


def test_interrupts_of_objects_and_buffers(strike: Callable[[float], None]) -> None:
    objects, buffers, faults = ObjectPool[list[int]](list), BufferPool(), list[str]()

    def use() -> None:
        with objects.acquire() as own, buffers.acquire(100) as view:
            if own or any(view):
                faults.append("not clean")
            view[:] = b"x" * 100

    assert storm(strike, use) == ROUNDS
    assert faults == []
    assert not objects._lock.locked()
    assert not buffers._lock.locked()
    stats = buffers.stats()
    assert stats["bytes"] == 4096 * stats["idle"]

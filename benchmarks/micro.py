"""Single parts without I/O: nanoseconds an operation, median [min-max] of several rounds.

python -m benchmarks.micro
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from msgspec import Raw

from benchmarks import measure
from toolring import protocol
from toolring.lane import LANE_BYTES, Lane
from toolring.plugins.caches.lru import LRU
from toolring.policy.groups import Group
from toolring.policy.ring import Ring, hash64
from toolring.protocol import OK, PACK, Answer, Done, Job, Submit
from toolring.spec import ToolSpec
from toolring.stamps import BYTES, Stamps
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.core import Core, Limits
from toolring.supervisor.fleet import Change, Fleet
from toolring.supervisor.ledger import Session
from toolring.workers.cache.base import Cache

ROUNDS = 7
JOBS = 8192


def bench(title: str, operations: int, run: Callable[[], object]) -> None:
    """``run`` does ``operations`` of them; once before the clock starts."""
    run()
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        run()
        found.append((time.perf_counter_ns() - began) / operations)
    print(f"{title:58s} {median(found):9,.0f} [{min(found):,.0f}-{max(found):,.0f}] ns", flush=True)


def ring() -> None:
    nodes = [f"node-{number}" for number in range(100)]
    made = Ring(nodes)
    keys = [text.encode() for text in measure.texts(10_000)]
    points = [hash64(key) for key in keys]

    def find() -> None:
        for point in points:
            made.find(point)

    def hash_and_find() -> None:
        for key in keys:
            made.find(hash64(key))

    def prefer() -> None:
        for point in points:
            made.preference(point, 3)

    bench("ring of 100 nodes: find", len(points), find)
    bench("ring of 100 nodes: hash a key of 100 bytes and find", len(keys), hash_and_find)
    bench("ring of 100 nodes: three in order of preference", len(points), prefer)
    bench("ring of 100 nodes: build", 1, lambda: Ring(nodes))


def cache() -> None:
    keys = [text.encode() for text in measure.texts(20_000)]
    value = b"x" * 100
    kept = Cache(LRU(10_000), 10_000, 64 << 20)
    small = keys[:10_000]

    def fill() -> None:
        for key in keys:
            kept.put(key, value, 60.0)

    def hit() -> None:
        for key in small:
            kept.get(key)

    def again() -> None:
        for key in small:
            kept.put(key, value, 60.0)

    def miss() -> None:
        for key in small:
            kept.get(key + b"?")

    bench("LRU cache of 10,000: put, evicting", len(keys), fill)
    again()
    bench("LRU cache of 10,000: get, a hit", len(small), hit)
    bench("LRU cache of 10,000: put over an old value", len(small), again)
    bench("LRU cache of 10,000: get, a miss", len(small), miss)


class Driver:
    """A core with two workers that answer at once, from lanes that nobody else maps."""

    def __init__(self) -> None:
        lanes = [Lane(mmap.mmap(-1, LANE_BYTES), 0) for _ in range(2)]
        fleet = Fleet([Group("default", 2)], lanes)
        tool = ServedTool(ToolSpec(name="echo", description="", parameters={}), None)
        tool.observe(10)
        self.core = Core({"echo": tool}, fleet, Limits(), Stamps(bytearray(BYTES)))
        self.session = Session(b"s" * 16, b"route", "")
        self.core.sessions[self.session.token] = self.session
        for slot in fleet.slots:
            worker = fleet.hire(slot, 0.0)
            assert worker is not None
            fleet.change(worker, Change.READY)
        self._next = 0

    def jobs(self, count: int) -> list[Job]:
        self._next += count
        args = Raw(protocol.encode({"text": "x" * 100}))
        return [Job(number, "echo", args) for number in range(self._next - count, self._next)]

    def turn(self, jobs: list[Job]) -> None:
        """What a turn of the loop asks of the core, for these jobs, until all are answered."""
        core = self.core
        core.door.submit(self.session, jobs, 1.0)
        left = len(jobs)
        while left:
            core.placing.dispatch(1.0)
            sends = core.sends.copy()
            core.sends.clear()
            for send in sends:
                answers = [Answer(send.first + place, OK, protocol.NIL, 10) for place in range(len(send.work))]
                core.returns.answers(send.worker, answers, 1.0)
                left -= len(answers)
        self.session.out.clear()
        core.dirty.clear()

    def run(self, pack: int) -> None:
        for _ in range(JOBS // pack):
            self.turn(self.jobs(pack))


def core() -> None:
    for pack in (1, PACK):
        driver = Driver()
        bench(f"supervisor's core, a job, {pack} at once", JOBS, partial(driver.run, pack))


def codec() -> None:
    jobs = Driver().jobs(PACK)
    submitted = protocol.encode(Submit(jobs))
    answered = protocol.encode(Done([Answer(n, OK, jobs[0].args, 10) for n in range(PACK)]))
    rounds = range(500)

    def submit() -> None:
        for _ in rounds:
            protocol.refuse_jobs(protocol.decode_from_client(submitted).jobs)  # type: ignore[union-attr]

    def answer() -> None:
        for _ in rounds:
            message = protocol.decode_from_worker(answered)
            assert isinstance(message, Done)
            protocol.encode(protocol.Answers(message.answers))

    bench(f"decode and check a submission, a job of {PACK}", len(rounds) * PACK, submit)
    bench(f"decode and encode answers, an answer of {PACK}", len(rounds) * PACK, answer)


if __name__ == "__main__":
    ring()
    cache()
    core()
    codec()

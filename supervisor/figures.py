"""What is counted of jobs: by tool and group, by worker, and of those refused at the door.

A worker's plain answers are the hot path. Of each only what is known anyway is put down, in a row; rows are counted
later, many together, which costs a fraction of counting them one by one (``rows.py``): when there are many, after half
a second, and when somebody looks. Everything else that ends jobs is rarer, and counted at once.

Figures go by names, not by records: a reload takes no count away, and a tool that comes back goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from toolring.errors import ToolError
from toolring.policy.series import Series, Tally
from toolring.protocol import CACHED, ERROR, LAYER_SHIFT, Answer
from toolring.supervisor.ledger import Entry, State
from toolring.supervisor.measured import Measured
from toolring.supervisor.rows import FULL, Rows

if TYPE_CHECKING:
    from toolring.supervisor.catalogue import ServedTool
    from toolring.supervisor.fleet import Worker

MOST_TOOLS: Final = 5_000
"""Tools, each counted in so many groups as it was in; what comes beyond is counted together, as OTHER."""
OTHER: Final = "(other)"
WAIT_SECONDS: Final = 0.5
"""For so long at most a row waits to be counted."""
FOLDS: Final = 32
"""Sets of rows that are counted in one go: about half a millisecond."""


class Of(NamedTuple):
    """A tool in a group."""

    tool: str
    group: str


class _Coded(msgspec.Struct):
    code: str = ToolError.code


_code_of = msgspec.msgpack.Decoder(_Coded).decode


class Figures:
    """The counts of one core. Times are seconds of the monotonic clock."""

    def __init__(self, now: float, most: int = MOST_TOOLS) -> None:
        self.tools: dict[Of, Series] = {}
        self.workers: dict[int, Series] = {}
        """By the slots' numbers."""
        self.door = Series(now)
        """Its errors are the refusals."""
        self.exits: dict[tuple[str, str], int] = {}
        """Ends of workers: by what each was doing (starting, ready, retiring, ending), and how its process ended."""
        self.deaths = 0
        """Those of them that nobody had asked for."""
        self.measured = Measured()
        self.passed_over = 0
        """Series that the cap left out."""
        self._began = now
        """Rates of a name that came later are of the same time as the others'."""
        self.now = now
        """When the core was last looked at."""
        self._most = most
        self._rows: dict[tuple[Worker, ServedTool], Rows] = {}

    # ---- what is counted; rows are the hot path

    def rows(self, worker: Worker, tool: ServedTool, now: float) -> Rows:
        """Where to put down plain answers of one message."""
        key = (worker, tool)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = Rows(now)
        elif len(rows.runs) >= FULL:
            rows.count()
        rows.until = now
        return rows

    def held(self, tool: ServedTool, bytes_in: int, bytes_out: int, now: float) -> None:
        """The supervisor itself held the result."""
        tally = self._of(tool).at(now)
        tally.jobs += 1
        tally.operations += 1
        tally.hits[0] = tally.hits.get(0, 0) + 1
        tally.bytes_in += bytes_in
        tally.bytes_out += bytes_out
        tally.response.record(0)

    def hit(self, tool: ServedTool, flags: int, now: float) -> None:
        """A plain answer may have come from a cache."""
        if flags & CACHED:
            _hit(self._of(tool).at(now), flags)

    def ran(self, entry: Entry, worker: Worker, answer: Answer, now: float) -> None:
        """A worker has run something, for whomever, and however that came out."""
        away = int((now - entry.sent) * 1e6)
        by_worker = self._run(entry, worker, answer.run_us, away - answer.run_us, now)
        by_worker.bytes_in += len(entry.args)
        by_worker.bytes_out += len(answer.value)
        _failed(by_worker, entry, answer)

    def cut(self, entry: Entry, worker: Worker, code: str, lost: bool, now: float) -> None:
        """A run did not come to its end: it was ended, or ``lost`` with its worker. It began, as far as is known, when
        that had answered what it held before."""
        began = entry.sent if worker.many else max(entry.sent, min(worker.progress, now))
        run, overhead = int((now - began) * 1e6), int((began - entry.sent) * 1e6)
        by_worker = self._run(entry, worker, run, overhead, now)
        by_worker.errors[code] = by_worker.errors.get(code, 0) + (entry.chunk or 1)
        if lost:
            for tally in (by_worker, self._of(entry.tool).at(now)):
                tally.lost += 1

    def _run(self, entry: Entry, worker: Worker, run: int, overhead: int, now: float) -> Tally:
        """One more run, of its tool and of its worker, with what those waited for whom it was. Microseconds."""
        waited = []
        for one in entry.company:
            waited.append(int((entry.sent - one.waits_since) * 1e6))
            one.waited = True
        by_tool, by_worker = self._of(entry.tool).at(now), self._by(worker).at(now)
        for tally in (by_tool, by_worker):
            for micros in waited:
                tally.queue.record(micros)
            tally.run.record(run)
            tally.overhead.record(overhead)
        by_worker.jobs += 1  # of a tool the answers are counted, of a worker its runs
        by_worker.operations += entry.chunk or 1
        return by_worker

    def waited(self, entry: Entry, now: float) -> None:
        """A job ended before it ran, or while it waited to run again. What travels with others waits as each of
        them."""
        if entry.waited or entry.members is not None:
            return
        carrier = entry.carrier
        end = carrier.sent if carrier is not None and carrier.state is State.DISPATCHED else now
        self._of(entry.tool).at(now).queue.record(int((end - entry.waits_since) * 1e6))

    def told(self, entry: Entry, worker: Worker, size: int, now: float) -> None:
        """A part of a stream went to its caller."""
        for series in (self._of(entry.tool), self._by(worker)):
            series.at(now).bytes_out += size

    def ended(self, entry: Entry, answer: Answer, now: float) -> None:
        """A caller has its final answer, other than from the worker that ran just this job for it."""
        tally = self._of(entry.tool).at(now)
        tally.jobs += 1
        tally.operations += entry.chunk or 1
        tally.bytes_in += len(entry.args)
        tally.bytes_out += len(answer.value)
        tally.response.record(int((now - entry.accepted) * 1e6))
        _failed(tally, entry, answer)
        if answer.flags & CACHED:
            _hit(tally, answer.flags)

    def retried(self, entry: Entry, now: float) -> None:
        self._of(entry.tool).at(now).retried += 1

    def refused(self, code: str) -> None:
        tally = self.door.at(self.now)
        tally.errors[code] = tally.errors.get(code, 0) + 1

    def exited(self, worker: Worker, cause: str, unasked: bool) -> None:
        key = (worker.life.name.lower(), cause)
        self.exits[key] = self.exits.get(key, 0) + 1
        self.deaths += unasked

    # ---- rows into counts

    def fold_due(self, now: float) -> None:
        """Count what has waited long enough, of that so much as takes no time to speak of."""
        self.now = now
        due = now - WAIT_SECONDS
        chosen: list[tuple[Worker, ServedTool]] = []
        for key, rows in self._rows.items():
            if rows.since > due or len(chosen) == FOLDS:
                break  # the oldest come first
            chosen.append(key)
        for key in chosen:
            self._fold(key)

    def folding(self) -> Iterator[None]:
        """Count in steps what is there now, for who wants to know it; what comes meanwhile is for the next."""
        for key in list(self._rows):
            if key in self._rows:
                self._fold(key)
                yield

    def fold_all(self) -> None:
        """All that at once."""
        for _ in self.folding():
            pass

    def forget_workers(self, slots: Iterable[int]) -> None:
        """There are only these slots any more; their numbers never come again."""
        there = set(slots)
        self.measured.forget_workers(there)
        for slot in self.workers.keys() - there:
            del self.workers[slot]

    def _fold(self, key: tuple[Worker, ServedTool]) -> None:
        worker, tool = key
        rows = self._rows.pop(key)
        tally = rows.tally()
        self._of(tool).at(rows.until).add(tally)
        self._by(worker).at(rows.until).add(tally)

    # ---- of whom

    def _of(self, tool: ServedTool) -> Series:
        key = Of(tool.name, tool.group.name)
        found = self.tools.get(key)
        if found is None:
            if len(self.tools) >= self._most:
                self.passed_over += 1
                key = Of(OTHER, OTHER)
            found = self.tools.get(key)
            if found is None:
                found = self.tools[key] = Series(self._began)
        return found

    def _by(self, worker: Worker) -> Series:
        found = self.workers.get(worker.slot.index)
        if found is None:
            found = self.workers[worker.slot.index] = Series(self._began)
        return found


def _hit(tally: Tally, flags: int) -> None:
    layer = flags >> LAYER_SHIFT
    tally.hits[layer] = tally.hits.get(layer, 0) + 1


def _failed(tally: Tally, entry: Entry, answer: Answer) -> None:
    """Calls that failed: a job, or all of a chunk, or some of it."""
    if answer.failed:
        for code, count in answer.failed.items():
            tally.errors[code] = tally.errors.get(code, 0) + count
    elif answer.status == ERROR:
        try:
            code = _code_of(answer.value).code
        except (msgspec.DecodeError, RecursionError):
            code = ToolError.code
        tally.errors[code] = tally.errors.get(code, 0) + (entry.chunk or 1)

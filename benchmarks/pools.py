"""Pools: what taking and giving back costs, beside SQLAlchemy's and psycopg's, and buffers beside fresh memory.

python -m benchmarks.pools                                      the tables
python -m benchmarks.pools --docs docs/pool-benchmarks.md       and write the page
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import Any, Final

import psycopg_pool
from psycopg.pq import TransactionStatus
from sqlalchemy.pool import QueuePool

from benchmarks import report
from toolring import AsyncPool, BufferPool, ObjectPool, Pool

CALLS: Final = 20_000
SIZES: Final = {f"{size // 1024:,} kB": size for size in (2**12, 2**16, 2**20, 2**24, 2**26)}


class Fake:
    """A connection to nowhere, with what the pools look at."""

    def __init__(self) -> None:
        self.pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self.closed = False
        self._pool: Any = None

    @classmethod
    def connect(cls, *_: Any, **__: Any) -> Fake:
        return cls()

    def close(self) -> None:
        self.closed = True

    def commit(self) -> None:
        pass

    rollback = commit

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class AsyncFake(Fake):
    @classmethod
    async def connect(cls, *_: Any, **__: Any) -> AsyncFake:  # type: ignore[override]
        return cls()

    async def close(self) -> None:  # type: ignore[override]
        self.closed = True

    async def commit(self) -> None:  # type: ignore[override]
        pass

    rollback = commit  # type: ignore[assignment]

    async def __aenter__(self) -> AsyncFake:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


Use = Callable[[int, float | None], Any]
"""Take one, sleep for so long, if at all, and give it back; so many times."""


def ours(pool: Any) -> Use:
    def use(times: int, pause: float | None = None) -> None:
        acquire = pool.acquire
        for _ in range(times):
            with acquire():
                if pause is not None:
                    sleep(pause)

    return use


def sqlalchemys(pool: QueuePool) -> Use:
    def use(times: int, pause: float | None = None) -> None:
        for _ in range(times):
            connection = pool.connect()
            if pause is not None:
                sleep(pause)
            connection.close()

    return use


def psycopgs(pool: psycopg_pool.ConnectionPool[Any]) -> Use:
    def use(times: int, pause: float | None = None) -> None:
        for _ in range(times):
            with pool.connection():
                if pause is not None:
                    sleep(pause)

    return use


def psycopgs_bare(pool: psycopg_pool.ConnectionPool[Any]) -> Use:
    def use(times: int, pause: float | None = None) -> None:
        for _ in range(times):
            connection = pool.getconn()
            if pause is not None:
                sleep(pause)
            pool.putconn(connection)

    return use


def alone(use: Use) -> float:
    """Microseconds of one turn."""
    began = perf_counter()
    use(CALLS, None)
    return (perf_counter() - began) / CALLS * 1e6


def together(use: Use) -> float:
    """The same, of eight threads, each of which lets go of the interpreter while it has one."""
    threads = [threading.Thread(target=use, args=(CALLS // 64, 0.0)) for _ in range(8)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (perf_counter() - began) / (CALLS // 8) * 1e6


def table(title: str, found: dict[str, list[float]]) -> list[list[str]]:
    """The first row is ours; the ratios are of figures of the same round."""
    own = next(iter(found.values()))
    rows = [[title, "µs", "÷ toolring's"]]
    for name, spent in found.items():
        ratios = [one / mine for one, mine in zip(spent, own, strict=True)]
        rows.append([name, report.spread(spent), report.spread(ratios)])
    return rows


def rounds_of(uses: dict[str, Use], measure: Callable[[Use], float], rounds: int) -> dict[str, list[float]]:
    for use in uses.values():
        use(100, None)
    found: dict[str, list[float]] = {name: [] for name in uses}
    for _ in range(rounds):
        for name, use in uses.items():
            found[name].append(measure(use))
    return found


def threads(rounds: int) -> tuple[list[list[str]], list[list[str]]]:
    """One thread and an idle resource; eight threads and two resources."""
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(Fake, max=2, acquire_timeout=60.0))
        checked = stack.enter_context(Pool(Fake, max=2, validate=lambda _: True, reset=Fake.rollback))
        make: Any = Fake
        theirs = QueuePool(make, pool_size=2, max_overflow=0, timeout=60.0, reset_on_return=None)
        other: psycopg_pool.ConnectionPool[Any] = psycopg_pool.ConnectionPool(
            "",
            connection_class=Fake,
            min_size=2,
            max_size=2,
            timeout=60.0,
            open=True,
        )
        stack.enter_context(other)
        other.wait()
        uses = {
            "toolring's Pool": ours(pool),
            "the same with validate and reset": ours(checked),
            "SQLAlchemy's QueuePool, without its reset": sqlalchemys(theirs),
            "psycopg_pool, `with pool.connection()`": psycopgs(other),
            "psycopg_pool, getconn and putconn": psycopgs_bare(other),
        }
        one = rounds_of(uses, alone, rounds)
        del uses["the same with validate and reset"]
        return table("one thread", one), table("eight threads, two resources", rounds_of(uses, together, rounds))


async def tasks(rounds: int) -> list[list[str]]:
    other: psycopg_pool.AsyncConnectionPool[Any] = psycopg_pool.AsyncConnectionPool(
        "",
        connection_class=AsyncFake,
        min_size=2,
        max_size=2,
        open=False,
    )
    await other.open(wait=True)

    async def use(pool: AsyncPool[Fake]) -> None:
        for _ in range(CALLS):
            async with pool.acquire():
                pass

    async def use_other() -> None:
        for _ in range(CALLS):
            async with other.connection():
                pass

    async with AsyncPool(Fake, max=2) as pool:
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "toolring's AsyncPool": lambda: use(pool),
            "psycopg_pool's AsyncConnectionPool": use_other,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = perf_counter()
                await way()
                found[name].append((perf_counter() - began) / CALLS * 1e6)
    await other.close()
    return table("one task", found)


def memory(rounds: int) -> list[list[str]]:
    """Buffers of the pool, filled or not, beside fresh ones: one at a time, and four held at once."""
    rows = [
        ["µs", "BufferPool", "bytearray(n)", "÷ BufferPool's", "four: BufferPool", "bytearray(n)", "÷ BufferPool's"]
    ]
    for title, size in SIZES.items():
        pool, full = BufferPool(max_bytes=4 * size), b"x" * size
        times = max(2, min(5000, 2**27 // size))

        def pooled(count: int, pool: BufferPool = pool, size: int = size, full: bytes = full) -> None:
            with ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(pool.acquire(size))[:] = full

        def fresh(count: int, size: int = size, full: bytes = full) -> None:
            kept = []
            for _ in range(count):
                view = memoryview(bytearray(size))
                view[:] = full
                kept.append(view)

        cells = [title]
        for count in (1, 4):
            spent: dict[Any, list[float]] = {pooled: [], fresh: []}
            pooled(count)
            for _ in range(rounds):
                for way, found in spent.items():
                    began = perf_counter()
                    for _ in range(max(1, times // count)):
                        way(count)
                    found.append((perf_counter() - began) / max(1, times // count) / count * 1e6)
            ratios = [one / own for own, one in zip(spent[pooled], spent[fresh], strict=True)]
            cells += [report.spread(spent[pooled]), report.spread(spent[fresh]), report.spread(ratios)]
        rows.append(cells)
    return rows


class Costly:
    """Something that takes about 20 µs to make."""

    def __init__(self) -> None:
        self.parts = {number: [number] for number in range(256)}


def objects(rounds: int) -> list[list[str]]:
    def make(times: int, _: float | None) -> None:
        for _ in range(times):
            Costly()

    pool = ObjectPool(Costly, reset=lambda _: None)
    uses = {"toolring's ObjectPool, with a reset": ours(pool), "made anew": make}
    return table("an object", rounds_of(uses, alone, rounds))


DOCUMENT = """\
# Pools

Written by `make bench-pools` on {date}. Median [least-most] over {rounds} rounds. {machine}; {versions}.

Within a round all take turns, and ratios are made within a round: another machine, or a busy one, moves all of them.

Targets, as medians of the ratios to toolring's time: on one thread QueuePool at least 2 and psycopg_pool at least 1.5;
a hand-over between threads at least 0.9 of QueuePool's; on one task psycopg_pool at least 2; an object made anew at
least 5; of four buffers of 16 MB in turn, fresh ones at least 3.

## Taking a resource and giving it back

Of an idle resource, that is. All pools hold the same connection to nowhere, which costs nothing itself. QueuePool's
rollback is turned off; the others do none, as no transaction is open.

{threads}

Below, who has one calls `sleep(0)`, so that nearly every turn is a hand-over from one thread to another.

{together}

{tasks}

## Objects

{objects}

## Buffers

Filled with n bytes each time. A buffer of the pool is zero when it is taken, as a fresh one is. Small ones are no
use; the C library gives back to the kernel what is larger than 32 MB, or was free at the end of its heap, and that is
where fresh memory is slow.

{memory}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    rounds = 1 if options.quick else 11
    alone_table, together_table = threads(rounds)
    tables = {
        "threads": alone_table,
        "together": together_table,
        "tasks": asyncio.run(tasks(rounds)),
        "objects": objects(rounds),
        "memory": memory(rounds),
    }
    for rows in tables.values():
        print(report.plain(rows), end="\n\n")
    if options.docs:
        options.docs.write_text(
            DOCUMENT.format(
                date=datetime.now(UTC).date().isoformat(),
                rounds=rounds,
                machine=report.machine(),
                versions=", ".join(f"{name} {version(name)}" for name in ("sqlalchemy", "psycopg-pool")),
                **{name: report.markdown(rows) for name, rows in tables.items()},
            )
        )


if __name__ == "__main__":
    main()

"""Measure what the queue is for: more work than can be done, a caller that wants it all, and many small calls.

python -m benchmarks.flow                                  all of it, about four minutes
python -m benchmarks.flow --quick
python -m benchmarks.flow --docs docs/flow-benchmarks.md   and write the page
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any

import psutil

from benchmarks import report
from benchmarks.caching import node
from toolring import Client, Handle
from toolring.errors import Busy, Expired

TIMEOUT = 2.0
CHUNK = 64
CALLS = 200_000


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def peak(client: Client, seconds: float) -> float:
    """Jobs/s with as many under way as keep both workers busy."""
    began = perf_counter()
    count = 0
    for _ in client.map("slow", _endless(lambda: perf_counter() - began > seconds), window=16):
        count += 1
    return count / (perf_counter() - began)


def _endless(enough: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    while not enough():
        yield {}


def overload(client: Client, rate: float, seconds: float) -> tuple[float, dict[str, int], int]:
    """Arrivals that don't wait for answers, each with a deadline: answers in time per second, what the rest heard, and
    the supervisor's memory in MiB at the end."""
    process = psutil.Process(client.status()["pid"])
    handles: list[Handle] = []
    began = monotonic()
    while (spent := monotonic() - began) < seconds:
        while len(handles) < spent * rate:
            handles.append(client.submit("slow", timeout=TIMEOUT))
        time.sleep(0.002)
    memory = process.memory_info().rss >> 20
    heard = {"in time": 0, "expired": 0, "busy": 0}
    for handle in handles:
        error = handle.exception()
        if error is None:
            heard["in time"] += 1
        else:
            heard["busy" if isinstance(error, Busy) else "expired"] += 1
            assert isinstance(error, Busy | Expired), error
    return heard["in time"] / (monotonic() - began), heard, memory


def lateness(client: Client, address: str, rate: float, seconds: float) -> list[float]:
    """Seconds from a deadline until its caller hears, while another caller sends twice what can be done."""
    stop = threading.Event()

    def press() -> None:
        with Client(address) as other:
            while not stop.wait(0.04):
                for _ in range(round(0.04 * rate)):
                    other.submit("slow", timeout=TIMEOUT)

    found: list[float] = []
    pressing = threading.Thread(target=press)
    pressing.start()
    time.sleep(TIMEOUT)
    end = monotonic() + seconds
    while monotonic() < end:
        asked = [(monotonic(), client.submit("slow", timeout=0.03)) for _ in range(6)]
        found += [monotonic() - at - 0.03 for at, handle in asked if isinstance(handle.exception(), Expired)]
    stop.set()
    pressing.join()
    return found


def modest(client: Client, rate: float, seconds: float) -> list[float]:
    """Seconds that each call takes, of arrivals by chance at this rate."""
    dice = random.Random(1)
    found: list[float] = []

    def one() -> None:
        began = monotonic()
        client.call("slow")
        found.append(monotonic() - began)

    threads = []
    due = monotonic()
    end = due + seconds
    while due < end:
        due += dice.expovariate(rate)
        time.sleep(max(0.0, due - monotonic()))
        threads.append(threading.Thread(target=one))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return found


def beside_a_glutton(client: Client, address: str, rate: float, seconds: float) -> list[float]:
    """The same, while another caller always has a thousand jobs in hand."""
    stop = threading.Event()

    def feed() -> None:
        with Client(address) as other:
            for _ in other.map("slow", _endless(stop.is_set), window=1000):
                pass

    feeding = threading.Thread(target=feed)
    feeding.start()
    time.sleep(0.5)
    found = modest(client, rate, seconds)
    stop.set()
    feeding.join()
    return found


def refusals(client: Client, seconds: float) -> list[float]:
    """Seconds until a caller hears BUSY that calls from more threads than the backlog has places for it."""
    end = monotonic() + seconds
    found: list[float] = []

    def press() -> None:
        while monotonic() < end:
            began = perf_counter()
            try:
                client.call("slow", timeout=TIMEOUT)
            except Busy:
                found.append(perf_counter() - began)
                time.sleep(0.1)
            except Expired:
                pass

    pressing = [threading.Thread(target=press) for _ in range(40)]
    for thread in pressing:
        thread.start()
    for thread in pressing:
        thread.join()
    return found


def retries(client: Client, calls: int) -> float:
    """Runs for each call of a tool that fails for everybody, and would be tried again three times."""
    before = client.status()["tools"]["down"]["retried"]
    began = perf_counter()
    for error in client.map("down", ({} for _ in range(calls)), errors="return"):
        assert error.code == "RETRY"
    spent = perf_counter() - began
    retried = client.status()["tools"]["down"]["retried"] - before
    return 1 + max(0.0, retried - spent - 20) / calls  # but for the floor: one a second, and what a pause has saved


def chunks(client: Client, rounds: int, calls: int) -> list[list[str]]:
    """Calls/s of a chunked map beside those of multiprocessing.Pool.imap with the same chunks."""
    arguments = [{"text": f"{number:0100d}"} for number in range(calls)]
    ours, theirs, alone = [], [], []
    with multiprocessing.Pool(2) as pool:
        for _ in range(rounds):
            ours.append(_rate(client.map("echo", arguments, chunk=CHUNK), calls))
            theirs.append(_rate(pool.imap(_text_of, arguments, chunksize=CHUNK), calls))
            alone.append(_rate(client.map("echo", arguments[: calls // 4]), calls // 4))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        ["", "calls/s", "÷ Pool.imap"],
        [f"map, chunk={CHUNK}", report.spread(ours), report.spread(ratios)],
        [f"multiprocessing.Pool.imap, chunksize={CHUNK}", report.spread(theirs), ""],
        ["map, one call a job", report.spread(alone), ""],
    ]


def _rate(results: Any, calls: int) -> float:
    began = perf_counter()
    assert sum(1 for _ in results) == calls
    return calls / (perf_counter() - began)


def _text_of(arguments: dict[str, str]) -> str:
    return arguments["text"]


DOCUMENT = """\
# Overload, fairness and batches

Written by `make bench-flow` on {date}. Median [least-most]. {machine}

Two workers, a tool that sleeps 20 ms, every setting as it comes. How the queue does it is in
[queue and limits](flow.md).

## More work than can be done, a caller that wants it all

Twice as many jobs as can be done arrive for {seconds:.0f} s, each with a deadline of 2 s. Goodput is answers in time
per second, beside the jobs/s of a client that keeps both workers busy. Then callers whose deadline is 30 ms, under the
same load. Then one whose calls arrive by chance at a tenth of what can be done: by itself, and beside one who always
has a thousand jobs in hand. Then, with a backlog of 40, how soon a refusal is heard by who calls from 40 threads; and
how often a tool is run that fails for everybody, beside the floor of one retry a second.

{flow}

## Many small calls

An echo of 100 bytes, both sides in turns.

{chunks}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, once")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args()
    seconds, rounds = (6.0, 1) if options.quick else (60.0, 3)
    with node(2) as client:
        many = chunks(client, 5 * rounds, CALLS // 10 if options.quick else CALLS)
    print(report.plain(many), end="\n\n")
    with node(2) as client:
        best = peak(client, seconds / 10)
        goodput, heard, memory = overload(client, 2 * best, seconds)
        late = lateness(client, client.address, 2 * best, seconds / 5)
        time.sleep(TIMEOUT)
        pairs = [
            (modest(client, best / 10, seconds / 4), beside_a_glutton(client, client.address, best / 10, seconds / 4))
            for _ in range(rounds)
        ]
    with node(2, TOOLRING_LIMITS_BACKLOG="40") as client:
        heard_busy = refusals(client, seconds / 5)
        busy = [quantile(heard_busy, share) * 1e3 for share in (0.5, 0.99)]
        runs = median(retries(client, 3000) for _ in range(rounds))
    tails = [(quantile(alone, 0.99), quantile(beside, 0.99)) for alone, beside in pairs]
    rows = [
        ["", "seen", "target"],
        ["goodput ÷ peak, at twice the capacity", f"{goodput / best:.2f}", "≥ 0.9"],
        ["in time, expired, busy", ", ".join(str(n) for n in heard.values()), ""],
        ["supervisor's memory at the end, MiB", str(memory), "bounded"],
        ["an expired call's caller hears, p99, ms after", f"{quantile(late, 0.99) * 1e3:.0f}", "≤ 150"],
        ["a modest caller's p99 by itself, ms", report.spread([alone * 1e3 for alone, _ in tails]), ""],
        ["... beside a glutton, ms", report.spread([beside * 1e3 for _, beside in tails]), ""],
        ["ratio", report.spread([beside / alone for alone, beside in tails]), "≤ 2.5"],
        ["BUSY, with a full backlog, p50 and p99, ms", f"{busy[0]:.2f}, {busy[1]:.2f}", "fast"],
        ["... ÷ the 20 ms of a run", f"{busy[0] / 20:.3f}, {busy[1] / 20:.3f}", ""],
        ["runs for each call of a tool that is down, with retries=3", f"{runs:.3f}", "≤ 1.1"],
    ]
    print(report.plain(rows))
    if options.docs:
        options.docs.write_text(
            DOCUMENT.format(
                date=datetime.now(UTC).date().isoformat(),
                machine=report.machine(),
                seconds=seconds,
                flow=report.markdown(rows),
                chunks=report.markdown(many),
            )
        )


if __name__ == "__main__":
    main()

"""From figures to tables, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.peers import TITLES
from benchmarks.targets import TARGETS, Repetition, Target, Verdict, judge

COLUMNS = {
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "jobs_per_s": "no-op jobs/s",
    "spin_per_s": "1 ms jobs/s",
    "mb_per_s": "1 MB round trips/s",
    "pss_mib": "memory MiB",
    "cold_s": "cold start s",
}
_OTHERS = {"bare_pss_mib": "as many bare processes", "bare_start_s": "the start of a bare process"}

Table = list[list[str]]


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """median [min-max]"""
    if not values:
        return ""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} [{number(min(values))}-{number(max(values))}]"


def figures_table(repetitions: Sequence[Repetition]) -> Table:
    rows = [["", *COLUMNS.values()]]
    for name, title in TITLES.items():
        found = [repetition[name] for repetition in repetitions if name in repetition]
        if not found:
            continue
        rows.append([title, *(spread([f[c] for f in found if c in f]) for c in COLUMNS)])
        for extra in found[0].get("extras", {}):
            values = [f["extras"][extra] for f in found if extra in f.get("extras", {})]
            rows.append([f"- {extra}", *(spread(values) if c == "jobs_per_s" else "" for c in COLUMNS)])
    bare = [repetition["toolring"] for repetition in repetitions if "toolring" in repetition]
    if bare:
        ends = {"pss_mib": "bare_pss_mib", "cold_s": "bare_start_s"}
        cells = [spread([f[ends[c]] for f in bare if ends[c] in f]) if c in ends else "" for c in COLUMNS]
        rows.append([f"{bare[0]['processes']} processes of python + zmq + msgspec, idle", *cells])
    return rows


def verdicts(repetitions: Sequence[Repetition]) -> list[Verdict]:
    return [verdict for target in TARGETS if (verdict := judge(target, repetitions)) is not None]


def verdict_table(found: Iterable[Verdict]) -> Table:
    rows = [["figure", "compared with", "target", "ratio", ""]]
    for verdict in found:
        target = verdict.target
        ratio = f"{verdict.ratio:.2f} [{verdict.low:.2f}-{verdict.high:.2f}]"
        rows.append([COLUMNS[target.figure], _other(target), _bound(target), ratio, _word(verdict)])
    return rows


def _other(target: Target) -> str:
    return _OTHERS[target.other] if target.other else TITLES[target.system]


def _bound(target: Target) -> str:
    return f"{'at most' if target.most else 'at least'} {target.bound:g} x" + (" (stretch)" if target.stretch else "")


def _word(verdict: Verdict) -> str:
    """Where the bound lies within the spread, one run more may tell otherwise."""
    word = "met" if verdict.met else "missed"
    return f"{word}, within the spread" if verdict.low < verdict.target.bound < verdict.high else word


def plain(rows: Table) -> str:
    """For the terminal."""
    rows = [[cell.replace("**", "") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: Table) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def machine() -> str:
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory().total / 2**30
    system = f"Linux {platform.release().partition('-')[0]}"
    return f"{cores} cores ({model}), {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def versions(repetitions: Sequence[Repetition]) -> str:
    found: dict[str, str] = {}
    for repetition in repetitions:
        for figures in repetition.values():
            found.update(figures.get("versions", {}))
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items(), key=lambda item: item[0].lower()))


def quietness(repetitions: Sequence[Repetition], limit: float) -> str:
    runs: list[tuple[str, Any]] = [(name, f) for repetition in repetitions for name, f in repetition.items()]
    noisy = sorted({name for name, f in runs if f["strangers"] > limit})
    most = max((f["strangers"] for _, f in runs), default=0.0)
    text = f"Other processes used at most {most:.2f} cores during a run that counts"
    if noisy:
        text += f"; more than {limit:g} in runs of {', '.join(noisy)}, so take those figures with care"
    return text + "."


def missing(repetitions: Sequence[Repetition], names: Iterable[str], count: int) -> str:
    """Which systems lack figures, and in how many of the repetitions; empty if none does."""
    lacks = {name: sum(name not in repetition for repetition in repetitions) for name in names}
    texts = [f"{name} in {lack} of {count}" for name, lack in lacks.items() if lack]
    return f"No figures: {', '.join(texts)} repetitions." if texts else ""


DOCUMENT = """\
# Benchmarks

Written by `python -m benchmarks.run` on {date}. {repetitions} repetition{plural}{quick}.

{machine}; {versions}. {quiet}{missing}

Compare within this table only: on another machine, or on this one an hour later, all of it moves together. That is
why the targets are ratios to a peer that was measured in the same repetition.

## Figures

{figures}

Each figure is median [min-max] over the repetitions.

## Targets

{verdicts}

A ratio is ours by theirs, made within each repetition; median [min-max]. The median decides.

## What was measured

Two workers and one client, on one machine. Every system runs the same three functions (`benchmarks/work.py`); for
toolring they are tools that declare nothing (`benchmarks/tools.py`), and the node runs with its defaults: the ledger,
deadlines, the answer journal, validation of arguments and the counters are on. There is no benchmark mode. No two
jobs have the same arguments, except for the megabyte, which is sent again and again, and no tool is cached.

- **p50, p99**: {calls} calls, one after the other, of a function that returns its argument, a text of 100 bytes.
- **no-op jobs/s**: the same function, {window} jobs under way. toolring's row is `Client.map`. `submit` stands below
  it: such a job outlives its client, and its result is kept for minutes, which no other row does.
- **1 ms jobs/s**: a function that burns 1 ms of CPU time, {window} jobs under way. Two cores without any overhead
  would do 2,000/s; the gRPC server is one process, so 1,000/s.
- **1 MB round trips/s**: bytes there and back, one at a time.
- **memory**: PSS of all processes of the service, after the calls one at a time, idle. The client isn't counted,
  though with the pools it is the one who schedules. toolring's include its zygote, the process that workers are
  forked from.
- **cold start**: to the first result. For toolring from two command lines started together, `toolring serve` and a
  client; for the others from the start of the client's interpreter, which starts the service.
- **the last row**: as many processes as toolring runs, each of which imports zmq and msgspec and waits: their memory,
  and how long one takes to start.

The bare brokers (`benchmarks/brokers.py`) show what ZeroMQ allows on this machine. They check nothing, keep no
deadline, and lose jobs when a worker dies: the distance to them is the price of all that toolring adds. *Draining*:
frames are routed unread, one job for each worker at a time. *copy=False, credit 64*: the same without copies, up to
64 jobs for each worker. *Packed*: a typed header decoded for each job, up to 32 jobs in a message, credit 64.
gRPC carries msgpack over a Unix socket.

Each system and repetition runs in a fresh interpreter. Repetitions are the outer loop, so that a slow minute
hits all systems. CPU that other processes use is watched; a run during which it was more than {limit:g} cores is
repeated, and the quietest attempt counts.

## What it doesn't tell

- One client, two workers, one machine with few cores: client, supervisor and workers share them, so a service with
  fewer processes has an advantage that it wouldn't have on a larger machine.
- The pools live in the client's process: they have no address, no second client, and end with their client.
- What a noisy neighbour on the same host does to this (virtual) machine isn't visible from inside it.
- A no-op is nobody's tool: the longer a tool runs, the less the price of a call matters.
- An empty cell wasn't measured.

## Where the rest goes

CPU of one no-op with 256 under way is shared about equally by client, supervisor and both workers, at twice the packed
broker's (`python -m benchmarks.profile`). A call made alone is mostly wake-ups: each of its four messages wakes an I/O
thread and a main thread, where a pool's pipes wake one; that is its distance to `multiprocessing.Pool`. A megabyte is
encoded and decoded on both sides, which the bare broker leaves out: four copies, whose fresh pages the kernel maps one
by one.

## Again

    make bench                                                   # all of it; rewrites this page
    python -m benchmarks.run --reps 5 --json figures.json        # more repetitions, raw figures
    python -m benchmarks.run --only toolring,packed --quick      # while tuning; half a minute
    python -m benchmarks.profile                                 # CPU µs a job of client, supervisor, workers
    python -m benchmarks.micro                                   # single parts, without I/O
"""

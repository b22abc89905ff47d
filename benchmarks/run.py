"""Measure toolring beside its peers.

    python -m benchmarks.run                                     all systems, three repetitions
    python -m benchmarks.run --only toolring,packed --quick      while tuning
    python -m benchmarks.run --docs docs/benchmarks.md           and write the page

Every (system, repetition) runs in a fresh interpreter; repetitions are the outer loop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measure, report
from benchmarks.once import MARK
from benchmarks.peers import KNOWN
from benchmarks.processes import ROOT, Strangers, adopt_orphans, end_descendants, environment, wait_for_quiet

Figures = dict[str, Any]


def isolated(name: str, quick: bool, timeout: float) -> Figures:
    """One run in a fresh interpreter and a directory of its own; ``error`` is set if it failed."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        started = environment(BENCH_STARTED=repr(time.monotonic()), BENCH_TIMEOUT=repr(timeout), TMPDIR=directory)
        command = [sys.executable, "-m", "benchmarks.once", name, *(["--quick"] if quick else [])]
        process = subprocess.Popen(
            command, env=started, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            end_descendants()
            out, err = process.communicate()
            err += f"\nended after {timeout:g} s"
        left = end_descendants()
    figures: Figures = {"error": err.strip()[-2000:] or f"status {process.returncode}"}
    for line in out.splitlines():
        if line.startswith(MARK):
            figures = json.loads(line.removeprefix(MARK))
    if left:
        figures["left"] = left
    return figures


def watched(name: str, options: argparse.Namespace) -> Figures:
    """Run until a run was quiet, or the tries are used up; the quietest counts."""
    best: Figures = {}
    for _ in range(options.tries):
        if options.patience:
            wait_for_quiet(options.noise_limit, options.patience)
        strangers = Strangers()
        strangers.start()
        found = isolated(name, options.quick, options.timeout)
        found["strangers"] = round(strangers.finish(), 3)
        if "error" in found:
            return best or found
        if not best or found["strangers"] < best["strangers"]:
            best = found
        if best["strangers"] <= options.noise_limit:
            break
    return best


def run(names: list[str], options: argparse.Namespace) -> list[dict[str, Figures]]:
    """Figures by system, one dictionary a repetition."""
    repetitions: list[dict[str, Figures]] = []
    for number in range(options.reps):
        done: dict[str, Figures] = {}
        repetitions.append(done)
        for name in names:
            found = watched(name, options)
            if "error" in found:
                print(f"[{number}] {name:9s} failed: {found['error']}", file=sys.stderr, flush=True)
                continue
            done[name] = found
            shown = " ".join(f"{c}={report.number(found[c])}" for c in report.COLUMNS if c in found)
            left = f"  LEFT RUNNING {found['left']}" if "left" in found else ""
            print(f"[{number}] {name:9s} {shown}  others={found['strangers']:.2f}{left}", file=sys.stderr, flush=True)
    return repetitions


def write_document(
    path: Path, repetitions: list[dict[str, Figures]], options: argparse.Namespace, names: list[str]
) -> None:
    lacking = report.missing(repetitions, names, options.reps)
    text = report.DOCUMENT.format(
        date=datetime.now(UTC).date().isoformat(),
        repetitions=options.reps,
        plural="" if options.reps == 1 else "s",
        quick=", in quick mode: too short for more than a rough idea" if options.quick else "",
        machine=report.machine(),
        versions=report.versions(repetitions),
        quiet=report.quietness(repetitions, options.noise_limit),
        missing=f"\n\n{lacking}" if lacking else "",
        figures=report.markdown(report.figures_table(repetitions)),
        verdicts=report.markdown(report.verdict_table(report.verdicts(repetitions))),
        calls=f"{measure.CALLS:,}",
        window=measure.WINDOW,
        limit=options.noise_limit,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure toolring beside its peers.")
    parser.add_argument("--reps", type=int, help="repetitions (default: 3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="shorter, and without waiting for a quiet machine")
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {','.join(KNOWN)}")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures")
    parser.add_argument("--noise-limit", type=float, default=0.1, help="cores that others may use (default: 0.1)")
    parser.add_argument("--patience", type=float, help="seconds to wait for a quiet machine before a run (default: 60)")
    parser.add_argument("--tries", type=int, help="runs until one was quiet (default: 3)")
    parser.add_argument("--timeout", type=float, help="seconds after which a run is ended (default: 180)")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(KNOWN)
    if unknown := [name for name in names if name not in KNOWN]:
        parser.error(f"no system {', '.join(unknown)}; there is {', '.join(KNOWN)}")
    for option, usual, hasty in (("reps", 3, 1), ("patience", 60.0, 0.0), ("tries", 3, 1), ("timeout", 180.0, 60.0)):
        if getattr(options, option) is None:
            setattr(options, option, hasty if options.quick else usual)
    return options, names


def main() -> None:
    options, names = parse()
    adopt_orphans()
    repetitions = run(names, options)
    if options.json:
        options.json.write_text(json.dumps({"machine": report.machine(), "repetitions": repetitions}, indent=1) + "\n")
    if options.docs:
        write_document(options.docs, repetitions, options, names)
    print(report.plain(report.figures_table(repetitions)))
    if found := report.verdicts(repetitions):
        print("\n" + report.plain(report.verdict_table(found)))
    for line in (report.missing(repetitions, names, options.reps), report.quietness(repetitions, options.noise_limit)):
        if line:
            print("\n" + line)
    if report.missing(repetitions, names, options.reps):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What it costs to count: one observation, a job, a page of a thousand tools; beside the usual libraries.

    python -m benchmarks.metrics [--docs docs/metrics-benchmarks.md] [--rounds 5]

Alternatives take turns within one run, so that what else the machine does meets all alike. Of each the median of the
rounds stands there, with the least and the most.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, cast

import ddsketch
import prometheus_client
from hdrh.histogram import HdrHistogram
from prometheus_client.core import HistogramMetricFamily

from benchmarks import report
from benchmarks.micro import Driver
from benchmarks.processes import adopt_orphans, cpu_seconds, end_descendants
from tests.process import kit
from toolring import Client
from toolring.calls import alone
from toolring.policy.histogram import Histogram, bounds_of
from toolring.policy.series import Series
from toolring.protocol import PACK
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.exposition import LE, Book, buckets_of
from toolring.supervisor.figures import Figures, Of
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import Services
from toolring.supervisor.usage import Traffic, Usage

OBSERVATIONS = 50_000
TOOLS = 1000
SHORT = 2048
ECHO = "from toolring import tool\n@tool\ndef echo(text: str) -> str:\n    return text\n"

SCRAPER = """
import sys, time, urllib.request
try:
    while True:
        began = time.perf_counter()
        with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
            while answer.read(1 << 20):
                pass
        print((time.perf_counter() - began) * 1e3)
        time.sleep(0.25)
except KeyboardInterrupt:
    pass
"""

Rows = list[tuple[str, ...]]


class Timed:
    """Alternatives that take turns."""

    def __init__(self, rounds: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.rounds = rounds
        self.clock = clock
        self.found: dict[str, list[float]] = {}

    def run(self, alternatives: dict[str, Callable[[], object]], scale: float) -> None:
        for number in range(self.rounds + 1):
            for name, run in alternatives.items():
                began = self.clock()
                run()
                if number:  # the first is to warm up
                    self.found.setdefault(name, []).append((self.clock() - began) * scale)

    def rows(self, to: str) -> Rows:
        """Of each what it took, and how that compares."""
        found: Rows = []
        for name, took in self.found.items():
            ratios = [one / other for one, other in zip(took, self.found[to], strict=True)]
            found.append((name, spread(took), spread(ratios, ".2f")))
        return found


def spread(values: list[float], form: str = ",.0f") -> str:
    return f"{median(values):{form}} [{min(values):{form}}-{max(values):{form}}]"


def observations(rounds: int) -> Rows:
    rng = random.Random(1)
    micros = [int(rng.lognormvariate(6, 1.5)) + 1 for _ in range(OBSERVATIONS)]
    seconds = [micro / 1e6 for micro in micros]
    plain, together = Histogram(), Histogram()
    prometheus = prometheus_client.Histogram("x", "x", ["tool"], registry=None).labels("a")
    sketch, hdr = ddsketch.DDSketch(0.01), HdrHistogram(1, 3_600_000_000, 2)

    def each(record: Callable[..., object], values: list[int] | list[float]) -> Callable[[], None]:
        def run() -> None:
            for value in values:
                record(value)

        return run

    def in_rows() -> None:
        rows: list[int] = []
        put = rows.append
        for value in micros:
            put(value)
            if len(rows) == 1024:
                together.record_all(rows)
                rows.clear()

    timed = Timed(rounds)
    timed.run(
        {
            "toolring, one by one": each(plain.record, micros),
            "toolring, in rows as a node does": in_rows,
            "prometheus-client": each(prometheus.observe, seconds),
            "DDSketch": each(sketch.add, micros),
            "hdrhistogram": each(hdr.record_value, micros),
        },
        1e9 / OBSERVATIONS,
    )
    return timed.rows("prometheus-client")


def worst_error() -> float:
    """The largest relative error of a bucket's middle, from 1 µs to 1 h."""
    worst = 0.0
    bucket = 1
    while bounds_of(bucket)[0] <= 3_600_000_000:
        first, last = bounds_of(bucket)
        worst = max(worst, abs((first + last) / 2 - first) / first)
        bucket += 1
    return worst


def core(rounds: int) -> Rows:
    """In short turns, of which the quicker half counts: whoever else is at work then was not in the way."""
    counting, other = Driver(), Driver()
    figures = counting.core.figures = Figures(0.0)

    def count() -> None:
        for _ in range(SHORT // PACK):
            counting.turn(counting.jobs(PACK))
        figures.fold_all()

    def only_work() -> None:
        for _ in range(SHORT // PACK):
            other.turn(other.jobs(PACK))

    timed = Timed(20 * rounds, time.thread_time)
    timed.run({"counting": count, "not counting": only_work}, 1e9 / SHORT)
    quick = {name: sorted(found)[: len(found) // 2] for name, found in timed.found.items()}
    to = median(quick["not counting"])
    return [(name, spread(found), f"{median(found) / to:.2f}") for name, found in quick.items()]


def full(tools: int = TOOLS) -> Collector:
    """Of a node with so many tools, each with 200 runs whose times are all over the place."""
    driver, rng = Driver(), random.Random(1)
    figures = driver.core.figures = Figures(0.0)
    for number in range(tools):
        tally = (series := Series(0.0)).at(1.0)
        for _ in range(200):
            for times in (tally.response, tally.queue, tally.run, tally.overhead):
                times.record(int(rng.lognormvariate(8, 1.0)))
        tally.jobs = 200
        figures.tools[Of(f"tool_{number}", "default")] = series
    usage = Usage(lambda _pid: None, Traffic)
    return Collector(About("0", 0.0, ()), driver.core, figures, usage, Reports(), Services({}, alone()), lambda: 0, ())


class ByLibrary:
    """The same page by prometheus-client."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[object]:
        for family, samples in self._collector.families(2.0):
            if family.kind != "histogram":
                made = prometheus_client.core.Metric(family.name, family.help, family.kind)
                for labels, value in filter(None, samples):
                    made.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), cast(float, value))
                yield made
                continue
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for labels, parts in filter(None, samples):
                times = cast(tuple[Histogram, ...], parts)
                running = 0
                buckets: list[Any] = []
                made_of = buckets_of(times)
                for bound, count in zip(LE, made_of.counts, strict=True):
                    running += count
                    buckets.append((bound, running))
                histogram.add_metric(labels, buckets, made_of.total)
            yield histogram


def pages(rounds: int) -> tuple[Rows, str]:
    collector = full()
    registry = prometheus_client.CollectorRegistry()
    registry.register(ByLibrary(collector))  # type: ignore[arg-type]
    book = Book()

    def all_in_use() -> None:
        for series in collector.figures.tools.values():
            for tally in series.since_start:
                for times in (tally.response, tally.queue, tally.run, tally.overhead):
                    times.marks = None  # as if something had been counted
        "".join(book.page(collector.families(2.0), True))

    timed = Timed(rounds, time.thread_time)
    timed.run(
        {
            "toolring": lambda: "".join(book.page(collector.families(2.0), True)),
            "toolring, all tools in use": all_in_use,
            "prometheus-client": lambda: prometheus_client.generate_latest(registry),
        },
        1e3,
    )
    steps = []
    began = time.thread_time()
    for _ in book.page(collector.families(2.0), True):
        steps.append((time.thread_time() - began) * 1e3)
        began = time.thread_time()
    return timed.rows("prometheus-client"), f"{len(steps)} steps, the longest {max(steps):.2f} ms"


@contextmanager
def node(directory: Path, source: str, **env: str) -> Iterator[kit.Node]:
    file = directory / "tools.py"
    file.write_text(source)
    with kit.running(file, **cast(Any, env)) as running:
        yield running


def per_second(client: Client, jobs: int) -> float:
    began = time.perf_counter()
    for _ in client.map("echo", ({"text": "x" * 100} for _ in range(jobs)), window=256):
        pass
    return jobs / (time.perf_counter() - began)


def throughput(rounds: int, jobs: int = 8_000) -> Rows:
    """No-op jobs a second, 256 under way, of two nodes that take turns; and the processor time of all processes.

    Many short turns: what disturbs one of a pair would else decide. Of their ratios the median, and where that of all
    there could be lies, with 95 % confidence.
    """
    found: dict[str, list[float]] = {"counting": [], "not counting": []}
    spent: dict[str, list[float]] = {"counting": [], "not counting": []}
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as other,
        node(Path(one), ECHO) as on,
        node(Path(other), ECHO, TOOLRING_METRICS_FIGURES="false") as off,
        on.client() as counting,
        off.client() as quiet,
    ):
        for number in range(24 * rounds + 1):
            pair = [("counting", counting, on), ("not counting", quiet, off)]
            for name, client, its in pair if number % 2 else reversed(pair):
                pids = [os.getpid(), *(process.pid for process in its.tree())]
                before = cpu_seconds(pids)
                rate = per_second(client, jobs)
                if number:
                    found[name].append(rate)
                    spent[name].append((cpu_seconds(pids) - before) / jobs * 1e6)
    ratios = [one / other for one, other in zip(found["counting"], found["not counting"], strict=True)]
    times = sum(spent["counting"]) / sum(spent["not counting"])  # of all turns: the clock's ticks are coarse
    return [
        ("counting", spread(found["counting"]), sure(ratios), spread(spent["counting"], ".1f"), f"{times:.3f}"),
        ("not counting", spread(found["not counting"]), "1", spread(spent["not counting"], ".1f"), "1"),
    ]


def sure(values: list[float]) -> str:
    """The median, and the values between which that of the distribution lies with 95 % confidence: the ranks that a
    binomial distribution gives."""
    ordered, reach = sorted(values), 0.98 * len(values) ** 0.5
    low, high = int(len(values) / 2 - reach), int(len(values) / 2 + reach)
    return f"{median(values):.3f} ({ordered[low]:.3f}-{ordered[high]:.3f})"


def scraped(rounds: int, tools: int = TOOLS, calls: int = 2000) -> Rows:
    """One call after the other, while a page of many tools is asked for, and while it isn't."""
    names = [f"tool_{number}" for number in range(tools)]
    source = ECHO + "".join(f"@tool\ndef {name}(x: int) -> int:\n    return x\n" for name in names)
    p50: dict[str, list[float]] = {"scraped": [], "in peace": []}
    p99: dict[str, list[float]] = {"scraped": [], "in peace": []}
    took: list[float] = []
    with (
        tempfile.TemporaryDirectory() as place,
        node(Path(place), source, TOOLRING_METRICS_LISTEN="127.0.0.1:0") as one,
        one.client() as client,
    ):
        url = f"{client.status()['metrics']}/metrics"
        for name in names:
            client.call(name, {"x": 1})
        for number in range(rounds + 1):
            for how in ("scraped", "in peace"):
                with scraping(url, took if how == "scraped" else None):
                    times = sorted(one_at_a_time(client, calls))
                if number:
                    p50[how].append(times[calls // 2])
                    p99[how].append(times[calls * 99 // 100])
    rows = [(f"a call, {how}", spread(p50[how], ".3f"), spread(p99[how], ".3f")) for how in ("in peace", "scraped")]
    ordered = sorted(took)
    return [*rows, ("a page", f"{median(ordered):.0f}", f"{ordered[len(ordered) * 99 // 100]:.0f}")]


def one_at_a_time(client: Client, calls: int) -> Iterator[float]:
    """Milliseconds of each."""
    for _ in range(calls):
        began = time.perf_counter()
        client.call("echo", {"text": "x"})
        yield (time.perf_counter() - began) * 1e3


@contextmanager
def scraping(url: str, took: list[float] | None) -> Iterator[None]:
    """Another process asks for the page four times a second; milliseconds of each are put into ``took``."""
    if took is None:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", SCRAPER, url], stdout=subprocess.PIPE, text=True) as scraper:
        try:
            yield
        finally:
            scraper.send_signal(signal.SIGINT)
            assert scraper.stdout is not None
            took += [float(line) for line in scraper.stdout]


def table(heads: tuple[str, ...], rows: Rows) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics")
    parser.add_argument("--docs", metavar="FILE", help="write the page there")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    adopt_orphans()
    try:
        text = results(options.rounds)
    finally:
        end_descendants()
    print(text)
    if options.docs:
        Path(options.docs).write_text(text)


def results(rounds: int) -> str:
    load = os.getloadavg()[0]
    made, steps = pages(rounds)
    parts = [
        "# What metrics cost",
        "Made by `make bench-metrics`. Alternatives take turns within one run; each figure is the median of "
        f"{rounds} rounds or more, with the least and the most. {report.machine()}, "
        f"load {load:.1f} at its start.",
        "## One observation",
        table(("", "ns", "to prometheus-client"), observations(rounds)),
        f"The largest error of a quantile, from 1 µs to 1 h: {worst_error():.2%}.",
        "## A job, in the supervisor's core",
        "Response, queue, run and overhead of each, bytes and counts, by tool and by worker; processor time.",
        table(("", "ns a job", "to not counting"), core(rounds)),
        "## No-op jobs a second",
        "Two nodes of two workers each, 256 jobs under way, in many short turns. Of the ratios of jobs/s of each pair "
        "the median, and between which values it lies with 95 % confidence.",
        table(("", "jobs/s", "to not counting", "processor time, µs a job", "to not counting"), throughput(rounds)),
        f"## A page of {TOOLS:,} tools",
        "Each with four histograms of 200 runs. Processor time to write it.",
        table(("", "ms", "to prometheus-client"), made),
        f"toolring writes it in {steps}.",
        "Calls one after the other, while another process asks for the page four times a second:",
        table(("", "p50 ms", "p99 ms"), scraped(rounds)),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from tests.model.simulation import Node
from tests.unit.supervisor.steps import ask, finish, look_round
from toolring.calls import alone
from toolring.plugins.specs import Buckets
from toolring.policy.histogram import Histogram
from toolring.policy.service import ServicePolicy
from toolring.supervisor.collector import About, Collector, Sample
from toolring.supervisor.exposition import BOUNDS, Book, as_data
from toolring.supervisor.families import BY_NAME, FAMILIES, Family, Kind
from toolring.supervisor.figures import Of
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import Services
from toolring.supervisor.usage import Traffic, Usage, Used

LOADS: dict[bytes, dict[str, Any]] = {
    b"0.1": {
        "cache": {"s3fifo": {"entries": 3, "bytes": 100, "evictions": 2}},
        "stores": {"sqlite": {"entries": 7, "bytes": 900}},
        "resources": {
            "db": {"active": 1, "idle": 2, "waiting": 0, "created": 3, "create_errors": 0, "timeouts": 1},
        },
        "services": {
            "shop": {
                "retried": 1,
                "endpoints": {
                    "http://a": {"requests": 5, "failed": 2, "seconds": 0.5, "health": "up", "state": "open"}
                },
            },
        },
    }
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    node = Node()
    for worker in node.workers.values():
        worker.step()
    client = node.clients[0]
    ask(client, "read", "write", "read")
    finish(node)
    ask(client, "write", *["push"] * 20)
    finish(node, "error")
    assert node.core.figures is not None
    node.core.figures.exited(node.core.fleet.ready[0], "killed by SIGSEGV", True)
    usage = Usage(lambda pid: Used(1.5, 1, 2, 3, 4, 5), lambda: Traffic(6, 7))
    look_round(usage, {"supervisor": 1, "0": 2}, 10.0)
    about = About("0.1.0", 1.0, ("supervisor", "memory", "sqlite"))
    node.core.figures.fold_all()
    reports = Reports()
    for identity, figures in LOADS.items():
        reports.heard(identity, figures)
    services = Services({"shop": ServicePolicy(endpoints=("http://a",))}, alone())
    made = Collector(about, node.core, node.core.figures, usage, reports, services, lambda: 3, ())
    yield made
    node.close()


def plain(collector: Collector) -> str:
    return "".join(Book().page(collector.families(1000.0), False))


def test_both_formats_are_read_by_others_and_hold_the_same(collector: Collector) -> None:
    found = [
        {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
        for families in (
            parse_plain(plain(collector)),
            parse_open("".join(Book().page(collector.families(1000.0), True))),
        )
    ]
    assert found[0] == found[1]
    assert found[0]["toolring_jobs_total", ("group", "default"), ("tool", "read")] == 2
    assert found[0]["toolring_pool_created_total", ("pool", "db")] == 3
    assert found[0]["toolring_service_requests_total", ("endpoint", "http://a"), ("service", "shop")] == 5
    assert found[0]["toolring_service_seconds_total", ("endpoint", "http://a"), ("service", "shop")] == 0.5
    assert found[0]["toolring_process_cpu_seconds_total", ("process", "0")] == 1.5


def told(collector: Collector) -> dict[tuple[Any, ...], float]:
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in parse_plain(plain(collector))
        for one in family.samples
    }


def test_what_may_come_in_a_burst_is_there_before_it(collector: Collector) -> None:
    """Who reads counters now and then doesn't see one that is born at 20."""
    idle = next(tool for tool in collector._core.tools if tool not in ("read", "write", "push"))
    found = told(collector)
    for name in ("jobs", "operations", "job_failures", "job_retries", "argument_bytes", "result_bytes"):
        assert found[f"toolring_{name}_total", "default", idle] == 0
    assert not any(key[0] == "toolring_job_run_seconds_count" and idle in key for key in found), "a histogram is large"
    assert found["toolring_jobs_refused_total", "CIRCUIT_OPEN"] == 0
    figures = collector.figures
    figures.tools.clear()
    figures.exits.clear()
    figures.deaths = 0
    assert told(collector)["toolring_jobs_total", "default", "read"] == 0
    assert told(collector)["toolring_worker_deaths_total",] == 0


def test_failures_are_those_that_are_not_the_callers_fault_and_deaths_those_that_nobody_wanted(
    collector: Collector,
) -> None:
    figures = collector.figures
    before = told(collector)["toolring_job_failures_total", "default", "read"]
    errors = figures.tools[Of("read", "default")].at(1000.0).errors
    errors.update({"TOOL_ERROR": 2, "EXPIRED": 1, "INVALID_ARGUMENTS": 7, "CANCELLED": 5})
    figures.exited(collector._core.fleet.ready[0], "killed by SIGKILL", False)
    found = told(collector)
    assert found["toolring_job_failures_total", "default", "read"] == before + 3
    assert found["toolring_worker_deaths_total",] == 1


def test_no_series_is_there_twice_and_every_family_is_in_the_list(collector: Collector) -> None:
    families = list(parse_plain(plain(collector)))
    series = [(one.name, *sorted(one.labels.items())) for family in families for one in family.samples]
    assert len(series) == len(set(series))
    assert [family.name for family in families] == [family.name for family in FAMILIES]
    for family in families:
        listed = BY_NAME[family.name]
        assert (family.type, family.documentation) == (listed.kind, listed.help)
        for one in family.samples:
            assert set(one.labels) - {"le"} == set(listed.labels)


def test_a_histogram_is_cumulative_and_agrees_with_its_count(collector: Collector) -> None:
    for family in parse_plain(plain(collector)):
        if family.type != "histogram":
            continue
        by: dict[tuple[tuple[str, str], ...], list[float]] = {}
        counts: dict[tuple[tuple[str, str], ...], float] = {}
        for one in family.samples:
            labels = tuple(sorted((key, value) for key, value in one.labels.items() if key != "le"))
            if one.name.endswith("_bucket"):
                by.setdefault(labels, []).append(one.value)
            elif one.name.endswith("_count"):
                counts[labels] = one.value
        assert counts
        for labels, buckets in by.items():
            assert buckets == sorted(buckets)
            assert buckets[-1] == counts[labels]
            assert len(buckets) == len(BOUNDS) + 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9)))
def test_coarse_buckets_hold_what_lies_below_their_bounds(micros: list[int]) -> None:
    made = Histogram()
    made.record_all(micros)
    family = Family("x_seconds", Kind.HISTOGRAM, (), "X.")
    (found,) = parse_plain("".join(Book().page([(family, [Sample((), (made,))])], False)))
    for one in found.samples:
        if one.name.endswith("_bucket") and one.labels["le"] != "+Inf":
            bound = float(one.labels["le"]) * 1e6
            assert sum(micro <= bound * 0.984 - 1 for micro in micros) <= one.value
            assert one.value <= sum(micro <= bound for micro in micros)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 10**9), max_size=5), min_size=1, max_size=5))
def test_what_was_worked_out_for_an_earlier_page_is_forgotten_when_something_happens(rounds: list[list[int]]) -> None:
    family = Family("x_seconds", Kind.HISTOGRAM, (), "X.")
    parts, whole, book = (Histogram(), Histogram()), Histogram(), Book()
    for number, micros in enumerate(rounds):
        more = Histogram()
        more.record_all(micros)
        parts[number % 2].add(more)
        whole.add(more)
        afresh = Histogram(whole.counts, whole.total)
        (first, again, second) = (
            "".join(one.page([(family, [Sample((), of)])], False))
            for one, of in ((book, parts), (book, parts), (Book(), (afresh,)))
        )
        assert first == again == second


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_is_read_as_it_was_written(value: str) -> None:
    family = Family("x", Kind.GAUGE, ("name",), "X.")
    text = "".join(Book().page([(family, [Sample((value,), 1)])], True))
    if "\r" in value or any(line != value for line in value.splitlines() or [value]):
        return  # their parser splits lines at more than newlines
    (found,) = parse_open(text)
    assert found.samples[0].labels == {"name": value}


def test_counts_of_workers_never_go_back(collector: Collector) -> None:
    def created() -> float:
        return next(
            one.value
            for family in parse_plain(plain(collector))
            for one in family.samples
            if one.name == "toolring_pool_created_total"
        )

    reports = collector._reports
    assert created() == 3
    reports.forget(b"0.1")
    assert created() == 3
    pool = LOADS[b"0.1"]["resources"]["db"]
    reports.heard(b"0.2", {"resources": {"db": {**pool, "created": 1}}})
    assert created() == 4
    assert created() == 4
    reports.forget(b"0.2")
    reports.heard(b"0.3", {"resources": {"db": {**pool, "created": 2}}})
    reports.forget(b"0.3")  # it came and went between two pages
    reports.heard(b"0.4", {"resources": {"db": {**pool, "created": 1}}})
    assert created() == 7


def test_as_data_it_is_the_same_as_on_the_page() -> None:
    histogram, other = Histogram(), Histogram()
    histogram.record_all([90, 100, 2_000, 700_000_000])
    other.record(3_000)
    counter, times = BY_NAME["toolring_jobs"], BY_NAME["toolring_job_run_seconds"]
    families = [
        (counter, [Sample(("a", "g"), 3)]),
        (times, [Sample(("a", "g"), (histogram, other)), Sample(("b", "g"), (Histogram(),))]),
    ]
    steps = as_data(families)
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as over:
            told = over.value
            break
    assert count >= len(families), "it is made in steps"
    assert [(one.name, one.kind, one.unit, one.labels) for one in told] == [
        ("toolring_jobs", "counter", "", ("tool", "group")),
        ("toolring_job_run_seconds", "histogram", "seconds", ("tool", "group")),
    ]
    assert told[0].samples == [(("a", "g"), 3)]
    (labels, buckets), (_, nothing) = told[1].samples
    assert labels == ("a", "g")
    assert isinstance(buckets, Buckets)
    assert isinstance(nothing, Buckets)
    assert sum(buckets.counts) == 5
    assert (buckets.counts[0], buckets.counts[-1]) == (2, 1)
    assert len(buckets.counts) == len(buckets.bounds) + 1
    assert buckets.total == pytest.approx(700.00519)
    assert sum(nothing.counts) == 0
    text = "".join(Book().page(families, False))
    running = 0
    for bound, number in zip([*map(repr, buckets.bounds), "+Inf"], buckets.counts, strict=True):
        running += number
        assert f'toolring_job_run_seconds_bucket{{tool="a",group="g",le="{bound}"}} {running}\n' in text


def test_nothing_is_remembered_of_what_is_gone() -> None:
    family = Family("x_seconds", Kind.HISTOGRAM, ("tool",), "X.")
    book = Book()
    for names in (["a", "b"], ["b"]):
        text = "".join(book.page([(family, [Sample((name,), (Histogram({1: 1}, 1),)) for name in names])], False))
        assert text.count("x_seconds_count") == len(names)
        assert len(book._written) == len(names)

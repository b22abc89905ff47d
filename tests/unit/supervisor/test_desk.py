from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.model.simulation import Node
from toolring.calls import alone
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.desk import Desk, prefers_open_metrics
from toolring.supervisor.errands import Errands
from toolring.supervisor.exposition import OPEN_METRICS, PLAIN
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import Services
from toolring.supervisor.usage import Traffic, Usage
from toolring.supervisor.web import Asked, Reply

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.4,*/*;q=0.2"
)


class Front:
    def __init__(self) -> None:
        self.node = Node()
        core = self.node.core
        assert core.figures is not None
        usage = Usage(lambda pid: None, Traffic)
        self.told: list[str] = []
        self.errands = Errands(self.told.append)
        self.collector = Collector(
            About("1", 1.0, ()), core, core.figures, usage, Reports(), Services({}, alone()), lambda: 0, ()
        )
        self.desk = Desk(core, self.collector, self.errands)

    def ask(self, path: str, accept: str = "") -> list[Reply]:
        replies: list[Reply] = []
        self.desk.answer(Asked(path, accept, replies.append), self.node.now)
        return replies

    def finish(self) -> None:
        while self.errands:
            self.errands.go_on()


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    for worker in front.node.workers.values():
        worker.step()
    yield front
    front.node.close()


def test_all_who_ask_while_a_page_is_made_get_the_same_one(front: Front) -> None:
    one, other, third = front.ask("/metrics"), front.ask("/metrics"), front.ask("/metrics", PROMETHEUS)
    assert not one
    front.finish()
    assert one == other
    assert (one[0].status, one[0].content_type) == (200, PLAIN)
    assert third[0].content_type == OPEN_METRICS
    again = front.ask("/metrics")
    front.finish()
    assert again[0] is not one[0]


def test_a_page_that_can_not_be_made_is_answered_all_the_same(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_now: float) -> None:
        raise ValueError("no")

    monkeypatch.setattr(front.collector, "families", broken)
    replies = front.ask("/metrics")
    front.finish()
    assert replies[0].status == 500
    assert front.told == ["ValueError: no"]
    assert not front.ask("/metrics"), "the next is tried anew"


def test_ready_is_who_may_be_sent_jobs_and_alive_is_whoever_answers(front: Front) -> None:
    core = front.node.core
    assert front.ask("/readyz")[0].status == 200
    core.broken = True
    assert front.ask("/readyz")[0].body == [b"unhealthy: workers keep dying; see the node's log\n"]
    core.broken, core.draining = False, True
    assert front.ask("/readyz")[0].status == 503
    assert front.ask("/healthz")[0].status == 200
    core.draining = False
    core.fleet.ready = []
    assert front.ask("/readyz")[0].body == [b"no worker is ready\n"]
    for slot in core.fleet.slots:
        slot.parked = True
    assert front.ask("/readyz")[0].status == 200


def test_without_figures_there_is_no_page(front: Front) -> None:
    desk: Callable[..., None] = Desk(front.node.core, None, front.errands).answer
    replies: list[Reply] = []
    desk(Asked("/metrics", "", replies.append), 1.0)
    assert replies[0].status == 404


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=much", False),
        (" Application/OpenMetrics-Text ; Q=1", True),
    ],
)
def test_the_format_is_what_the_client_prefers(accept: str, wanted: bool) -> None:
    assert prefers_open_metrics(accept) is wanted

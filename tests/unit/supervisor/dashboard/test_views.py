"""What the page is told, in steps, from a node whose workers are simulated."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.model.simulation import KEPT, Node
from tests.unit.supervisor.steps import ask, finish, look_round, start
from toolring import protocol
from toolring.calls import alone
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.dashboard import views
from toolring.supervisor.dashboard.timeline import Timeline
from toolring.supervisor.dashboard.views import MOST_ALERTS, Views
from toolring.supervisor.errands import Errands
from toolring.supervisor.job_desk import JobDesk
from toolring.supervisor.present import Present
from toolring.supervisor.reports import Reports
from toolring.supervisor.results import Results
from toolring.supervisor.services import Services
from toolring.supervisor.usage import Traffic, Usage, Used
from toolring.supervisor.web import Asked, Reply


class Shown:
    def __init__(self) -> None:
        self.node = node = Node()
        core = node.core
        assert core.figures is not None
        usage = Usage(lambda pid: Used(1.5, resident_bytes=7), Traffic)
        look_round(usage, {"0": 1}, 5.0)
        collector = Collector(
            About("1", 1.0, ()), core, core.figures, usage, Reports(), Services({}, alone()), lambda: 0, ()
        )
        layers = ("supervisor", "memory")
        about = {"address": "ipc:///here"}
        present = Present(core, node.watch, "here", about, layers, Services({}, alone()), Results(None, "here", 600.0))
        desk = JobDesk(core, node.watch.endings, layers)
        self.failed: list[str] = []
        self.errands = Errands(self.failed.append)
        timeline = Timeline(core, core.figures, usage, lambda: 0.0)
        self.views = Views(core, present, desk, collector, timeline, self.errands)

    def begin(self, view: str, query: str = "") -> list[Reply]:
        replies: list[Reply] = []
        self.views.answer(Asked(f"/api/{view}", "", replies.append, query), self.node.now)
        return replies

    def finish(self) -> None:
        while self.errands:
            self.errands.go_on()

    def ask(self, view: str, query: str = "", status: int = 200) -> dict[str, Any]:
        replies = self.begin(view, query)
        self.finish()
        (reply,) = replies
        assert (reply.status, reply.content_type) == (status, "application/json")
        return dict(msgspec.json.decode(b"".join(reply.body)))


@pytest.fixture
def shown() -> Iterator[Shown]:
    shown = Shown()
    for worker in shown.node.workers.values():
        worker.step()
    yield shown
    assert shown.failed == []
    shown.node.close()


def test_the_node_and_its_workers(shown: Shown) -> None:
    ask(shown.node.clients[0], "read", "write")
    found = shown.ask("node")
    assert (found["node"], found["state"], found["jobs"]["accepted"]) == ("here", "healthy", 2)
    assert [worker["id"] for worker in found["workers"]] == [slot.index for slot in shown.node.core.fleet.slots]
    assert (found["workers"][0]["memory"], found["workers"][0]["cpu"]) == (7, 1.5)
    assert sum(worker["jobs"] for worker in found["workers"]) == 2


def test_alerts_stand_at_the_node_as_many_as_can_be_read(shown: Shown) -> None:
    assert (shown.ask("node")["alerts"], shown.ask("node")["more_alerts"]) == ([], 0)
    row = {
        "alert": "a",
        "state": "firing",
        "severity": "critical",
        "tool": "t",
        "group": "",
        "service": "",
        "seconds": 1.5,
        "text": "x",
    }
    lit = [{**row, "threshold": 1}] * MOST_ALERTS
    shown.views._present.alerts = cast("Alerts", SimpleNamespace(lit=lambda _now, most: (lit[:most], 2)))
    found = shown.ask("node")
    assert found["alerts"] == [row] * MOST_ALERTS
    assert found["more_alerts"] == 2


def test_the_tools_of_a_window_with_cache_and_circuit(shown: Shown) -> None:
    ask(shown.node.clients[0], "cached", "read", "brittle")
    finish(shown.node)
    tools = shown.ask("tools", "window=1m")["tools"]
    assert {name: (told["cache"], told["circuit"]) for name, told in tools.items()} == {
        "cached": (True, None),
        "read": (False, None),
        "brittle": (False, "closed"),
    }


def test_a_tool_that_is_not_among_the_busiest_is_found_by_its_name(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MOST_TOOLS", 1)
    ask(shown.node.clients[0], "read", "read", "brittle", "write")
    finish(shown.node)
    found = shown.ask("tools")
    assert (list(found["tools"]), found["left_out"]) == (["read"], 2)
    found = shown.ask("tools", "name=BRIT")
    assert (list(found["tools"]), found["left_out"], found["total"]["jobs"]) == (["brittle"], 0, 4)
    assert shown.ask("tools", "name=nothing")["tools"] == {}


def test_a_ring_with_the_share_of_each_slot_and_the_tools_that_it_places(shown: Shown) -> None:
    ask(shown.node.clients[0], "near", "write")
    finish(shown.node)
    (group,) = shown.ask("ring")["groups"]
    assert (group["group"], group["tools"]) == ("default", ["cached", "near"])
    assert sum(slot["share"] for slot in group["slots"]) == pytest.approx(1.0)
    assert sum(slot["runs"] for slot in group["slots"]) == 2
    assert {slot["state"] for slot in group["slots"]} == {"ready"}
    assert len(group["arcs"]) > 100


def test_jobs_are_found_by_all_of_the_words_whatever_they_are_of(shown: Shown) -> None:
    client = shown.node.clients[0]
    ask(client, "read", "read", "write")
    finish(shown.node)
    ask(client, "write")
    finish(shown.node, "error")
    ask(client, "read", "slow")
    start(shown.node)

    def found(query: str) -> list[tuple[str, str]]:
        return [(one["tool"], one["code"]) for one in shown.ask("jobs", query)["jobs"]]

    over = [("write", "TOOL_ERROR"), ("write", ""), ("read", ""), ("read", "")]
    assert found("")[:2] == [("read", ""), ("slow", "")], "those in hand come first, the oldest of them first"
    assert sorted(found("")[2:]) == sorted(over)
    assert found("state=failed") == [("write", "TOOL_ERROR")]
    assert found("state=hand&words=READ") == [("read", "")]
    assert found("words=tool_error+wri") == [("write", "TOOL_ERROR")]
    assert found("words=tool_error+read") == []
    assert len(found("state=done")) == 3
    assert client.session is not None
    assert len(found(f"words={client.session.name}")) == 6
    few = shown.ask("jobs", "limit=2")
    assert (len(few["jobs"]), few["more"]) == (2, True)
    assert shown.ask("jobs", "limit=6")["more"] is False


def test_a_search_looks_at_few_jobs_in_each_step(shown: Shown) -> None:
    for _ in range(20):
        ask(shown.node.clients[0], *["read"] * 10)
        finish(shown.node)
    assert len(shown.ask("jobs", "limit=500")["jobs"]) == KEPT
    steps = shown.views._views["/api/jobs"]({"words": "nothing of that kind"}, shown.node.now)
    assert sum(1 for _ in steps) >= KEPT // 16


def test_the_life_of_a_job(shown: Shown) -> None:
    ask(shown.node.clients[0], "read")
    finish(shown.node)
    (job,) = shown.ask("jobs")["jobs"]
    story = shown.ask("job", f"job={job['job']}")["story"]
    assert (story["job"], story["tool"], story["state"]) == (job["job"], "read", "done")
    assert story["events"][0]["what"] == "accepted"
    assert shown.ask("job", "job=%3Cscript%3E-1", status=404)["error"]["code"] == "UNKNOWN_JOB"


@pytest.mark.parametrize(
    ("view", "query", "says"),
    [
        ("tools", "window=1h", "window='1h'"),
        ("jobs", "limit=0", "limit='0' is not a number from 1 to 500"),
        ("jobs", "limit=" + "9" * 5000, "is not a number"),
        ("jobs", "limit=x", "limit='x'"),
        ("jobs", "state=lost", "state='lost'"),
        ("timeline", "after=-2", "after='-2'"),
        ("node", "x=1", "unknown parameter 'x'; there is none"),
        ("jobs", "word=x", "unknown parameter 'word'; there is words, state, limit"),
        ("jobs", "&".join(f"w{n}=1" for n in range(50)), "can't be read"),
        ("jobs", "words", "can't be read"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(shown: Shown, view: str, query: str, says: str) -> None:
    error = shown.ask(view, query, status=400)["error"]
    assert error["code"] == "INVALID_ARGUMENTS"
    assert says in error["message"]


def test_all_who_ask_the_same_meanwhile_get_the_same(shown: Shown) -> None:
    one, same, other = shown.begin("node"), shown.begin("node"), shown.begin("jobs")
    assert not one
    shown.finish()
    assert one[0] is same[0]
    assert other[0] is not one[0]


def test_what_can_not_be_made_is_answered_all_the_same(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_now: float) -> None:
        raise ValueError("no")

    monkeypatch.setattr(shown.views._present, "overview", broken)
    assert shown.ask("node", status=500)["error"]["code"] == "ERROR"
    assert shown.failed == ["ValueError: no"]
    shown.failed.clear()


def test_errors_of_all_tools_are_told_also_of_those_that_are_left_out(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MOST_TOOLS", 1)
    client = shown.node.clients[0]
    ask(client, "read", "read")
    finish(shown.node)
    ask(client, "write")
    finish(shown.node, "error")
    found = shown.ask("tools")
    assert (list(found["tools"]), found["left_out"]) == (["read"], 1)
    assert [(one["tool"], one["count"]) for one in found["errors"]] == [("write", 1)]


def test_facts_of_an_error_may_be_any_data(shown: Shown) -> None:
    client = shown.node.clients[0]
    ask(client, "write")
    finish(shown.node, "error")
    history = shown.node.core.history
    assert history is not None
    (entry,) = history.failed
    assert entry.past is not None
    entry.past.error = protocol.encode({"code": "X", "message": "m", "table": {(1, 2): b"3", 1.5: float("nan")}})
    told = shown.ask("job", f"job={entry.name}")
    assert told["story"]["error"]["table"] == {"(1, 2)": "Mw==", "1.5": "nan"}

"""The way of a request: which endpoint, what is tried again, what it ends in. No I/O: answers are given by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest

from toolring.calls import Calls, size
from toolring.errors import InvalidArguments, ServiceError, ServiceUnavailable
from toolring.plugins.registry import load_plugins
from toolring.policy.balance import Members
from toolring.policy.breaker import ORDERS
from toolring.policy.service import EndpointBreaker, ServicePolicy
from toolring.workers.services.attempts import Attempt, Outcome, Pause, Request, attempts, checked
from toolring.workers.services.endpoints import Endpoints

AUTO, OPEN, CLOSE, WATCH = range(len(ORDERS))
BALANCERS = load_plugins().balancers
BASES = ("http://a", "http://b", "http://c")
GONE = Outcome(error="connection refused", sent=False)
CUT = Outcome(error="the connection was cut")
LATE = Outcome(error="no answer", blame=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def answer(status: int, retry_after: float | None = None) -> Outcome:
    response = SimpleNamespace(text=f"said {status}", headers={"location": "http://elsewhere"}, status=status)
    return Outcome(status, response, retry_after)


OK = answer(200)


class World:
    """A service whose endpoints answer as ``does`` says."""

    def __init__(self, count: int = 3, calls: Calls | None = None, first: int = 0, **settings: Any) -> None:
        self.clock = Clock()
        self.policy = ServicePolicy(endpoints=BASES[:count], **{"balancer": "round_robin", **settings})
        factory = BALANCERS[self.policy.balancer]
        self.endpoints = Endpoints("shop", self.policy, factory, calls, first, self.clock, lambda: 0.5)
        self.does: dict[str, Callable[[], Outcome] | Outcome] = dict.fromkeys(self.policy.bases, OK)
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.waited: list[float] = []

    def ask(self, method: str = "GET", deadline: float | None = None, **more: Any) -> Any:
        plan = attempts(self.endpoints, Request(method, "/x", **more), deadline)
        said: Outcome | None = None
        try:
            while True:
                step = plan.send(said)
                if isinstance(step, Pause):
                    self.waited.append(step.seconds)
                    self.clock.now += step.seconds
                    said = None
                    continue
                assert isinstance(step, Attempt)
                self.asked.append(step.base)
                self.timeouts.append(step.timeout)
                does = self.does[step.base]
                said = does if isinstance(does, Outcome) else does()
        except StopIteration as end:
            return end.value

    def fails(self, *words: Any, **more: Any) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            self.ask(*words, **more)
        return caught.value

    def shown(self, base: str) -> dict[str, Any]:
        found: dict[str, Any] = self.endpoints.figures()["endpoints"][base]
        return found


def test_an_answer_is_given_at_once() -> None:
    world = World()
    assert world.ask() is OK.response
    assert world.asked == ["http://a"]
    assert world.shown("http://a")["requests"] == 1
    assert world.shown("http://a")["under_way"] == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("outcome", [GONE, CUT, answer(429), answer(502), answer(503), answer(504)])
def test_what_may_be_repeated_goes_to_the_next(method: str, outcome: Outcome) -> None:
    world = World()
    world.does["http://a"] = world.does["http://b"] = outcome
    assert world.ask(method) is OK.response
    assert world.asked == list(BASES)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("outcome", [CUT, answer(503), answer(429), LATE])
def test_what_may_not_be_repeated_is_not(method: str, outcome: Outcome) -> None:
    world = World()
    world.does = dict.fromkeys(BASES, outcome)
    assert type(world.fails(method)) is ServiceError
    assert len(world.asked) == 1


def test_what_was_never_sent_is_sent_elsewhere() -> None:
    world = World()
    world.does["http://a"] = GONE
    assert world.ask("POST") is OK.response
    world.does = dict.fromkeys(BASES, GONE)
    error = world.fails("POST")
    assert type(error) is ServiceUnavailable
    assert error.facts["attempts"] == 3


def test_a_caller_may_say_that_it_may_be_repeated_or_not() -> None:
    world = World()
    world.does = dict.fromkeys(BASES, CUT)
    assert world.fails("POST", idempotent=True).facts["attempts"] == 3
    assert world.fails("GET", idempotent=False).facts["attempts"] == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 501])
def test_answers_that_another_attempt_would_not_change(status: int) -> None:
    world = World()
    world.does = dict.fromkeys(BASES, answer(status))
    error = world.fails()
    assert error.facts["status"] == status
    assert error.facts["body"] == f"said {status}"
    assert error.response is not None
    assert len(world.asked) == 1
    assert world.ask(expect=(status,)).status == status


def test_redirects_are_errors() -> None:
    world = World()
    world.does = dict.fromkeys(BASES, answer(302))
    assert "'http://elsewhere', which is not followed" in str(world.fails())


def test_retries_pause_longer_each_time() -> None:
    world = World(retry_delay=0.1, retries=4)
    world.does = dict.fromkeys(BASES, CUT)
    world.fails()
    assert world.waited == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_all_endpoints_have_their_turn_before_one_is_asked_again() -> None:
    world = World(retries=8)
    world.does = dict.fromkeys(BASES, answer(429))
    world.fails()
    assert len(world.asked) == 9
    for turn in range(3):
        assert sorted(world.asked[3 * turn : 3 * turn + 3]) == list(BASES)


def test_a_service_says_when_it_wants_to_be_asked_again() -> None:
    world = World(1, retry_delay=0.1, retries=1)
    world.does["http://a"] = answer(503, retry_after=3.0)
    assert world.fails().facts["retry_after"] == 3.0
    assert world.waited == [3.0]
    world = World(2, retry_delay=0.1, retries=1)
    world.does["http://a"] = answer(503, retry_after=3.0)
    world.ask()
    assert world.waited == [0.1], "another one is there"


@pytest.mark.parametrize(("wish", "asked"), [(3.0, 3), (60.0, 1)])
def test_an_endpoint_whose_circuit_is_open_is_no_other(wish: float, asked: int) -> None:
    calls = Calls(memoryview(bytearray(size(2))), 1)
    world = World(2, calls, retries=2, retry_delay=0.1)
    calls.give(0, OPEN)
    world.does["http://b"] = answer(503, retry_after=wish)
    assert world.fails().facts["attempts"] == asked
    assert world.waited == [wish] * (asked - 1)
    calls.give(0, AUTO)
    world.waited.clear()
    world.ask()
    assert sum(world.waited) < wish, "another one is there again"


def test_an_endpoint_that_is_left_alone_is_asked_before_the_wish_of_the_last_is_kept() -> None:
    world = World(2, retries=1, retry_delay=0.1, breaker=False)
    for _ in range(world.policy.ejection.errors):
        ticket = world.endpoints.take("", [1])
        world.endpoints.ended(ticket, True)
    assert world.shown("http://a")["health"] == "ejected"
    world.does["http://b"] = answer(503, retry_after=3.0)
    world.ask()
    assert (world.asked, world.waited) == (["http://b", "http://a"], [0.1])


def test_a_wish_that_is_too_long_is_not_waited_for() -> None:
    world = World(1)
    world.does["http://a"] = answer(503, retry_after=3600.0)
    error = world.fails()
    assert (error.facts["retry_after"], error.facts["attempts"]) == (3600.0, 1)
    assert not world.waited


def test_an_answer_that_is_expected_is_no_failure() -> None:
    world = World(1)
    world.does["http://a"] = answer(503)
    for _ in range(30):
        world.ask(expect=(503,))
    assert world.shown("http://a")["failed"] == 0
    assert world.shown("http://a")["state"] == "closed"


def test_once_something_may_have_arrived_it_is_not_said_that_nothing_did() -> None:
    world = World(2, retries=1)
    world.does = {"http://a": CUT, "http://b": GONE}
    error = world.fails("DELETE")
    assert type(error) is ServiceError
    assert (error.facts["endpoint"], error.facts["cause"]) == ("http://a", CUT.error), "which tells more"
    world.does["http://a"] = answer(503)
    assert world.fails().facts["status"] == 503
    assert type(world.fails(deadline=99.0)) is ServiceUnavailable, "nothing was sent at all"


def test_no_retry_is_paid_for_that_the_deadline_forbids() -> None:
    world = World(2, retry_delay=5.0)
    world.does["http://a"] = CUT
    world.fails(deadline=101.0)
    assert world.endpoints.figures()["retried"] == 0


@pytest.mark.parametrize("fault", ["shut", "raise", "nonsense"])
def test_a_balancer_that_fails_is_given_up(fault: str) -> None:
    class Odd:
        keyed = False

        def __init__(self, members: Members) -> None:
            pass

        def place(self, point: int, loads: Sequence[float | None]) -> int:
            if fault == "raise":
                raise KeyError("no")
            return 99 if fault == "nonsense" else 0

    world = World(2)
    world.endpoints = Endpoints("shop", world.policy, Odd, None, 0, world.clock, lambda: 0.5)
    world.does["http://a"] = CUT
    for _ in range(60):
        world.ask()
    assert world.asked.count("http://b") >= 50


def test_the_deadline_of_the_job_holds() -> None:
    world = World(timeout=10.0)
    world.ask(deadline=104.0)
    assert world.timeouts == [4.0]
    world.ask(deadline=1000.0)
    world.ask(timeout=2.0)
    assert world.timeouts[1:] == [10.0, 2.0]
    assert "deadline passed" in str(world.fails(deadline=99.0))
    assert len(world.timeouts) == 3, "nothing is sent after it"
    world.does = dict.fromkeys(BASES, answer(503, retry_after=9.0))
    assert world.fails(deadline=100.01).facts["status"] == 503, "no pause that would outlast it"


def test_all_retries_together_are_few() -> None:
    """A budget: a service that fails for everybody isn't asked three times for everything."""
    world = World(retry_delay=0.0)
    world.does = dict.fromkeys(BASES, answer(503))
    for _ in range(1000):
        world.fails()
    assert len(world.asked) < 1000 * 1.1 + world.endpoints.budget.most + 5


def test_one_that_keeps_failing_is_left_alone() -> None:
    world = World(breaker=False)
    world.does["http://a"] = CUT
    for _ in range(40):
        world.ask()
    assert Counter(world.asked)["http://a"] == world.policy.ejection.errors
    assert world.shown("http://a")["health"] == "ejected"
    world.does["http://a"] = OK
    world.clock.now += world.policy.ejection.eject
    for _ in range(6):
        world.ask()
    assert world.shown("http://a")["health"] == "up"


@pytest.mark.parametrize("outcome", [LATE, answer(404), answer(429), answer(501)])
def test_what_says_nothing_bad_of_the_endpoint(outcome: Outcome) -> None:
    world = World(retries=0)
    world.does = dict.fromkeys(BASES, outcome)
    for _ in range(60):
        world.fails()
    assert {one["health"] for one in world.endpoints.figures()["endpoints"].values()} == {"up"}
    assert {one["state"] for one in world.endpoints.figures()["endpoints"].values()} == {"closed"}
    assert all(one["failed"] == 0 for one in world.endpoints.figures()["endpoints"].values())


def test_circuits_open_and_nothing_is_sent() -> None:
    world = World(1, retries=0)
    world.does["http://a"] = CUT
    for _ in range(20):
        world.fails()
    error = world.fails()
    assert type(error) is ServiceUnavailable
    assert "too many requests failed" in str(error)
    assert error.facts["retry_after"] == 10.0
    assert len(world.asked) == 20
    world.clock.now += 10.0
    world.does["http://a"] = OK
    for _ in range(5):
        world.ask()
    assert world.shown("http://a")["state"] == "closed"


@pytest.mark.parametrize("balancer", ["round_robin", "ring"])
def test_what_all_circuits_refuse_is_counted_once(balancer: str) -> None:
    world = World(2, retries=0, balancer=balancer, breaker=EndpointBreaker(window=2, minimum=1, wait=5.0))
    world.does = dict.fromkeys(BASES, CUT)
    world.fails(route="a")
    world.does["http://a"] = world.does["http://b"] = OK
    world.ask(route="a")
    refused = [world.shown(base)["refused"] for base in BASES[:2]]
    assert refused == [0, 0], "what goes to another endpoint is not refused"
    world.does = dict.fromkeys(BASES, CUT)
    world.fails(route="a")
    for _ in range(4):
        assert type(world.fails(route="a")) is ServiceUnavailable
    assert sum(world.shown(base)["refused"] for base in BASES[:2]) == 4
    assert sum(world.shown(base)["requests"] for base in BASES[:2]) == 3, "and not asked for"


def test_a_circuit_that_opens_between_attempts_keeps_the_first_error() -> None:
    world = World(1, retries=5, breaker=EndpointBreaker(minimum=3, window=10))
    world.does["http://a"] = answer(503)
    error = world.fails()
    assert (error.facts["status"], error.facts["attempts"]) == (503, 3)
    assert "circuits" in str(error.__cause__)


def test_a_probe_that_tells_nothing_gives_its_permit_back() -> None:
    world = World(1, retries=0, breaker=EndpointBreaker(minimum=1, window=10, wait=1.0, probes=1))
    world.does["http://a"] = CUT
    world.fails()
    world.clock.now += 1.0
    world.does["http://a"] = LATE
    for _ in range(5):
        assert type(world.fails()) is ServiceError, "each of them was let through"
    world.does["http://a"] = OK
    world.ask()
    assert world.shown("http://a")["state"] == "closed"


def test_orders_of_an_operator_reach_it_before_the_next_request() -> None:
    calls = Calls(memoryview(bytearray(size(2))), 1)
    world = World(2, calls, first=7)
    calls.give(7, OPEN)
    for _ in range(4):
        world.ask()
    assert world.asked == ["http://b"] * 4
    calls.give(8, OPEN)
    assert "an operator opened them" in str(world.fails())
    calls.give(7, CLOSE)
    calls.give(8, WATCH)
    world.does["http://a"] = CUT
    for _ in range(60):
        world.ask()
    assert world.shown("http://a")["state"] == "forced_closed"
    assert world.shown("http://b")["state"] == "metrics_only"
    calls.give(7, 0)
    world.ask()
    assert world.shown("http://a")["state"] == "closed"


def test_a_circuit_that_only_counts_does_so_again_when_an_operator_lets_it() -> None:
    calls = Calls(memoryview(bytearray(size(1))), 1)
    world = World(1, calls, breaker=EndpointBreaker(observe=True), retries=0)
    world.does["http://a"] = CUT
    for order in (AUTO, OPEN, AUTO):
        calls.give(0, order)
        for _ in range(30):
            world.fails()
        assert world.shown("http://a")["state"] == ("forced_open" if order == OPEN else "metrics_only")
    assert len(world.asked) == 60


def test_a_word_that_nobody_knows_is_no_order() -> None:
    calls = Calls(memoryview(bytearray(size(1))))
    world = World(1, calls)
    calls.give(0, 99)
    assert world.ask() is OK.response


def test_what_others_have_under_way_counts() -> None:
    memory = memoryview(bytearray(size(3)))
    mine, other = Calls(memory, 0), Calls(memory, 2)
    other.own(4, 5)
    world = World(2, mine, first=4, balancer="least_outstanding")
    for _ in range(3):
        world.ask()
    assert world.asked == ["http://b"] * 3
    assert mine.total(4) == 5
    assert mine.total(5) == 0
    mine.clear(2)
    assert mine.total(4) == 0


def test_equal_routes_go_to_the_same_endpoint() -> None:
    world = World(3, balancer="ring")
    for _ in range(5):
        world.ask(route="customer-7")
    assert len(set(world.asked)) == 1
    for _ in range(100):
        world.ask(route="")
    routes = {world.ask(route=str(n)) and world.asked[-1] for n in range(50)}
    assert routes == set(BASES)


def test_an_interrupted_attempt_gives_everything_back() -> None:
    world = World(1)
    plan = attempts(world.endpoints, Request("GET", "/x"), None)
    plan.send(None)
    assert world.shown("http://a")["under_way"] == 1
    plan.close()
    assert world.shown("http://a")["under_way"] == 0
    assert world.shown("http://a")["failed"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "//evil",
        "http://evil/",
        "@evil",
        "/a/../b",
        "/%2e%2e/b",
        "/a\\b",
        "/a b",
        "/a#b",
        "/a?b",
        "/a\nb",
        "/..%2fb",
        "/..%5cb",
        "/..;/b",
        "/a/%2e%2e;x/b",
        "/a%00",
        "/" + "a" * 9000,
    ],
)
def test_paths_that_lead_elsewhere(path: str) -> None:
    with pytest.raises(InvalidArguments):
        checked(Request("GET", path))


@pytest.mark.parametrize("timeout", [0, -1, inf, nan])
def test_times_that_are_none(timeout: float) -> None:
    with pytest.raises(InvalidArguments, match="timeout"):
        checked(Request("GET", "/x", timeout=timeout))


@pytest.mark.parametrize("name", ["host", "Host", "Content-Length", "Transfer-Encoding", "a b", "a:b", ""])
def test_headers_that_are_not_a_callers(name: str) -> None:
    with pytest.raises(InvalidArguments):
        checked(Request("GET", "/x", headers={name: "1"}))


@pytest.mark.parametrize("value", ["é", "a\r\nb: c", "\0", 5])
def test_header_values_that_cannot_be_sent(value: Any) -> None:
    with pytest.raises(InvalidArguments):
        checked(Request("GET", "/x", headers={"X-A": value}))


@pytest.mark.parametrize("method", ["CONNECT", "BREW", ""])
def test_methods_that_there_are_not(method: str) -> None:
    with pytest.raises(InvalidArguments, match="method"):
        checked(Request(method, "/x"))


@pytest.mark.parametrize(
    "more",
    [
        {"expect": 404},
        {"timeout": "x"},
        {"timeout": True},
        {"data": [["a", "b"]]},
        {"content": 5},
        {"headers": ["a"]},
        {"headers": {"a": 1}},
        {"idempotent": 1},
        {"route": 5},
        {"path": 5},
    ],
)
def test_what_is_of_a_wrong_type(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments):
        checked(Request(**{"method": "GET", "path": "/x", **more}))

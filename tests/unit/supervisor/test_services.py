"""What the supervisor tells of services, and tells their circuits."""

from __future__ import annotations

from typing import Any

import pytest

from toolring.calls import Calls, alone, size
from toolring.errors import InvalidArguments
from toolring.policy.service import EndpointBreaker, ServicePolicy
from toolring.supervisor.reports import Reports
from toolring.supervisor.services import UNASKED, Services, Standing

POLICIES = {
    "shop": ServicePolicy(endpoints=("http://a", "http://b"), version="2"),
    "bare": ServicePolicy(endpoints=("http://c",), breaker=False),
}


def endpoint(**more: Any) -> dict[str, Any]:
    window = {"calls": 3, "failed": 1, "slow": 0}
    told = {"requests": 4, "failed": 1, "seconds": 0.5, "under_way": 9, "health": "up", "state": "closed"}
    return {**told, "opened": 1, "refused": 2, "window": window, **more}


def report(*endpoints: dict[str, Any]) -> dict[str, Any]:
    return {
        "services": {"shop": {"retried": 1, "endpoints": dict(zip(("http://a", "http://b"), endpoints, strict=True))}}
    }


def heard(reports: list[dict[str, Any]]) -> Reports:
    found = Reports()
    for number, one in enumerate(reports):
        found.heard(bytes([number]), one)
    return found


def test_workers_are_added_up() -> None:
    calls = alone()
    calls.own(1, 5)
    loads = [report(endpoint(), endpoint()), report(endpoint(health="ejected", state="open"), endpoint()), {}]
    shop = Services(POLICIES, calls).figures(heard(loads))["shop"]
    assert (shop["version"], shop["retried"]) == ("2", 2)
    first, second = shop["endpoints"].values()
    assert (first["requests"], first["failed"], first["seconds"], first["under_way"]) == (8, 2, 1.0, 0)
    assert first["health"] == {"up": 1, "ejected": 1}
    assert first["circuit"] == {"closed": 1, "open": 1}
    assert second["under_way"] == 5, "of the whole node, as it is now"
    assert Services(POLICIES, calls).figures(Reports())["shop"]["endpoints"]["http://a"]["requests"] == 0


def test_a_circuits_state_is_the_worst_of_any_workers_unless_it_was_told() -> None:
    services = Services(POLICIES, alone())
    loads = [report(endpoint(), endpoint(state="half_open")), report(endpoint(state="open"), endpoint())]
    found = services.breakers(heard(loads))
    assert set(found) == {"shop@http://a", "shop@http://b", "bare@http://c"}
    assert [one["state"] for one in found.values()] == ["open", "half_open", "closed"]
    assert (found["shop@http://a"]["calls"], found["shop@http://a"]["refused"]) == (6, 4)
    for order, state in (("open", "forced_open"), ("close", "forced_closed"), ("watch", "metrics_only")):
        assert services.order("shop@http://a", order)["state"] == state
        assert services.breakers(heard(loads))["shop@http://a"]["state"] == state
    services.order("shop@http://a", "auto")
    late = [report(endpoint(state="forced_open"), endpoint())]
    assert services.breakers(heard(late))["shop@http://a"]["state"] == "closed", "that worker will hear of it"


def test_how_a_service_stands_is_over_all_its_endpoints() -> None:
    services = Services(POLICIES, alone())
    reports = heard([report(endpoint(), endpoint(state="open")), report(endpoint(), endpoint())])
    assert services.standing(reports) == {"shop": Standing(24, 12, 1), "bare": UNASKED}, "what was refused was asked"
    services.order("shop@http://a", "open")
    services.order("shop@http://b", "watch")
    assert services.standing(reports)["shop"].shut == 1, "as somebody ordered"
    services.order("shop@http://b", "open")
    reports.forget(bytes([0]))
    assert services.standing(reports)["shop"] == Standing(24, 12, 2)


def test_a_circuit_that_only_counts_is_shown_as_such() -> None:
    policies = {"shop": ServicePolicy(endpoints=("http://a", "http://b"), breaker=EndpointBreaker(observe=True))}
    services = Services(policies, alone())
    loads = [report(endpoint(state="metrics_only"), endpoint(state="forced_open"))]
    assert {one["state"] for one in services.breakers(heard(loads)).values()} == {"metrics_only"}
    assert services.order("shop@http://a", "open")["state"] == "forced_open"
    assert services.order("shop@http://a", "auto")["state"] == "metrics_only"


def test_orders_are_words_that_all_workers_read() -> None:
    memory = memoryview(bytearray(size(2)))
    Services(POLICIES, Calls(memory)).order("shop@http://b", "open")
    assert [Calls(memory, 1).order(number) for number in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "order", "what"),
    [
        ("shop@http://x", "open", "there is shop@http://a, shop@http://b"),
        ("shop@http://a", "smash", "'smash'"),
        ("bare@http://c", "open", "services.bare.breaker is false"),
    ],
)
def test_orders_that_make_no_sense(name: str, order: str, what: str) -> None:
    with pytest.raises(InvalidArguments, match=what):
        Services(POLICIES, alone()).order(name, order)

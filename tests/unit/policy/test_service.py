"""What a service's policy allows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from toolring.policy.service import EndpointBreaker, ServicePolicy, check_path


def policy(*endpoints: str, **settings: Any) -> ServicePolicy:
    return ServicePolicy(endpoints=endpoints or ("http://a:1",), **settings)


def test_the_version_is_filled_in() -> None:
    made = policy("http://a:1/{version}/", "https://b", version="v2")
    assert made.bases == ("http://a:1/v2", "https://b")


def test_a_version_that_is_missing_is_not_asked_for() -> None:
    with pytest.raises(ValueError, match=r"have a \{version\}, but there is no version="):
        policy("http://a:1", "http://b:1/{version}/x")


def test_circuits() -> None:
    assert policy().circuit == EndpointBreaker(wait=10.0)
    assert policy(breaker=False).circuit is None
    assert policy(breaker=EndpointBreaker(wait=3.0)).circuit == EndpointBreaker(wait=3.0)
    said = msgspec.convert({"endpoints": ["http://a"], "breaker": {"failure_rate": 0.3}}, ServicePolicy)
    assert said.circuit == EndpointBreaker(failure_rate=0.3, wait=10.0)
    with pytest.raises(ValueError, match="ignore= is for tools"):
        msgspec.convert({"endpoints": ["http://a"], "breaker": {"ignore": ["503"]}}, ServicePolicy)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "a:1",
        "ftp://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:99999",
        "http://a:x",
        "http://user:word@a",
        "http://a?q=1",
        "http://a#f",
        "http://a/../b",
        "http://a/%2e%2e",
        "http://a/{vers}",
        "http://a b",
        "http://a/ b",
        "http://[::1",
    ],
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValueError):
        policy(endpoint)


@pytest.mark.parametrize("endpoint", ["http://a", "https://a.b-c:8443/x/y", "http://[::1]:80", "http://127.0.0.1:1/"])
def test_endpoints(endpoint: str) -> None:
    assert policy(endpoint).bases == (endpoint.rstrip("/"),)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": 1e12}, "timeout"),
        ({"headers": {"a": " x"}}, "header a"),
        ({"headers": {"a": "x\r\ny: z"}}, "header a"),
        ({"connect_timeout": float("inf")}, "connect_timeout"),
        ({"health_interval": float("nan")}, "health_interval"),
        ({"health_timeout": -1.0}, "health_timeout"),
        ({"retry_delay": -1.0}, "retry_delay"),
        ({"retries": -1}, "retries"),
        ({"retries": 101}, "retries"),
        ({"retry_on": (200,)}, "retry_on"),
        ({"connections": 0}, "connections"),
        ({"max_response": 0}, "max_response"),
        ({"health_check": "healthz"}, "health_check"),
        ({"health_check": "/../x"}, "health_check"),
        ({"headers": {"Host": "b"}}, "Host"),
        ({"headers": {"a b": "c"}}, "a b"),
        ({"deadline_header": "a b"}, "a b"),
        ({"operations": ("a",)}, "openapi"),
        ({"prefix": "a"}, "openapi"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        policy(**settings)


def test_endpoints_differ_and_there_is_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ServicePolicy()
    with pytest.raises(ValueError, match="twice"):
        policy("http://a", "http://a/")
    for other in ("http://A", "http://a:80"):
        with pytest.raises(ValueError, match="twice"):
            policy("http://a", other)


@pytest.mark.parametrize("path", ["/", "/a", "/a//b", "/a/b.c/..d", "/%20", "/a;b=c", "/é"])
def test_paths(path: str) -> None:
    check_path(path)

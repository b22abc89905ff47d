"""How an attempt travels, and what httpx's errors mean."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from toolring import traced
from toolring.errors import ConfigError
from toolring.policy.service import ServicePolicy
from toolring.workers.services.attempts import Attempt, Request
from toolring.workers.services.endpoints import Ticket
from toolring.workers.services.http import Wire, query

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ATTEMPT = Attempt(Ticket(0, 0.0, None), "http://a:8080/api", 2.5, True)


def wire(**settings: Any) -> Wire:
    return Wire("shop", ServicePolicy(endpoints=("http://a:8080/api",), **settings))


def test_a_request() -> None:
    asked = Request(
        "POST", "/x", query({"a": 1, "b": None, "c": ["x", "y"], "d": True}), json={"n": 1}, headers={"X-A": "1"}
    )
    with traced(PARENT):
        made = wire(headers={"Authorization": "t"}).request(ATTEMPT, asked)
    assert str(made.url) == "http://a:8080/api/x?a=1&c=x&c=y&d=true"
    assert made.content == b'{"n":1}'
    assert made.headers["host"] == "a:8080"
    assert made.headers["x-request-timeout-ms"] == "2500"
    assert (made.headers["authorization"], made.headers["x-a"], made.headers["traceparent"]) == ("t", "1", PARENT)
    assert made.headers["user-agent"] == "toolring"
    assert made.extensions["timeout"] == {"connect": 1.0, "read": 2.5, "write": 2.5, "pool": 2.5}


def test_a_callers_headers_win_but_for_none() -> None:
    asked = Request("GET", "/x", headers={"Accept": "text/csv", "X-Request-Timeout-Ms": "7"})
    made = wire(headers={"accept": "application/json"}).request(ATTEMPT, asked)
    assert made.headers["accept"] == "text/csv"
    assert made.headers["x-request-timeout-ms"] == "7"
    assert "x-request-timeout-ms" not in wire(deadline_header="").request(ATTEMPT, Request("GET", "/x")).headers


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "s3cret")
    made = wire(headers={"Authorization": "Bearer ${SHOP_TOKEN}"}).request(ATTEMPT, Request("GET", "/x"))
    assert made.headers["authorization"] == "Bearer s3cret"
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(ConfigError, match="SHOP_TOKEN"):
        wire(headers={"Authorization": "Bearer ${SHOP_TOKEN}"})


def test_certificates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"services.shop.ca_file"):
        wire(ca_file="/nowhere")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigError, match=r"services.shop.ca_file"):
        wire(ca_file=str(empty))
    assert issubclass(ssl.SSLError, OSError)


@pytest.mark.parametrize(
    ("error", "sent", "blame"),
    [
        (httpx.ConnectError("refused"), False, True),
        (httpx.ConnectTimeout("late"), False, True),
        (httpx.PoolTimeout("full"), False, False),
        (httpx.LocalProtocolError("ours"), True, False),
        (httpx.ReadError("cut"), True, True),
        (httpx.RemoteProtocolError("cut"), True, True),
        (httpx.WriteError("cut"), True, True),
        (httpx.ReadTimeout("late"), True, True),
        (TimeoutError(), True, True),
        (httpx.DecodingError("no gzip"), True, True),
    ],
)
def test_what_errors_mean(error: Exception, sent: bool, blame: bool) -> None:
    assert isinstance(error, wire().errors())
    outcome = wire().failure(error, ATTEMPT)
    assert (outcome.status, outcome.sent, outcome.blame) == (0, sent, blame)
    assert outcome.error


def test_an_attempt_that_had_not_the_whole_time_is_nobodys_fault() -> None:
    assert not wire().failure(httpx.ReadTimeout("late"), ATTEMPT._replace(whole=False)).blame
    assert wire().failure(httpx.ReadError("cut"), ATTEMPT._replace(whole=False)).blame


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        (None, None),
        ("soon", None),
        ("-1", None),
        (format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0.0),
    ],
)
def test_when_a_service_wants_to_be_asked_again(said: str | None, seconds: float | None) -> None:
    request = httpx.Request("GET", "http://a")
    headers = {} if said is None else {"retry-after": said}
    outcome = wire().outcome(request, httpx.Response(503, headers=headers), b"")
    assert outcome.retry_after == seconds


def test_an_answer_is_decoded_once() -> None:
    request = httpx.Request("GET", "http://a")
    packed = httpx.Response(
        200,
        headers={"content-encoding": "gzip", "content-type": "text/plain; charset=utf-8"},
        stream=httpx.ByteStream(b""),
    )
    outcome = wire().outcome(request, packed, b"plain")
    assert outcome.response.text == "plain"
    assert outcome.response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "content-encoding" not in outcome.response.headers
    assert outcome.response.request is request

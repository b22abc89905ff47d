"""How an attempt travels, and what httpx's errors mean."""

from __future__ import annotations

import gzip
import random
import ssl
import zlib
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from toolring.errors import ConfigError, InvalidArguments
from toolring.policy.service import ServicePolicy
from toolring.workers.services.attempts import Attempt, Request
from toolring.workers.services.endpoints import Ticket
from toolring.workers.services.http import Wire, query

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GZIPPED = gzip.compress(b"plain", mtime=0)
ATTEMPT = Attempt(Ticket(0, 0.0, None), "http://a:8080/api", 10.0)

REQUEST = httpx.Request("GET", "http://a")


def wire(**settings: Any) -> Wire:
    return Wire("shop", ServicePolicy(endpoints=("http://a:8080/api",), **settings))


def test_a_request() -> None:
    asked = Request(
        "POST",
        "/x",
        query({"a": 1, "b": None, "c": ["x", "y"], "d": True}),
        json={"n": 1},
        headers={"X-A": "1", "traceparent": PARENT},
    )
    made = wire(headers={"Authorization": "t"}).request(ATTEMPT, asked)
    assert str(made.url) == "http://a:8080/api/x?a=1&c=x&c=y&d=true"
    assert made.content == b'{"n":1}'
    assert made.headers["host"] == "a:8080"
    assert made.headers["x-request-timeout-ms"] == "10000"
    assert (made.headers["authorization"], made.headers["x-a"], made.headers["traceparent"]) == ("t", "1", PARENT)
    assert made.headers["user-agent"] == "toolring"
    assert made.extensions["timeout"] == {"connect": 1.0}


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
    for bad in ("hunter2\n", "", "hunter2\u00e4"):
        monkeypatch.setenv("SHOP_TOKEN", bad)
        with pytest.raises(ConfigError, match=r"services.shop.headers") as caught:
            wire(headers={"Authorization": "Bearer ${SHOP_TOKEN}"})
        assert "hunter" not in str(caught.value)
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
        (httpcore.ConnectError("refused"), False, True),
        (httpcore.ConnectTimeout("late"), False, True),
        (httpcore.LocalProtocolError("ours"), True, False),
        (httpcore.ReadError("cut"), True, True),
        (httpcore.RemoteProtocolError("cut"), True, True),
        (httpcore.WriteError("cut"), True, True),
        (httpcore.ReadTimeout("late"), True, True),
        (UnicodeError("label too long"), False, True),
    ],
)
def test_what_errors_mean(error: Exception, sent: bool, blame: bool) -> None:
    assert isinstance(error, wire().errors)
    outcome = wire().failure(error, ATTEMPT)
    assert (outcome.status, outcome.sent, outcome.blame) == (0, sent, blame)
    assert outcome.error


def test_an_attempt_that_had_not_the_whole_time_is_nobodys_fault() -> None:
    short = ATTEMPT._replace(timeout=0.5)
    assert not wire().failure(httpcore.ReadTimeout("late"), short).blame
    assert not wire().failure(httpcore.ConnectTimeout("late"), short).blame
    assert wire().failure(httpcore.ConnectTimeout("late"), ATTEMPT._replace(timeout=2.0)).blame
    assert wire().failure(httpcore.ReadError("cut"), short).blame


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        (None, None),
        ("soon", None),
        ("-1", None),
        ("\u00b2", None),
        ("9" * 400, 999999999.0),
        ("Wed, 25 Nov 2026 07:28:00 GMT", 0.0),
    ],
)
def test_when_a_service_wants_to_be_asked_again(said: str | None, seconds: float | None) -> None:
    raw = [] if said is None else [(b"retry-after", said.encode("latin-1"))]
    assert wire().outcome(REQUEST, 503, raw, b"").retry_after == seconds


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"", b"plain"),
        (b"identity", b"plain"),
        (b"gzip", GZIPPED),
        (b"X-GZIP", GZIPPED),
        (b"deflate", zlib.compress(b"plain")),
        (b"deflate", zlib.compress(b"plain", wbits=-15)),
    ],
)
def test_an_answer_is_decoded_once(encoding: bytes, body: bytes) -> None:
    raw = [
        (b"Content-Encoding", encoding),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"999"),
    ]
    response = wire().outcome(REQUEST, 200, raw, body).response
    assert response.text == "plain"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "content-encoding" not in response.headers
    assert response.headers["content-length"] == "5"
    assert response.request is REQUEST


@pytest.mark.parametrize(
    ("encoding", "body", "why"),
    [
        (b"gzip, gzip", gzip.compress(GZIPPED, mtime=0), "'gzip, gzip'"),
        (b"br", b"x", "'br'"),
    ],
)
def test_what_is_compressed_may_not_be_anything(encoding: bytes, body: bytes, why: str) -> None:
    outcome = wire().outcome(REQUEST, 200, [(b"content-encoding", encoding)], body)
    assert why in outcome.error
    assert not outcome.blame


RANDOM = random.Random(7).randbytes(100_000)
PACKED = gzip.compress(RANDOM, mtime=0)
DEFLATED = zlib.compress(RANDOM)
RAW = zlib.compress(RANDOM, wbits=-15)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", PACKED[: len(PACKED) // 2]),
        (b"gzip", PACKED[:-8]),  # all of it but its checksum
        (b"gzip", PACKED[:-1]),
        (b"gzip", PACKED[:5]),
        (b"gzip", PACKED[:500] + b"\0" + PACKED[501:]),
        (b"gzip", PACKED + PACKED[:-1]),
        (b"gzip", PACKED + b"abc"),
        (b"gzip", b"abc"),
        (b"gzip", RAW),
        (b"deflate", DEFLATED[: len(DEFLATED) // 2]),
        (b"deflate", DEFLATED[:-1]),
        (b"deflate", RAW[:-1]),
        (b"deflate", RAW + b"abc"),
        (b"deflate", b"abc"),
    ],
)
def test_what_is_compressed_and_broken_is_as_good_as_no_answer(encoding: bytes, body: bytes) -> None:
    outcome = wire().outcome(REQUEST, 200, [(b"content-encoding", encoding)], body)
    assert (outcome.status, outcome.response) == (0, None)
    assert outcome.error
    assert (outcome.sent, outcome.blame) == (True, True)


@pytest.mark.parametrize(
    ("encoding", "body", "plain"),
    [
        (b"gzip", GZIPPED + PACKED + GZIPPED, b"plain" + RANDOM + b"plain"),
        (b"gzip", gzip.compress(b"", mtime=0) + GZIPPED, b"plain"),
        (b"gzip", GZIPPED * 5000, b"plain" * 5000),
        (b"deflate", DEFLATED, RANDOM),
        (b"deflate", RAW, RANDOM),
        (b"gzip", b"", b""),  # as HEAD is answered
    ],
)
def test_all_that_is_compressed_is_read(encoding: bytes, body: bytes, plain: bytes) -> None:
    assert wire().outcome(REQUEST, 200, [(b"content-encoding", encoding)], body).response.content == plain


def test_many_small_members_are_no_more_than_the_limit() -> None:
    body = [(b"content-encoding", b"gzip")], GZIPPED * 5000
    assert wire(max_response=25_000).outcome(REQUEST, 200, *body).status == 200
    outcome = wire(max_response=24_999).outcome(REQUEST, 200, *body)
    assert "more than 24999 bytes" in outcome.error
    assert not outcome.blame


@pytest.mark.parametrize("size", [17 << 20, 1 << 30])
def test_what_is_compressed_may_not_be_anything_large(size: int) -> None:
    pack = zlib.compressobj(1, wbits=31)
    body = b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()
    outcome = wire().outcome(REQUEST, 200, [(b"content-encoding", b"gzip")], body)
    assert "more than" in outcome.error
    assert not outcome.blame


@pytest.mark.parametrize("charset", ["zlib", "bz2", "hex", "undefined", "idna", "no-such", "utf-16"])
def test_a_charset_that_is_none_does_no_harm(charset: str) -> None:
    raw = [(b"content-type", f"text/plain; charset={charset}".encode())]
    assert wire().outcome(REQUEST, 200, raw, "höh".encode()).response.text == "höh"
    latin = [(b"content-type", b"text/plain; charset=ISO-8859-1")]
    assert wire().outcome(REQUEST, 200, latin, "höh".encode("latin-1")).response.text == "höh"


def test_headers_may_hold_any_bytes() -> None:
    raw = [(b"content-disposition", 'filename="\u00e9.pdf"'.encode("latin-1")), (b"x-name", "M\u00fcller".encode())]
    assert wire().outcome(REQUEST, 200, raw, b"x").response.content == b"x"


@pytest.mark.parametrize(
    "asked",
    [Request("POST", "/x", json={1, 2}), Request("POST", "/x", json=float("nan"))],
)
def test_what_cannot_be_encoded_is_the_callers_mistake(asked: Request) -> None:
    with pytest.raises(InvalidArguments, match="can't be sent"):
        wire().request(ATTEMPT, asked)

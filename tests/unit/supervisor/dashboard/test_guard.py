"""Who may look, and what he gets before the node is asked."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from toolring.supervisor.dashboard.guard import API, STATIC, Guard
from toolring.supervisor.web import Reply, Request

TOKEN = "0123456789abcdef"


def answer(guard: Guard, path: str = "/api/node", host: str = "127.0.0.1:9465", **headers: str) -> Reply | None:
    return guard.answer(Request(path, "", {"host": host, **headers}))


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:9465", "[::1]", "LOCALHOST:1"])
def test_its_own_names_are_known_at_any_port(host: str) -> None:
    assert answer(Guard("127.0.0.1", ""), host=host) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost.", "10.0.0.7", "[::1", "[::1]x", "localhost:x", "::1"],
)
def test_no_other_name_is_served_not_even_the_page(host: str) -> None:
    for path in ("/", "/api/node"):
        refused = answer(Guard("127.0.0.1", ""), path, host)
        assert refused is not None
        assert refused.status == 421


def test_the_name_that_is_configured_is_known_too() -> None:
    guard = Guard("tools.example", TOKEN)
    assert answer(guard, "/", "tools.example:80") is not None
    assert answer(guard, "/", "tools.example:80").status == 200  # type: ignore[union-attr]


def test_where_all_addresses_are_listened_at_any_number_is_known_and_no_name() -> None:
    guard = Guard("0.0.0.0", TOKEN)
    statuses = [answer(guard, "/", host).status for host in ("10.0.0.7:1", "[2001:db8::1]:1", "evil.example")]  # type: ignore[union-attr]
    assert statuses == [200, 200, 421]


@pytest.mark.parametrize(
    ("said", "may"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        ("", False),
        ("Bearer", False),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer \xff", False),
    ],
)
def test_what_the_node_tells_is_for_those_who_know_the_token(said: str, may: bool) -> None:
    told = answer(Guard("127.0.0.1", TOKEN), authorization=said)
    if may:
        assert told is None
    else:
        assert told is not None
        assert told.status == 401
        assert msgspec.json.decode(b"".join(told.body))["error"]["code"] == "NO_TOKEN"


def test_the_page_and_its_scripts_are_for_everybody_and_there_is_nothing_else() -> None:
    guard = Guard("127.0.0.1", TOKEN)
    assert set(guard.paths) - set(API) == {"/"} | {f"/{file.name}" for file in STATIC.iterdir()} - {"/index.html"}
    for path in set(guard.paths) - set(API):
        told = answer(guard, path)
        assert told is not None
        assert told.status == 200, path
        assert told.body[0]


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda file: file.name)
def test_nothing_is_put_in_as_markup_run_from_text_or_fetched_from_elsewhere(file: Path) -> None:
    text = file.read_text()
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|javascript:|DOMParser|srcdoc"
    )
    assert not re.findall(banned, text)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    if file.suffix == ".html":
        assert not re.findall(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", text)

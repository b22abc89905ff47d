from __future__ import annotations

import datetime
import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.cli.output import as_line, paint, plain, report, show, table
from toolring.errors import LoadError, ToolError


def test_columns_are_as_wide_as_they_must_be_and_numbers_stand_right() -> None:
    assert table(("NAME", "N", "MS"), [("search", 12, 1.5), ("x", 1234567, 250.4), ("none", None, None)]).split(
        "\n"
    ) == [
        "NAME            N     MS",
        "search         12  1.500",
        "x       1,234,567    250",
        "none            -      -",
    ]


def test_a_table_without_rows_is_its_heading() -> None:
    assert table(("A", "B"), []) == "A  B"


@given(
    st.lists(
        st.tuples(st.text("abc ", max_size=5), st.integers() | st.none() | st.floats(allow_nan=False), st.booleans())
    )
)
def test_every_row_is_a_line(rows: list[tuple[Any, ...]]) -> None:
    lines = table(("TEXT", "NUMBER", "FLAG"), rows).split("\n")
    assert len(lines) == len(rows) + 1
    assert not any(line.endswith(" ") for line in lines)


def test_results_become_what_json_can_hold() -> None:
    value = {1: (1, 2), "b": b"\0\xff", "when": datetime.date(2020, 1, 2), "none": None, "n": 1.5}
    assert plain(value) == {"1": [1, 2], "b": "AP8=", "when": "2020-01-02", "none": None, "n": 1.5}
    json.dumps(plain(value))


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", '{"ä": ["😀", "AA=="]}'),
        ("UTF8", '{"ä": ["😀", "AA=="]}'),
        ("ascii", '{"\\u00e4": ["\\ud83d\\ude00", "AA=="]}'),
    ],
)
def test_a_line_of_json_stays_json_in_any_locale(encoding: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert as_line({"ä": ("😀", b"\0")}) == line
    assert json.loads(line) == {"ä": ["😀", "AA=="]}
    assert "\n" not in as_line({"text": "a\nb"})


def test_text_is_shown_as_it_is_and_the_rest_as_json() -> None:
    out = io.StringIO()
    show("a\nb", out)
    show({"ä": 1}, out)
    assert out.getvalue() == 'a\nb\n{\n  "ä": 1\n}\n'


def test_bytes_are_written_as_bytes() -> None:
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, "ascii", write_through=True)
    show(b"\0\xff", text)
    assert raw.getvalue() == b"\0\xff"


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paint("x", "1") == "x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("x", "1") == "\x1b[1mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "1") == "x"


def test_an_error_is_one_line_for_people_with_their_traceback_below(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(LoadError("it broke", traceback="Traceback ...\n  deep\n")) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "toolring: LOAD: it broke\nTraceback ...\n  deep\n"


def test_an_error_is_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ToolError("it broke", traceback="...", odd=b"x"), as_json=True) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "TOOL_ERROR"
    assert err == "toolring: TOOL_ERROR: it broke\n"

"""``toolring map`` with a client that runs nothing: what it is asked for, what is printed, how it ends."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from toolring.cli import map as command
from toolring.cli.main import main
from toolring.cli.map import Calls
from toolring.errors import Expired, InvalidArguments, ToolError, ToolringError, UnknownTool

ERRORS: dict[str, Callable[[], ToolringError]] = {
    "bad": lambda: ToolError("it broke", job="j-1", odd=b"\0"),
    "late": lambda: Expired("too late"),
}


class Stub:
    """Answers each call with its ``x``, or the error of that name."""

    asked: ClassVar[dict[str, Any]] = {}
    answered: ClassVar[list[Any]] = []

    def __init__(self, address: str | None) -> None:
        Stub.asked = {"address": address}
        Stub.answered = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        Stub.asked["closed"] = True

    def policy(self, name: str) -> None:
        if name != "tool":
            raise UnknownTool(f"no tool {name!r} here")

    def map(self, name: str, arguments: Calls, **options: Any) -> Iterator[Any]:
        Stub.asked.update(options)
        try:
            for index, call in enumerate(arguments):
                result = ERRORS[call["x"]]() if call["x"] in ERRORS else call["x"]
                Stub.answered.append(result)
                yield result if options["ordered"] else (index, result)
        finally:
            Stub.asked["left"] = True


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolring.client.sync.Client", Stub)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, {"x": 1}, {"x": "two"})


def written(directory: Path, *calls: Any) -> Path:
    path = directory / "calls.jsonl"
    path.write_text("".join(f"{call if isinstance(call, str) else json.dumps(call)}\n" for call in calls))
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]


def test_a_line_goes_out_for_each_that_comes_in(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "tool", str(file)]) == 0
    assert printed(capsys) == [{"result": 1}, {"result": "two"}]
    assert Stub.asked == {
        "address": None,
        "timeout": None,
        "window": None,
        "chunk": 1,
        "ordered": True,
        "errors": "return",
        "progress": True,
        "partition": "",
        "priority": "normal",
        "left": True,
        "closed": True,
    }


OPTIONS = [
    *("--chunk", "8", "--window", "64", "--timeout", "2.5", "--unordered", "--errors", "keep"),
    *("--priority", "high", "--partition", "mine", "--address", "ipc:///x.sock"),
]


@pytest.mark.parametrize("tool_at", [0, 2, len(OPTIONS)])
@pytest.mark.parametrize("file_at", [0, 2, len(OPTIONS)])
def test_options_may_stand_anywhere(file: Path, tool_at: int, file_at: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = list(OPTIONS)
    words.insert(max(tool_at, file_at), str(file))
    words.insert(min(tool_at, file_at), "tool")
    assert main(["map", *words]) == 0
    assert printed(capsys) == [{"index": 0, "result": 1}, {"index": 1, "result": "two"}]
    told = {key: Stub.asked[key] for key in ("chunk", "window", "timeout", "ordered", "priority", "partition")}
    assert told == {
        "chunk": 8,
        "window": 64,
        "timeout": 2.5,
        "ordered": False,
        "priority": "high",
        "partition": "mine",
    }
    assert Stub.asked["address"] == "ipc:///x.sock"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["tool", "a", "b"],
        ["tool", "a", "--chunk", "2", "b"],
        ["tool", "--chunk", "2", "a", "b"],
        ["tool", "--chunk", "many"],
        ["tool", "--errors", "ignore"],
        ["tool", "--priority", "urgent"],
        ["tool", "--json"],
    ],
)
def test_bad_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["map", *words])
    assert caught.value.code == 2
    assert "usage: toolring" in capsys.readouterr().err


@pytest.mark.parametrize("word", [None, "-"])
def test_without_a_file_it_is_standard_input(word: str | None) -> None:
    with command._opened(word) as source:
        assert source.fileno() == 0


@pytest.mark.parametrize("unordered", [False, True])
def test_the_first_error_ends_it_with_its_own_status(
    tmp_path: Path, unordered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, {"x": 1}, {"x": "late"}, {"x": 3})
    assert main(["map", "tool", str(file), *(["--unordered"] if unordered else [])]) == 6
    out, err = capsys.readouterr()
    assert out == ('{"index": 0, "result": 1}\n' if unordered else '{"result": 1}\n')
    assert err == "toolring: EXPIRED: line 2: too late\n"
    assert len(Stub.answered) == 2
    assert Stub.asked["left"]


def test_or_errors_stand_in_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, {"x": 1}, {"x": "bad"}, {"x": 3})
    assert main(["map", "tool", str(file), "--errors", "keep"]) == 1
    error = {"code": "TOOL_ERROR", "message": "it broke", "job": "j-1", "odd": "AA=="}
    assert printed(capsys) == [{"result": 1}, {"error": error}, {"result": 3}]
    assert main(["map", "tool", str(file), "--errors", "keep", "--unordered"]) == 1
    assert printed(capsys)[1] == {"index": 1, "error": error}


@pytest.mark.parametrize("errors", ["stop", "keep"])
def test_what_is_no_call_ends_it_after_those_before_it(
    tmp_path: Path, errors: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, {"x": 1}, {"x": 2}, "[3]", {"x": 4})
    assert main(["map", "tool", str(file), "--errors", errors]) == 2
    out, err = capsys.readouterr()
    assert out == '{"result": 1}\n{"result": 2}\n'
    assert err.startswith("toolring: INVALID_ARGUMENTS: line 3 is not a JSON object: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        *(b"[1]", b"5", b"null", b'"x"', b"{", b"{'x': 1}", b'{"x": 1} {"x": 2}', b'{"x": NaN}', b'{"x": "\xff"}'),
        *(b'{"x": "\\ud800"}', b'{"x": ' + b"[" * 100_000, b"\0", b"", b" "),
    ],
    ids=lambda line: line[:20],
)
def test_what_is_no_call_is_refused_by_its_line(line: bytes) -> None:
    calls = Calls(io.BytesIO(b'{"x": 1}\n' + line + b'\n{"x": 2}\n'))
    assert list(calls) == [{"x": 1}]
    assert isinstance(calls.wrong, InvalidArguments)
    assert str(calls.wrong).startswith("line 2 is not a JSON object: ")
    assert calls.wrong.facts == {"line": 2}


@pytest.mark.parametrize(
    ("line", "call"),
    [
        (b"{}", {}),
        (b' {"x": 1} \r', {"x": 1}),
        ('{"x": "Grüße"}'.encode(), {"x": "Grüße"}),
        (b'{"x": [1, {"y": null}]}', {"x": [1, {"y": None}]}),
        (b'{"x": 18446744073709551616}', {"x": 2**64}),
    ],
)
def test_any_json_object_is_a_call(line: bytes, call: dict[str, Any]) -> None:
    calls = Calls(io.BytesIO(line + b"\n" + line))
    assert list(calls) == [call, call]
    assert calls.wrong is None


def test_a_line_is_read_no_earlier_than_it_is_wanted() -> None:
    source = io.BytesIO(b'{"x": 1}\n{"x": 2}\n')
    calls = iter(Calls(source))
    assert source.tell() == 0
    assert next(calls) == {"x": 1}
    assert source.readline() == b'{"x": 2}\n'


def test_nothing_comes_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "tool", str(written(tmp_path))]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["none.jsonl", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Stub.asked = {}
    assert main(["map", "tool", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"toolring: INVALID_ARGUMENTS: {tmp_path / name} can't be read: ")
    assert err.count("\n") == 1
    assert Stub.asked == {}, "no node is asked"


def test_a_file_that_can_be_read_no_further_ends_it_after_the_calls_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(io.BytesIO):
        def __next__(self) -> bytes:
            line = self.readline()
            if not line:
                raise OSError("input/output error")
            return line

    monkeypatch.setattr(command, "_opened", lambda file: Broken(b'{"x": 1}\n'))
    assert main(["map", "tool", "tape"]) == 1
    assert capsys.readouterr() == ('{"result": 1}\n', "toolring: input/output error\n")


def test_an_unknown_tool_is_refused_before_a_line_is_read(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "toll", str(file), "--errors", "keep"]) == 2
    assert "UNKNOWN_TOOL" in capsys.readouterr().err
    assert Stub.answered == []


def test_no_bar_is_drawn_where_the_results_are(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["map", "tool", str(file)]) == 0
    assert Stub.asked["progress"] is False

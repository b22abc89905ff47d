"""The declarations: what agents see of the tools, and that each works as a plain function."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from toolring.context import Context
from toolring.declare import Tool
from toolring.errors import Cancelled, InvalidArguments
from toolring.plugins.tools import code
from toolring.plugins.tools.roots import ROOT_VARIABLE, CodeRoot, SourceFile

Write = Callable[[str, str | bytes], SourceFile]

TOOLS: dict[str, Tool[Any, Any]] = {
    tool.spec.name: tool
    for tool in (
        code.outline,
        code.search,
        code.definition,
        code.complexity,
        code.read_lines,
        code.list_files,
    )
}


@pytest.fixture(autouse=True)
def configured(root: CodeRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, root.path)


def context(cancelled: bool = False) -> Context:
    return Context(
        job="job",
        tool="tool",
        attempt=1,
        deadline=None,
        cancelled=lambda: cancelled,
        make_logger=lambda **_: None,
    )


def call(name: str, /, **arguments: Any) -> Any:
    """As a worker calls it: arguments are decoded, the result is encoded."""
    tool = TOOLS[name]
    decoded = tool.decode(msgspec.msgpack.encode(arguments))
    values = {field: getattr(decoded, field) for field in decoded.__struct_fields__}
    if tool.context_parameter:
        values[tool.context_parameter] = context()
    return msgspec.msgpack.decode(msgspec.msgpack.encode(tool(**values)))


def test_the_module_declares_exactly_these_tools() -> None:
    assert {value.spec.name for value in vars(code).values() if isinstance(value, Tool)} == set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_specs(name: str) -> None:
    spec = TOOLS[name].spec
    assert spec.read_only
    assert not spec.destructive
    assert not spec.open_world
    assert spec.timeout
    assert len(spec.description) > 100
    assert spec.parameters["type"] == "object"
    assert spec.parameters["additionalProperties"] is False
    assert "context" not in spec.parameters["properties"]
    assert set(spec.parameters["properties"]) == set(TOOLS[name].arguments.__struct_fields__)


def test_routing_and_caching() -> None:
    assert {name for name, tool in TOOLS.items() if tool.spec.affinity} == {
        "outline",
        "definition",
        "complexity",
    }
    assert {name for name, tool in TOOLS.items() if tool.spec.cache} == {"search"}


def test_each_works(write: Write) -> None:
    write("d/m.py", "def f():\n    return 1 if x else 2\n")
    assert call("outline", path="d/m.py")["symbols"][0]["signature"] == "def f()"
    found = call("search", pattern="return", glob="*.py", context_lines=1)
    assert found["matches"][0]["before"] == ["def f():"]
    assert call("definition", name="m.f")["definitions"][0]["line"] == 1
    assert call("complexity", path="d")["functions"][0]["complexity"] == 2
    assert call("read_lines", path="d/m.py", start=2)["text"] == "2\t    return 1 if x else 2"
    assert call("list_files")["files"] == [{"path": "d/m.py", "bytes": 34}]


@pytest.mark.parametrize("name", TOOLS)
def test_each_is_confined(name: str) -> None:
    required = {"search": {"pattern": "x"}, "definition": {"name": "x"}}.get(name, {})
    for path in ("../secret.py", "/etc", ".."):
        with pytest.raises(PermissionError, match=re.escape(f"{path!r} is outside")):
            call(name, path=path, **required)
    with pytest.raises(FileNotFoundError, match=r"no file 'no\.py'"):
        call(name, path="no.py", **required)


def test_a_broken_file_is_an_error_alone_and_named_in_a_directory(write: Write) -> None:
    write("a.py", "x = 1\ndef (")
    for name in ("outline", "complexity"):
        with pytest.raises(SyntaxError, match=r"a\.py, line 2"):
            call(name, path="a.py")
    assert call("complexity", path=".")["unparsed"] == ["a.py"]


@pytest.mark.parametrize(
    ("name", "arguments", "culprit"),
    [
        ("outline", {}, "path"),
        ("search", {"pattern": ""}, "pattern"),
        ("search", {"pattern": "x", "context_lines": 6}, "context_lines"),
        ("search", {"pattern": "x", "max_results": 0}, "max_results"),
        ("definition", {"name": "a b"}, "name"),
        ("definition", {"name": "a..b"}, "name"),
        ("complexity", {"path": ".", "top": 201}, "top"),
        ("read_lines", {"path": "a", "start": 0}, "start"),
        ("list_files", {"glob": ""}, "glob"),
        ("list_files", {"pattern": "*"}, "pattern"),
    ],
)
def test_invalid_arguments_are_refused_by_name(name: str, arguments: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        call(name, **arguments)
    assert caught.value.facts["argument"] == culprit


def test_nobody_waits(write: Write) -> None:
    write("a.py", "x = 1")
    gone = context(cancelled=True)
    for run in (
        lambda: code.search(gone, "x"),
        lambda: code.definition(gone, "x"),
        lambda: code.complexity(gone, "."),
        lambda: code.list_files(gone),
    ):
        with pytest.raises(Cancelled):
            run()

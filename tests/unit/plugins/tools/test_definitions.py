from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from toolring.plugins.tools import definitions
from toolring.plugins.tools.definitions import candidate_names, find_definitions
from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.sources import parse, read_text
from toolring.plugins.tools.symbols import Symbol, symbols
from toolring.plugins.tools.trees import walk

Write = Callable[[str, str | bytes], SourceFile]

SHAPES = '''"""Shapes."""
LIMIT: int = 3
A, (B, *C) = D = load()
class Color(Enum): RED = 1; GREEN = 2
class Shape:
    """A shape."""
    sides = 0
    class Error(Exception): ...
    async  def area(self):
        """Its area."""
        def inner(): ...
        local = 1
if DEBUG: flag = True
(E,
 F
 ) = 1, 2
def area(): ...
'''


def find(files: list[SourceFile], name: str, limit: int = 20) -> list[tuple[str, str, int]]:
    found = find_definitions(files, name, limit).definitions
    return [(one.name, one.kind, one.line) for one in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Shape", [("Shape", "class", 5)]),
        ("LIMIT", [("LIMIT", "constant", 2)]),
        ("A", [("A", "constant", 3)]),
        ("B", [("B", "constant", 3)]),
        ("C", [("C", "constant", 3)]),
        ("D", [("D", "constant", 3)]),
        ("F", [("F", "constant", 15)]),
        ("RED", [("Color.RED", "attribute", 4)]),
        ("GREEN", [("Color.GREEN", "attribute", 4)]),
        ("sides", [("Shape.sides", "attribute", 7)]),
        ("flag", [("flag", "variable", 13)]),
        ("area", [("Shape.area", "method", 9), ("area", "function", 17)]),
        ("Shape.area", [("Shape.area", "method", 9)]),
        ("pkg.shapes.Shape.area", [("Shape.area", "method", 9)]),
        ("shapes.area", [("area", "function", 17)]),
        ("area.inner", [("Shape.area.<locals>.inner", "function", 11)]),
        ("Error", [("Shape.Error", "class", 8)]),
        ("hape", []),
        ("local", []),
        ("ape.area", []),
        ("Enum", []),
    ],
)
def test_names(write: Write, name: str, expected: list[tuple[str, str, int]]) -> None:
    assert find([write("pkg/shapes.py", SHAPES)], name) == expected


def test_packages_are_named_by_their_directory(write: Write) -> None:
    files = [write("pkg/__init__.py", "def f(): ..."), write("pkg/stub.pyi", "def g(): ...")]
    assert find(files, "pkg.f")
    assert find(files, "pkg.stub.g")


def test_the_answer_in_full(write: Write) -> None:
    result = find_definitions([write("m.py", SHAPES)], "Shape.area", 5)
    assert msgspec.to_builtins(result) == {
        "definitions": [
            {
                "path": "m.py",
                "line": 9,
                "kind": "method",
                "name": "Shape.area",
                "signature": "async def area(self)",
                "doc": "Its area.",
            }
        ],
        "truncated": False,
        "files_scanned": 1,
        "unparsed": [],
    }


def test_the_limit(write: Write) -> None:
    files = [write(f"{name}.py", "def f(): ...\nclass C:\n  def f(self): ...") for name in "abc"]
    result = find_definitions(files, "f", 3)
    assert ([found.path for found in result.definitions], result.truncated) == (
        ["a.py", "a.py", "b.py"],
        True,
    )
    assert not find_definitions(files, "f", 6).truncated


def test_broken_and_binary_files_do_not_stop_it(write: Write) -> None:
    files = [
        write("a.py", "def f(:"),
        write("b.py", b"\0"),
        write("c.py", "def f(): ..."),
        write("d.py", "def ("),
    ]
    result = find_definitions(files, "f", 5)
    assert [found.path for found in result.definitions] == ["c.py"]
    assert result.unparsed == ["a.py"], "d.py can't define f"


def test_edits_are_seen_at_once(root: CodeRoot, write: Write) -> None:
    write("a.py", "def old(): ...")
    assert find(list(walk(root)), "old")
    write("a.py", "def newer(): ...")
    assert not find(list(walk(root)), "old")
    assert find(list(walk(root)), "newer")


def test_a_second_call_reads_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write("a.py", SHAPES), write("b.py", "x = 1")]
    first = find(files, "Shape")

    def refuse(file: SourceFile) -> Iterator[str]:
        raise AssertionError(f"{file.shown} was read again")

    monkeypatch.setattr(definitions, "read_text", refuse)
    monkeypatch.setattr(definitions, "parse", refuse)
    assert find(files, "Shape") == first


def test_the_standard_library(stdlib: CodeRoot) -> None:
    files = list(walk(stdlib, "json", "*.py"))
    assert find(files, "JSONDecoder.decode") == find(files, "json.decoder.JSONDecoder.decode")
    assert find(files, "JSONDecoder")[0][:2] == ("JSONDecoder", "class")


def test_the_quick_scan_misses_no_definition_of_the_standard_library(sample: list[SourceFile]) -> None:
    def names(found: list[Symbol]) -> set[str]:
        return {name for symbol in found for name in (symbol.name, *names(symbol.children))}

    for file in sample:
        try:
            defined = names(symbols(parse(file)))
        except SyntaxError:
            continue
        assert defined <= candidate_names(read_text(file)), file.shown

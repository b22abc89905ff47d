from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from toolring.plugins.tools.outlines import Outline, outline
from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.symbols import Symbol

Write = Callable[[str, str | bytes], SourceFile]


def flat(found: list[Symbol]) -> list[Symbol]:
    return [inner for symbol in found for inner in (symbol, *flat(symbol.children))]


def test_a_module(write: Write) -> None:
    found = outline(
        write(
            "m.py",
            '"""Doc.\n\nMore."""\nimport a, b.c as d\n'
            "try:\n    from . import e\nexcept ImportError:\n    e = None\n"
            "def f():\n    import inner\n",
        )
    )
    assert (found.path, found.lines, found.doc) == ("m.py", 10, "Doc.")
    assert found.imports == ["import a, b.c as d", "from . import e"]
    assert [symbol.name for symbol in found.symbols] == ["e", "f"]


@pytest.mark.parametrize("content", ["", "\n", "# only a comment", b"\xef\xbb\xbf"])
def test_empty_files(write: Write, content: str | bytes) -> None:
    found = outline(write("m.py", content))
    assert (found.doc, found.imports, found.symbols) == ("", [], [])


def test_encodings(write: Write) -> None:
    assert outline(write("a.py", b"# coding: latin-1\n'''\xe9'''\n\xe9t\xe9 = 1")).symbols[0].name == "été"
    assert outline(write("a.py", b"\xef\xbb\xbfA = 1\r\nB = 2\r\n")).symbols[1].line == 2
    with pytest.raises(SyntaxError, match=r"a\.py, line"):
        outline(write("a.py", b"x = '\xff'\n"))


def test_an_edit_is_seen_at_once_also_after_an_error(write: Write) -> None:
    assert outline(write("a.py", "def one(): ...")).symbols[0].name == "one"
    with pytest.raises(SyntaxError, match=r"a\.py, line 1"):
        outline(write("a.py", "def ("))
    assert outline(write("a.py", "def three(): ...")).symbols[0].name == "three"


def test_a_known_file_of_the_standard_library(stdlib: CodeRoot) -> None:
    found = outline(stdlib.file("json/decoder.py"))
    decoder = next(symbol for symbol in found.symbols if symbol.name == "JSONDecoder")
    assert decoder.doc == "Simple JSON <https://json.org> decoder"
    assert [method.name for method in decoder.children] == ["__init__", "decode", "raw_decode"]


def test_any_file_of_the_standard_library_is_outlined_or_named(sample: list[SourceFile]) -> None:
    for file in sample:
        data = Path(file.path).read_bytes()
        if valid(data):
            check(outline(file), ast.parse(data))
        else:
            with pytest.raises(SyntaxError, match=f"^{re.escape(file.shown)}"):
                outline(file)


def valid(data: bytes) -> bool:
    try:
        ast.parse(data)
    except SyntaxError:
        return False
    return True


def check(found: Outline, tree: ast.Module) -> None:
    assert msgspec.msgpack.encode(found)
    every = flat(found.symbols)
    defined = [symbol for symbol in every if symbol.kind in {"class", "function", "method"}]
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    assert sorted((symbol.line, symbol.end, symbol.name) for symbol in defined) == sorted(
        (node.lineno, node.end_lineno, node.name) for node in nodes
    )
    assert all(1 <= symbol.line <= symbol.end <= found.lines for symbol in every)

from __future__ import annotations

import ast

import msgspec
import pytest

from toolring.plugins.tools.sources import Source, split_lines
from toolring.plugins.tools.symbols import Symbol, statements, symbols


def symbols_of(code: str) -> list[Symbol]:
    return symbols(Source(split_lines(code), ast.parse(code)))


def named(code: str) -> list[tuple[str, str]]:
    return [(symbol.kind, symbol.name) for symbol in symbols_of(code)]


def test_a_class_in_full() -> None:
    (found,) = symbols_of('''
@dataclass(frozen=True)
class Point(Base, metaclass=Meta):
    """
    A point.

    More.
    """
    x: int = 0

    @property
    @cached
    async def far(self, a, /, *b: int, c="d", **e) -> bool:
        """Is it?"""
        def inner(): ...
        local = 1
''')
    assert msgspec.to_builtins(found) == {
        "kind": "class",
        "name": "Point",
        "line": 3,
        "end": 16,
        "start": 2,
        "signature": "class Point(Base, metaclass=Meta)",
        "doc": "A point.",
        "decorators": ["dataclass(frozen=True)"],
        "children": [
            {"kind": "attribute", "name": "x", "line": 9, "end": 9, "signature": "x: int = 0"},
            {
                "kind": "method",
                "name": "far",
                "line": 13,
                "end": 16,
                "start": 11,
                "signature": "async def far(self, a, /, *b: int, c='d', **e) -> bool",
                "doc": "Is it?",
                "decorators": ["property", "cached"],
                "children": [
                    {"kind": "function", "name": "inner", "line": 15, "end": 15, "signature": "def inner()"},
                ],
            },
        ],
    }


def test_assignments_of_all_kinds() -> None:
    code = "A = b = 1\n(c, [D, *e]), f.g, h[0] = x\ni: int\nj += 1\nfor k in (l := x): pass\n"
    expected = {("constant", name) for name in "AD"} | {("variable", name) for name in "bcei"}
    assert set(named(code)) == expected


def test_compound_statements_belong_to_their_scope() -> None:
    code = """
if a: A = 1
elif b:
    def f(): ...
else:
    class C: ...
try: B = 1
except E: D = 1
else: G = 1
finally: H = 1
with x:
    while y:
        I = 1
match z:
    case 1: J = 1
"""
    assert [name for _, name in named(code)] == list("AfCBDGHIJ")


def test_long_elif_chains_do_not_exhaust_the_stack() -> None:
    code = "if x: pass\n" + "elif x: pass\n" * 500 + "else:\n  A = 1\n"
    assert named(code) == [("constant", "A")]
    assert len(list(statements(ast.parse(code).body))) == 1003


def test_long_and_odd_things_are_cut() -> None:
    (found,) = symbols_of(f"def f(x={'1+' * 400}1, y='''a\n\nb'''):\n  '\\ud800 {'x' * 999}'")
    assert len(found.signature) <= 300
    assert len(found.doc) <= 200
    found.doc.encode()


@pytest.mark.skipif(not hasattr(ast, "TypeAlias"), reason="type statements come with Python 3.12")
def test_type_statements_and_parameters() -> None:
    assert named("type X = int") == [("type alias", "X")]
    assert symbols_of("def f[T](x: T): ...")[0].signature == "def f[T](x: T)"

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.tools.complexity import complexity, report
from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.trees import walk

Write = Callable[[str, str | bytes], SourceFile]


def of(body: str) -> int:
    (function,) = ast.parse("async def f():\n" + "\n".join(f"    {line}" for line in body.split("\n"))).body
    assert isinstance(function, ast.AsyncFunctionDef)
    return complexity(function)


@pytest.mark.parametrize(
    ("body", "conditions"),
    [
        ("pass", 0),
        ("if a: pass", 1),
        ("if a: pass\nelse: pass", 1),
        ("if a: pass\nelif b: pass\nelse: pass", 2),
        ("for x in y: pass\nelse: pass", 1),
        ("async for x in y: pass", 1),
        ("while True: break", 1),
        ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass\nfinally: pass", 2),
        ("try: pass\nexcept* A: pass", 1),
        ("with a: pass\nassert b", 0),
        ("x = a if b else c", 1),
        ("x = a and b and c or d", 3),
        ("x = a < b < c", 0),
        ("x = not a", 0),
        ("if a and b: pass", 2),
        ("x = [a for b in c]", 1),
        ("x = {a: 1 for b in c if d if e and f for g in h}", 5),
        ("x = any(a async for b in c)", 1),
        ("match a:\n  case 1: pass\n  case 2 | 3: pass\n  case _: pass", 2),
        ("match a:\n  case [x]: pass\n  case y: pass", 1),
        ("match a:\n  case [x] if x and b: pass\n  case y if y: pass", 4),
        ("match a:\n  case 1 | _: pass", 0),
        ("match a:\n  case [_] as b: pass", 1),
        ("x = lambda: a if b else c", 1),
        ("def g():\n  if a: pass", 0),
        ("@d(a if b else c)\ndef g(x=a or b, *, y=a and b, z): pass", 3),
        ("class C:\n  if a: pass\n  def m(self):\n    if b: pass", 1),
    ],
)
def test_the_rules(body: str, conditions: int) -> None:
    assert of(body) == 1 + conditions


Snippet = tuple[str, int]
"""Source lines, and how many conditions they hold: known from how they are put together."""

_plain: st.SearchStrategy[Snippet] = st.sampled_from(
    [
        ("pass", 0),
        ("x = a or b", 1),
        ("x = [y for y in z if y]", 2),
        ("x = 1 if y else 2", 1),
        ("return x", 0),
    ]
)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _compound(inner: st.SearchStrategy[Snippet]) -> st.SearchStrategy[Snippet]:
    heads = st.sampled_from(
        [
            ("if a:", 1),
            ("while a and b:", 2),
            ("for a in b:", 1),
            ("with a:", 0),
            ("def g():", None),
            ("match a:\n case 1:", 1),
        ]
    )

    def wrap(head: tuple[str, int | None], body: Snippet) -> Snippet:
        text = f"{head[0]}\n{_indented(body[0])}"
        return text, 0 if head[1] is None else head[1] + body[1]  # a nested function's conditions are its own

    def either(first: Snippet, second: Snippet) -> Snippet:
        return f"if a:\n{_indented(first[0])}\nelse:\n{_indented(second[0])}", 1 + first[1] + second[1]

    def follow(first: Snippet, second: Snippet) -> Snippet:
        return f"{first[0]}\n{second[0]}", first[1] + second[1]

    return st.builds(wrap, heads, inner) | st.builds(either, inner, inner) | st.builds(follow, inner, inner)


@given(st.recursive(_plain, _compound, max_leaves=8))
def test_it_is_one_plus_the_conditions_that_were_put_in(snippet: Snippet) -> None:
    assert of(snippet[0]) == 1 + snippet[1]


def test_functions_are_named_and_ranked(write: Write) -> None:
    code = """
def simple(): pass
class C:
    def method(self):
        if a or b: pass
        def inner():
            if a: pass
if x:
    def guarded(): return 1 if a else 2
"""
    found = report([write("m.py", code)], top=3)
    assert [(one.name, one.line, one.end, one.complexity) for one in found.functions] == [
        ("C.method", 4, 7, 3),
        ("C.method.<locals>.inner", 6, 7, 2),
        ("guarded", 9, 9, 2),
    ]
    totals = found.totals
    assert (totals.files, totals.functions, totals.complexity, totals.mean) == (1, 4, 8, 2.0)
    assert (totals.highest, totals.over_10) == (3, 0)


def test_totals_over_files(write: Write) -> None:
    files = [
        write("a.py", "def f():\n" + "  if a: pass\n" * 10),
        write("b.py", "def g(): pass"),
        write("c.py", ""),
    ]
    found = report(files, top=1)
    assert [one.name for one in found.functions] == ["f"]
    totals = found.totals
    assert (totals.files, totals.functions, totals.mean, totals.highest, totals.over_10) == (3, 2, 6.0, 11, 1)


def test_nothing_to_measure() -> None:
    found = report([], top=5)
    assert (found.functions, found.totals.functions, found.totals.mean) == ([], 0, 0.0)


def test_broken_files_are_named_or_raised(write: Write) -> None:
    files = [write("a.py", "def ("), write("b.py", "def f(): pass"), write("c.py", b"\0")]
    found = report(files, top=5)
    assert (found.unparsed, found.totals.files) == (["a.py", "c.py"], 1)
    with pytest.raises(SyntaxError, match=r"a\.py, line 1"):
        report(files, top=5, strict=True)


def test_the_standard_library_has_the_functions_that_ast_has(stdlib: CodeRoot) -> None:
    files = list(walk(stdlib, "json", "*.py"))
    trees = [ast.parse(Path(file.path).read_bytes()) for file in files]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    expected = sum(isinstance(node, kinds) for tree in trees for node in ast.walk(tree))
    found = report(files, top=3)
    assert found.totals.functions == expected
    assert found.functions[0].complexity == found.totals.highest

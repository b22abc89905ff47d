"""Cyclomatic complexity of Python functions.

T. J. McCabe, "A Complexity Measure", IEEE Transactions on Software Engineering SE-2(4), 1976, pp. 308-320:
v(G) = e - n + 2p of the control flow graph, which for a structured function is the number of its conditions
plus one. McCabe counts the conditions of a compound predicate one by one. The conditions of a Python
function, by that rule:

- ``if``, ``elif``, the conditional expression, ``for``, ``while`` (loops' ``else`` doesn't count), each
  ``except``;
- each operand but the first of ``and`` and ``or`` (a chained comparison is one condition);
- each ``for`` and each ``if`` of a comprehension;
- each ``case`` whose pattern can fail (alternatives ``a | b`` are one), and each ``case``'s guard;
- not: ``with``, ``finally``, ``assert``, ``try`` itself.

A lambda's conditions count where it is written. A nested function has its own count and adds nothing to the
one around it but its decorators and defaults, which run there; a nested class's body runs there too, its
methods don't.
"""

from __future__ import annotations

import ast
import heapq
from collections.abc import Iterable, Iterator

import msgspec

from toolring.plugins.tools.memos import FileMemo
from toolring.plugins.tools.roots import SourceFile
from toolring.plugins.tools.sources import parse
from toolring.plugins.tools.symbols import Function, statements

COMPLEX = 10
"""McCabe's own "reasonable, but not magical, upper limit" of a function."""
MEMO_BUDGET = 100_000
"""Functions whose complexity a worker keeps: some 20 MB."""

_ONE = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)
# Three fifths of all nodes; not asking them for children saves 40 % of the time.
_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)


class FunctionComplexity(msgspec.Struct, frozen=True):
    """``name`` is the qualified name in its file."""

    path: str
    line: int
    end: int
    name: str
    complexity: int


class Totals(msgspec.Struct):
    """``over_10`` counts the functions beyond McCabe's limit of 10."""

    files: int = 0
    functions: int = 0
    complexity: int = 0
    mean: float = 0.0
    highest: int = 0
    over_10: int = 0


class ComplexityReport(msgspec.Struct):
    """The most complex functions first; ``unparsed`` are Python files with syntax errors, left out of the
    totals."""

    functions: list[FunctionComplexity]
    totals: Totals
    unparsed: list[str]


def report(files: Iterable[SourceFile], top: int, *, strict: bool = False) -> ComplexityReport:
    """The ``top`` most complex functions of the Python files, and totals of all.

    Binary, huge and unparsable files are named in ``unparsed``; with ``strict`` their error is raised.
    """
    totals = Totals()
    found: list[FunctionComplexity] = []
    unparsed: list[str] = []
    for file in files:
        try:
            functions = _memo.get(file)
        except (SyntaxError, ValueError, OSError):
            if strict:
                raise
            unparsed.append(file.shown)
            continue
        _add(totals, functions)
        found = heapq.nsmallest(top, found + functions, key=_rank)
    if totals.functions:
        totals.mean = round(totals.complexity / totals.functions, 2)
    return ComplexityReport(found, totals, unparsed)


def complexity(function: Function) -> int:
    """The cyclomatic complexity of one function, by the rules above. Iterative: expressions may nest
    deeply."""
    count = 1
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        count += _conditions(node)
        pending.extend(_running_here(node))
    return count


def _conditions(node: ast.AST) -> int:
    if isinstance(node, _ONE):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        return (not _irrefutable(node.pattern)) + (node.guard is not None)
    return 0


def _irrefutable(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchOr):
        return _irrefutable(pattern.patterns[-1])  # Python allows it nowhere else
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _running_here(node: ast.AST) -> Iterable[ast.AST]:
    if isinstance(node, _LEAVES):
        return ()
    if isinstance(node, Function):
        return [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    return ast.iter_child_nodes(node)


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
    for node in statements(body):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from _functions(node.body, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")


def _measure(file: SourceFile) -> list[FunctionComplexity]:
    return [
        FunctionComplexity(file.shown, node.lineno, node.end_lineno or node.lineno, name, complexity(node))
        for name, node in _functions(parse(file).tree.body, "")
    ]


def _add(totals: Totals, functions: list[FunctionComplexity]) -> None:
    counts = [function.complexity for function in functions]
    totals.files += 1
    totals.functions += len(counts)
    totals.complexity += sum(counts)
    totals.highest = max(totals.highest, *counts) if counts else totals.highest
    totals.over_10 += sum(count > COMPLEX for count in counts)


def _rank(function: FunctionComplexity) -> tuple[int, str, int]:
    return -function.complexity, function.path, function.line


_memo = FileMemo(_measure, len, MEMO_BUDGET)

"""The named things of a Python file: classes, functions, methods, constants, variables, attributes, type
aliases."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator

import msgspec

from toolring.plugins.tools.roots import printable
from toolring.plugins.tools.sources import Source, clip

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = Function | ast.ClassDef

MAX_SIGNATURE = 300
MAX_DOC = 200


class Symbol(msgspec.Struct, omit_defaults=True):
    """One definition. ``line`` is that of its def, class or target; ``start`` that of its first decorator, if
    any."""

    kind: str
    name: str
    line: int
    end: int
    start: int | None = None
    signature: str = ""
    doc: str = ""
    decorators: list[str] = []
    children: list[Symbol] = []


def symbols(source: Source) -> list[Symbol]:
    """The module's symbols in source order, nested: also those in if, try and with blocks of their scope.

    Of assignments only plain names (also in tuples and chains) of modules and classes count, not functions'
    locals.
    """
    return _of_scope(source.tree.body, source.tree, source.lines)


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """A scope's statements in source order, those of its compound statements included, of nested scopes not.

    Iterative, since a long elif chain nests as deep as it is long.
    """
    pending: list[ast.AST] = list(body)
    pending.reverse()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, Scope | ast.expr):
            blocks = (ast.stmt, ast.excepthandler, ast.match_case)
            pending.extend([child for child in ast.iter_child_nodes(node) if isinstance(child, blocks)][::-1])


def docline(node: ast.Module | Scope) -> str:
    """The first line of the docstring, or nothing."""
    text = ast.get_docstring(node, clean=False) or ""
    return clip(printable(text.strip().partition("\n")[0].rstrip()), MAX_DOC)


def unparse(node: ast.AST) -> str:
    """Source text of a node, clipped."""
    try:
        return clip(printable(ast.unparse(node)).strip(), MAX_SIGNATURE)
    except RecursionError:  # a sum of thousands of terms as a default
        return "…"


def _of_scope(body: list[ast.stmt], scope: ast.AST, lines: list[str]) -> list[Symbol]:
    found: list[Symbol] = []
    for node in statements(body):
        if isinstance(node, Scope):
            found.append(_of_definition(node, scope, lines))
        elif not isinstance(scope, Function):
            found.extend(_of_assignment(node, scope, lines))
    return found


def _of_definition(node: Scope, scope: ast.AST, lines: list[str]) -> Symbol:
    callable_kind = "method" if isinstance(scope, ast.ClassDef) else "function"
    return Symbol(
        kind="class" if isinstance(node, ast.ClassDef) else callable_kind,
        name=node.name,
        line=node.lineno,
        end=node.end_lineno or node.lineno,
        start=node.decorator_list[0].lineno if node.decorator_list else None,
        signature=_signature(node),
        doc=docline(node),
        decorators=[unparse(decorator) for decorator in node.decorator_list],
        children=_of_scope(node.body, node, lines),
    )


def _signature(node: Scope) -> str:
    """The def or class line: what is left of the node without its decorators and body."""
    bare = copy.copy(node)
    bare.decorator_list = []
    bare.body = []
    return unparse(bare).removesuffix(":")


def _of_assignment(node: ast.stmt, scope: ast.AST, lines: list[str]) -> Iterator[Symbol]:
    for target in _targets(node):
        attribute = isinstance(scope, ast.ClassDef)
        kind = "attribute" if attribute else "constant" if target.id.isupper() else "variable"
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            kind = "type alias"
        text = clip(lines[node.lineno - 1].strip(), MAX_SIGNATURE)
        yield Symbol(kind, target.id, target.lineno, node.end_lineno or node.lineno, signature=text)


def _targets(node: ast.stmt) -> Iterator[ast.Name]:
    if isinstance(node, ast.Assign):
        pending: list[ast.expr] = node.targets[::-1]
    elif isinstance(node, ast.AnnAssign):
        pending = [node.target]
    elif type(node).__name__ == "TypeAlias":  # a statement since Python 3.12
        pending = [node.name]  # type: ignore[attr-defined]
    else:
        return
    while pending:
        target = pending.pop()
        if isinstance(target, ast.Name):
            yield target
        elif isinstance(target, ast.Tuple | ast.List):
            pending.extend(target.elts[::-1])
        elif isinstance(target, ast.Starred):
            pending.append(target.value)

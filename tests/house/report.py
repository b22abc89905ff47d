"""`make house`: what is larger than the house's marks, for somebody to judge. It never fails."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOMS: Final = ("toolring", "supervisor", "workers", "plugins")
MARKS: Final = {"file": 300, "function": 60, "methods": 20, "attributes": 12}


@dataclass(frozen=True, slots=True)
class Size:
    kind: str  # a key of MARKS
    count: int
    where: str
    name: str = ""


def sizes(root: Path) -> Iterator[Size]:
    """Every size that has a mark, of every file in the house."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            text = path.read_text()
            where = str(path.relative_to(root))
            yield Size("file", len(text.splitlines()), where)
            yield from _inside(ast.parse(text), where, "")


def _inside(node: ast.AST, where: str, outer: str) -> Iterator[Size]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _inside(child, where, outer)
            continue
        name = f"{outer}{child.name}"
        at = f"{where}:{child.lineno}"
        if not isinstance(child, ast.ClassDef):
            yield Size("function", (child.end_lineno or child.lineno) - child.lineno + 1, at, name)
        elif not _is_record(child):
            yield Size("methods", len(_methods(child)), at, name)
            yield Size("attributes", len(_attributes(child)), at, name)
        yield from _inside(child, where, f"{name}.")


def _is_record(node: ast.ClassDef) -> bool:
    """Dataclasses and msgspec's Structs list what they hold; that is no tangle."""
    marks = [ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
    bases = [ast.unparse(base) for base in node.bases]
    return any(m.endswith("dataclass") for m in marks) or any(b.endswith("Struct") for b in bases)


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)]


def _attributes(node: ast.ClassDef) -> set[str]:
    return {
        target.attr
        for method in _methods(node)
        for target in ast.walk(method)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
        if isinstance(target.value, ast.Name) and target.value.id == "self"
    }


def report(root: Path) -> str:
    found = list(sizes(root))
    lines = []
    for kind, mark in MARKS.items():
        of_kind = sorted((s for s in found if s.kind == kind), key=lambda s: (-s.count, s.where))
        over = [s for s in of_kind if s.count > mark]
        largest = of_kind[0].count if of_kind else 0
        lines.append(f"{kind} > {mark}: {len(over)} of {len(of_kind)} (the largest has {largest})")
        lines += [f"  {s.count:5}  {s.where}  {s.name}".rstrip() for s in over]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report(Path(__file__).parents[2]) + "\n")

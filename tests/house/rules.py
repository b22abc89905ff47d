"""The house's import rules, read off the syntax trees: nothing is imported, nothing is run.

A rule takes a `House` and yields what breaks it; `RULES` holds them all. The tables at the top are the whole
law of the house: who may import whom, who may touch which library, and the exceptions, each with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# --- the law ---

# folder at the top of the repository -> the package that it is
ROOMS: Final = {
    "toolring": "toolring",
    "supervisor": "toolring.supervisor",
    "workers": "toolring.workers",
    "plugins": "toolring.plugins",
}
LINKED: Final = ("supervisor", "workers", "plugins")  # toolring/<name> -> ../<name>; never import names
USERS: Final = ("tests", "benchmarks")  # not the house, but they too must not use the second names

# package or module -> layer; the longest match wins, so what is named nowhere else is shared
LAYER_OF: Final = {
    "toolring": "shared",
    "toolring.plugins": "plugins",
    "toolring.workers.cache": "cache",
    "toolring.workers.pools": "pools",
    "toolring.workers.services": "services",
    "toolring.workers": "workers",
    "toolring.resources": "resources",
    "toolring.supervisor": "supervisor",
    "toolring.client": "client",
    "toolring.testing": "testing",
    "toolring.cli": "cli",
    "toolring.__main__": "cli",
}
# layer -> the layers it may import besides its own; the public face, `toolring` itself, has no layer
MAY_IMPORT: Final = {
    "shared": frozenset[str](),
    "plugins": frozenset({"shared"}),
    "cache": frozenset({"shared", "plugins"}),
    "pools": frozenset({"shared", "plugins"}),
    "services": frozenset({"shared", "plugins"}),
    "resources": frozenset({"shared", "pools"}),
    "client": frozenset({"shared", "plugins", "cache", "pools"}),
    "supervisor": frozenset({"shared", "plugins", "cache", "pools"}),
    "workers": frozenset({"shared", "plugins", "cache", "pools", "services"}),
    "testing": frozenset({"shared", "plugins", "cache"}),
    "cli": frozenset({"shared", "plugins", "cache", "pools", "services", "client", "supervisor", "workers", "testing"}),
}
FACE_MAY_IMPORT: Final = frozenset({"shared", "plugins", "client", "pools", "services"})

# (importer, imported) that the layers forbid and the house allows
EXCEPTIONS: Final[set[tuple[str, str]]] = set()

# library -> the only modules (or packages) that import it
OWNERS: Final = {
    "zmq": ("toolring.supervisor.loop", "toolring.workers.loop", "toolring.client"),
    "multiprocess": ("toolring.supervisor.spawner", "toolring.workers.zygote"),
}

MAY_HIDE_IMPORTS: Final = ("toolring.cli", "toolring.__main__")  # start-up time
# elsewhere an import in a function says which extra it needs: `import redis  # optional: the redis extra`
OPTIONAL: Final = re.compile(r"#\s*optional:\s*\S")
TYPE_CHECKING: Final = frozenset({"TYPE_CHECKING", "typing.TYPE_CHECKING"})


# --- what is read off the files ---


@dataclass(frozen=True, slots=True)
class Violation:
    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `target` is the module that it comes from, as far as the files tell."""

    target: str
    line: int
    relative: bool = False
    hidden: bool = False  # in a function
    typing_only: bool = False
    optional: bool = False  # marked `# optional: <extra>`


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    path: Path  # from the root
    imports: tuple[Import, ...]

    def breaks(self, found: Import, text: str) -> Violation:
        return Violation(self.path, found.line, text)


@dataclass(frozen=True, slots=True)
class House:
    root: Path
    sources: dict[str, Source]  # the product, by module name
    users: tuple[Source, ...] = ()  # tests and benchmarks
    faults: tuple[Violation, ...] = field(default=())  # files that don't parse

    @classmethod
    def read(cls, root: Path) -> House:
        files: dict[str, Path] = {}
        for room, package in ROOMS.items():
            files.update(_modules(root / room, package))
        reader = _Reader(root, files)
        sources = {name: reader.read(name, path) for name, path in files.items()}
        users = [reader.read(name, path) for top in USERS for name, path in _modules(root / top, top)]
        return cls(root, sources, tuple(users), tuple(reader.faults))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer(name: str) -> str:
    return LAYER_OF[max((p for p in LAYER_OF if within(name, p)), key=len)]


def _modules(folder: Path, package: str) -> Iterator[tuple[str, Path]]:
    """Every module under `folder`; rglob follows no links, so each file is met once."""
    for path in sorted(folder.rglob("*.py")):
        parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
        yield ".".join([package, *parts]), path


@dataclass
class _Reader:
    root: Path
    files: dict[str, Path]
    faults: list[Violation] = field(default_factory=list)
    face: dict[str, str] = field(init=False)  # public name -> the module that it comes from

    def __post_init__(self) -> None:
        self.face = {}
        if path := self.files.get("toolring"):
            for node in ast.walk(self._parse(path)):
                if isinstance(node, ast.ImportFrom) and node.module and within(node.module, "toolring"):
                    self.face |= {a.asname or a.name: self._resolve(node.module, a.name) for a in node.names}

    def read(self, name: str, path: Path) -> Source:
        lines = path.read_text().splitlines()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = tuple(self._imports(self._parse(path), package, lines))
        return Source(name, path.relative_to(self.root), imports)

    def _parse(self, path: Path) -> ast.Module:
        try:
            return ast.parse(path.read_text())
        except SyntaxError as error:
            fault = Violation(path.relative_to(self.root), error.lineno or 0, f"doesn't parse: {error.msg}")
            if fault not in self.faults:
                self.faults.append(fault)
            return ast.Module([], [])

    def _imports(self, tree: ast.Module, package: str, lines: list[str]) -> Iterator[Import]:
        for node, hidden, typing_only in _import_nodes(tree):
            marked = any(OPTIONAL.search(text) for text in lines[node.lineno - 1 : node.end_lineno])
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            for target in self._targets(node, package):
                yield Import(target, node.lineno, relative, hidden, typing_only, marked)

    def _targets(self, node: ast.Import | ast.ImportFrom, package: str) -> Iterable[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            kept = parents[: max(0, len(parents) - node.level + 1)]
            base = ".".join([*kept, base] if base else kept)
        return dict.fromkeys(self._resolve(base, alias.name) for alias in node.names)

    def _resolve(self, module: str, name: str) -> str:
        """`from module import name`: the submodule if there is one, and what the face shows is its home's."""
        if f"{module}.{name}" in self.files:
            return f"{module}.{name}"
        return self.face.get(name, module) if module == "toolring" else module


def _import_nodes(
    node: ast.AST, hidden: bool = False, typing_only: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, hidden, typing_only
        elif isinstance(child, ast.If) and ast.unparse(child.test) in TYPE_CHECKING:
            yield from _import_nodes(ast.Module(child.body, []), hidden, True)
            yield from _import_nodes(ast.Module(child.orelse, []), hidden, typing_only)
        else:
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _import_nodes(child, hidden or in_function, typing_only)


# --- the rules ---


def parses(house: House) -> Iterator[Violation]:
    """A file that doesn't parse would pass every other rule."""
    yield from house.faults


def links(house: House) -> Iterator[Violation]:
    """toolring/<room> is a relative link to ../<room>, so the one import name resolves in every checkout."""
    for room in LINKED:
        link = house.root / "toolring" / room
        if (house.root / room).is_dir() and not (link.is_symlink() and str(link.readlink()) == f"../{room}"):
            yield Violation(link.relative_to(house.root), 0, f"must be a link to ../{room}")


def one_name(house: House) -> Iterator[Violation]:
    """Imports are absolute, and a file goes by its name under toolring: under two names it is two modules."""
    for source in (*house.sources.values(), *house.users):
        for found in source.imports:
            if found.relative:
                yield source.breaks(found, "relative import: write it from toolring on")
            elif (top := found.target.partition(".")[0]) in LINKED:
                yield source.breaks(found, f"second name: import toolring.{found.target}, not {top}")


def directions(house: House) -> Iterator[Violation]:
    """Shared <- plugins <- {supervisor, workers, client} <- cli; cache and pools are libraries."""
    for source in house.sources.values():
        is_face = source.name == "toolring"
        mine = "face" if is_face else layer(source.name)
        allowed = FACE_MAY_IMPORT if is_face else MAY_IMPORT[mine] | {mine}
        for found in source.imports:
            target = found.target
            if not within(target, "toolring") or target == "toolring" or (source.name, target) in EXCEPTIONS:
                continue
            if layer(target) not in allowed:
                yield source.breaks(found, f"{mine} must not import {layer(target)} ({target})")


def owners(house: House) -> Iterator[Violation]:
    """A library with an owner is imported by its owner only."""
    for source in house.sources.values():
        for found in source.imports:
            library = found.target.partition(".")[0]
            if library in OWNERS and not any(within(source.name, owner) for owner in OWNERS[library]):
                yield source.breaks(found, f"{library} is imported by {', '.join(OWNERS[library])} only")


def hidden_imports(house: House) -> Iterator[Violation]:
    """Imports stand at the top, except in the command line and where `# optional: <extra>` says why not."""
    for source in house.sources.values():
        if any(within(source.name, package) for package in MAY_HIDE_IMPORTS):
            continue
        for found in source.imports:
            if found.hidden and not found.optional:
                yield source.breaks(found, f"{found.target}: imported inside a function, and not `# optional:`")


def cycles(house: House) -> Iterator[Violation]:
    """Modules that import each other when they load are one module in pieces."""
    graph = {
        name: {
            found.target: found
            for found in reversed(source.imports)
            if found.target in house.sources and not (found.hidden or found.typing_only)
        }
        for name, source in house.sources.items()
    }
    for ring in _rings({name: tuple(edges) for name, edges in graph.items()}):
        yield house.sources[ring[0]].breaks(
            graph[ring[0]][ring[1 % len(ring)]], f"import cycle: {' -> '.join([*ring, ring[0]])}"
        )


def unit_tests_mirror(house: House) -> Iterator[Violation]:
    """tests/unit/[folder/]test_<module>.py tests a module [folder.]<module> that exists."""
    folder = house.root / "tests" / "unit"
    for path in sorted(folder.rglob("test_*.py")):
        parts = (*path.relative_to(folder).parent.parts, path.stem.removeprefix("test_"))
        wanted = ".".join(parts)
        if not any(name == wanted or name.endswith("." + wanted) for name in house.sources):
            yield Violation(path.relative_to(house.root), 0, f"mirrors no module: there is no {wanted}")


RULES: Final[tuple[Callable[[House], Iterator[Violation]], ...]] = (
    parses,
    links,
    one_name,
    directions,
    owners,
    hidden_imports,
    cycles,
    unit_tests_mirror,
)


def _rings(graph: dict[str, tuple[str, ...]]) -> Iterator[list[str]]:
    """Rings that together touch every module that can reach itself; each is a shortest one."""
    seen: set[str] = set()
    for start in sorted(graph):
        if start in seen:
            continue
        came_from: dict[str, str] = {}
        frontier = [start]
        while frontier and start not in came_from:
            following = []
            for node in frontier:
                for target in sorted(graph[node]):
                    if target not in came_from:
                        came_from[target] = node
                        following.append(target)
            frontier = following
        if start not in came_from:
            continue
        ring = [start]
        while (node := came_from[ring[-1]]) != start:
            ring.append(node)
        ring[1:] = reversed(ring[1:])
        seen.update(ring)
        yield ring

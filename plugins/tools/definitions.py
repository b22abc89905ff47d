"""Where a name is defined, by a per-process index of the tree.

Two levels, since parsing the standard library (1,800 files) takes ten seconds. A quick scan notes the names
that each file may define, several times as fast; only files that may define the wanted name are parsed, which
settles it. Both are kept by the files' stamps. What the scan may miss: targets after an attribute or a
subscript in the same tuple, names split from their ``def`` or ``=`` by a backslash, identifiers that Python
spells otherwise (NFKC).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

import msgspec

from toolring.plugins.tools.memos import FileMemo
from toolring.plugins.tools.roots import SourceFile
from toolring.plugins.tools.sources import parse, read_text
from toolring.plugins.tools.symbols import Symbol, symbols

NAMES_BUDGET = 1_000_000
"""Names that a worker's quick scan keeps: some 110 MB at most; the standard library takes 14."""
DEFINITIONS_BUDGET = 50_000
"""Definitions of parsed files that a worker keeps: some 15 MB."""

_NAMED = re.compile(r"(?:def|class|type)[ \t]+(\w+)")
# Runs of targets at the start of a line or statement: "a = b =", "(a, b) =", "a: int". Possessive for speed.
_ASSIGNED = re.compile(r"[\n;:][ \t]*+((?:[(\[*]*+\w++(?:\s*+[)\]])*+[ \t]*+[,=:][ \t]*+)++)")
_WORD = re.compile(r"\w+")


class Definition(msgspec.Struct):
    """``name`` is the qualified name in its file, such as ``JSONDecoder.decode``."""

    path: str
    line: int
    kind: str
    name: str
    signature: str
    doc: str


class DefinitionResult(msgspec.Struct):
    """``unparsed``: files that may define the name but hold syntax errors."""

    definitions: list[Definition]
    truncated: bool
    files_scanned: int
    unparsed: list[str]


def find_definitions(files: Iterable[SourceFile], name: str, limit: int) -> DefinitionResult:
    """The first ``limit`` definitions of ``name`` in Python files, in the order of the files.

    ``name`` is matched from its end on, part by part: ``decode``, ``JSONDecoder.decode`` and
    ``json.decoder.JSONDecoder.decode`` all find the method. A tree without it gives an empty list.
    """
    wanted = name.rpartition(".")[2]
    result = DefinitionResult([], False, 0, [])
    for file in files:
        result.files_scanned += 1
        if not _may_define(file, wanted):
            continue
        try:
            found = _parsed.get(file)
        except SyntaxError:
            result.unparsed.append(file.shown)
            continue
        matches = [definition for definition in found if _answers(definition, name)]
        result.definitions.extend(matches)
        if len(result.definitions) > limit:
            del result.definitions[limit:]
            result.truncated = True
            break
    return result


def candidate_names(text: str) -> frozenset[str]:
    """Every name that the source text may define: the quick scan, which errs on the side of too many."""
    text = "\n" + text
    names = set(_NAMED.findall(text))
    for run in _ASSIGNED.findall(text):
        names.update(_WORD.findall(run))
    return frozenset(map(sys.intern, names))


def _may_define(file: SourceFile, name: str) -> bool:
    try:
        return name in _scanned.get(file)
    except (ValueError, OSError):  # binary, huge, unreadable
        return False


def _answers(definition: Definition, name: str) -> bool:
    module = re.sub(r"(/__init__)?\.pyi?$", "", definition.path).replace("/", ".")
    return f".{module}.{definition.name}".replace(".<locals>", "").endswith(f".{name}")


def _scan(file: SourceFile) -> frozenset[str]:
    return candidate_names(read_text(file))


def _parse(file: SourceFile) -> list[Definition]:
    return list(_flat(symbols(parse(file)), "", file.shown))


def _flat(found: list[Symbol], prefix: str, shown: str) -> Iterator[Definition]:
    for symbol in found:
        name = prefix + symbol.name
        yield Definition(shown, symbol.line, symbol.kind, name, symbol.signature, symbol.doc)
        inner = f"{name}." if symbol.kind == "class" else f"{name}.<locals>."
        yield from _flat(symbol.children, inner, shown)


_scanned = FileMemo(_scan, len, NAMES_BUDGET)
_parsed = FileMemo(_parse, len, DEFINITIONS_BUDGET)

"""The bundled tools: reading and understanding a tree of source code, the way coding agents need it.

They read below one directory only: TOOLRING_CODE_ROOT, or the running interpreter's standard library. Where a
result depends on files, it is memoized by the files' stamps in the worker, and ``affinity`` leads equal paths
to the same worker: always fresh, and fast the second time. Only ``search`` trades freshness for a short
time-to-live.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from toolring.context import Context
from toolring.declare import tool
from toolring.plugins.tools import complexity as complexities
from toolring.plugins.tools import definitions, outlines, searching, trees
from toolring.plugins.tools.roots import CodeRoot, SourceFile

FilePath = Annotated[str, Meta(description="A file below the root: 'json/decoder.py'.", max_length=4096)]
TreePath = Annotated[
    str,
    Meta(description="A directory or file, relative to the code root; '.' is all of it.", max_length=4096),
]
Glob = Annotated[
    str,
    Meta(
        description="Files, relative to path: '*.py' (at any depth), 'json/*.py', '**/test_*.{py,txt}'.",
        min_length=1,
        max_length=200,
    ),
]


@tool(read_only=True, open_world=False, timeout=10, affinity="path")
def outline(path: FilePath) -> outlines.Outline:
    """Outline of one Python file: its imports, and its classes, functions, methods, constants and attributes,
    nested, each with signature, decorators, line range and the first line of its docstring. No bodies.

    Use it before reading a file, then read only the lines that matter with read_lines. A syntax error is
    reported with its line.
    """
    return outlines.outline(CodeRoot.configured().file(path))


@tool(read_only=True, open_world=False, timeout=10, cache=5)
def search(
    context: Context,
    pattern: Annotated[
        str,
        Meta(
            description="A Python regular expression, found within single lines.",
            min_length=1,
            max_length=1000,
        ),
    ],
    path: TreePath = ".",
    glob: Glob | None = None,
    ignore_case: bool = False,
    context_lines: Annotated[int, Meta(description="Lines shown before and after each.", ge=0, le=5)] = 0,
    max_results: Annotated[int, Meta(ge=1, le=200)] = 50,
) -> searching.SearchResult:
    """Search the code for a regular expression, line by line as grep does, in a stable order of files.

    Hidden, vendored, binary and very large files are left out. If truncated is true there are more matches:
    narrow path, glob or pattern. To find where a name is defined use definition. Answers may
    be 5 seconds old. Nested quantifiers such as (a+)+ can take forever; such a search is ended after 10
    seconds.
    """
    return searching.search(
        _files(context, path, glob),
        pattern,
        ignore_case=ignore_case,
        context_lines=context_lines,
        limit=max_results,
    )


@tool(read_only=True, open_world=False, timeout=30, affinity="path")
def definition(
    context: Context,
    name: Annotated[
        str,
        Meta(
            description="A name or a dotted one: 'loads', 'JSONDecoder.decode', 'json.decoder.JSONDecoder'.",
            pattern=r"^\w+(\.\w+)*$",
            max_length=300,
        ),
    ],
    path: TreePath = ".",
    max_results: Annotated[int, Meta(ge=1, le=100)] = 20,
) -> definitions.DefinitionResult:
    """Where a function, class, method, constant, variable, attribute or type alias is defined in the Python
    files below path: file, line, kind, signature and the first line of its docstring.

    A dotted name is matched from its end: 'Class.method' or 'package.module.name' leave fewer homonyms. An
    empty list means that no definition was found; names that are only imported or set on objects have none.
    The first call for a path reads its files (a second or two for a thousand), later ones only those that
    changed.
    """
    return definitions.find_definitions(_files(context, path, "*.py"), name, max_results)


@tool(read_only=True, open_world=False, timeout=60, affinity="path")
def complexity(
    context: Context,
    path: TreePath,
    top: Annotated[int, Meta(description="How many functions to list.", ge=1, le=200)] = 10,
) -> complexities.ComplexityReport:
    """McCabe's cyclomatic complexity of the functions in a Python file or below a directory: the most complex
    ones first, and totals over all.

    It is 1 plus the conditions: if, elif, loops, except, conditional expressions, operands of and/or after
    the first, comprehensions' for and if, refutable cases and guards. Nested functions are listed on their
    own. Above 10 a function is worth splitting. A single file with a syntax error is an error; in a directory
    such files are named in unparsed.
    """
    alone = CodeRoot.configured().is_file(path)
    return complexities.report(_files(context, path, "*.py"), top, strict=alone)


@tool(read_only=True, open_world=False, timeout=10)
def read_lines(
    path: FilePath,
    start: Annotated[int, Meta(description="The first line, counted from 1.", ge=1)] = 1,
    count: Annotated[int, Meta(description="How many lines at most.", ge=1, le=1000)] = 200,
) -> searching.LineRange:
    """Read a range of lines of a text file, each preceded by its number and a tab.

    The answer says which lines it holds and how many the file has. The file's declared encoding is honoured;
    undecodable bytes show as U+FFFD. Lines longer than 1,000 characters are cut, ending in '…'.
    """
    return searching.read_lines(CodeRoot.configured().file(path), start, count)


@tool(read_only=True, open_world=False, timeout=10)
def list_files(
    context: Context,
    glob: Glob = "**/*",
    path: TreePath = ".",
    max_results: Annotated[int, Meta(ge=1, le=1000)] = 200,
) -> trees.Listing:
    """List files by glob, with their sizes in bytes, in a stable order: a directory's files before its
    subdirectories'.

    Hidden and vendored files are left out. total counts all that match, also when the list is truncated.
    """
    return trees.list_files(_files(context, path, glob), max_results)


def _files(context: Context, path: str, glob: str | None) -> Iterator[SourceFile]:
    return trees.walk(CodeRoot.configured(), path, glob, lambda: context.cancelled)

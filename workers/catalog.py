"""From what the operator names to the tools it holds: import a module or a file, find its Tools."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from toolring.declare import Tool, overlooked
from toolring.errors import LoadError, ToolringError
from toolring.spec import INTERNAL

AnyTool = Tool[..., Any]
MOST_FILES: Final = 5000
_INSTALLED: Final = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OWN: Final = str(Path(__file__).resolve().parents[1]) + os.sep


def load(targets: Iterable[str], more: Iterable[tuple[str, AnyTool]] = ()) -> dict[str, AnyTool]:
    """The tools of all targets (``module``, ``path/to/file.py``, each with an optional ``:name``), by name; and more,
    each with where it is from.

    Raises:
        LoadError: a target can't be imported or found, holds no tool, or a name is taken twice.
    """
    found: dict[str, AnyTool] = {}
    origin: dict[str, str] = {}
    for target in targets:
        for tool in _tools_of(target):
            _add(found, origin, tool, target)
    for source, tool in more:
        _add(found, origin, tool, source)
    return found


def _add(found: dict[str, AnyTool], origin: dict[str, str], tool: AnyTool, target: str) -> None:
    name = tool.spec.name
    if tool.spec.internal:
        raise LoadError(f"{target}: the name {name!r} is taken; names in {INTERNAL}* are toolring's own", tool=name)
    if late := overlooked(tool):
        text = f"tool {name!r} takes the resource {late!r}, which is declared below it; declare it above, or rename it"
        raise LoadError(text, tool=name)
    if found.get(name, tool) is not tool:
        raise LoadError(f"the tool {name!r} is defined twice, in {origin[name]} and in {target}", tool=name)
    found[name] = tool
    origin[name] = target


def _tools_of(target: str) -> list[AnyTool]:
    place, _, name = target.partition(":")
    module = _import(place)
    if not name:
        tools = [value for value in vars(module).values() if isinstance(value, Tool)]
        if not tools:
            raise LoadError(f"{place} holds no tool; decorate a function with @tool (from toolring import tool)")
        return tools
    try:
        value = getattr(module, name)
    except AttributeError:
        raise LoadError(f"{place} has no {name!r}") from None
    if isinstance(value, Tool):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and value and all(isinstance(item, Tool) for item in value):
        return list(value)
    raise LoadError(f"{target} is a {type(value).__name__}, neither a tool nor a list of tools; is @tool missing?")


def _import(place: str) -> ModuleType:
    try:
        if place.endswith(".py") or os.sep in place:
            return _import_file(Path(place))
        return importlib.import_module(place)
    except ToolringError as error:
        error.facts.setdefault("target", place)
        raise
    except BaseException as error:  # SystemExit in a module must not end the node without a word
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and (place == error.name or place.startswith(f"{error.name}."))  # not one that it imports
        ):
            hint = f"; is there a file {place}.py? it would be named with .py or looked up from {os.getcwd()}"
            raise LoadError(f"no module named {place!r}{hint}", target=place) from None
        text = traceback.format_exc()
        cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        where = _line_of(error)
        raise LoadError(f"{place} can't be imported: {cause}{where}", target=place, traceback=text) from None


def source_files(error: BaseException | None = None) -> list[str]:
    """The files of the modules that are loaded now, and those in which an ``error`` kept others from it, without those
    of Python, installed packages and toolring."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    while error is not None:
        files += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        files.append(getattr(error, "filename", None) if isinstance(error, SyntaxError) else None)
        error = error.__context__
    paths = {os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(".py")}
    return sorted(path for path in paths if _may_change(path))[:MOST_FILES]


class Later:
    """The files of modules that are imported from now on."""

    def __init__(self) -> None:
        self._count = len(sys.modules)
        self._known = set(source_files())

    def __call__(self) -> list[str]:
        """Those that are new since the last time."""
        if len(sys.modules) == self._count:
            return []
        self._count = len(sys.modules)
        found = [file for file in source_files() if file not in self._known]
        self._known.update(found)
        return found


def _may_change(path: str) -> bool:
    return not path.startswith(_INSTALLED) and not os.path.realpath(path).startswith(_OWN)


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename and f.filename != __file__
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"there is no file {path}", target=str(path))
    path = path.resolve()
    name = path.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(path):
            return known
        raise LoadError(f"{path} can't be loaded as {name!r}: a module of that name is loaded already; rename the file")
    directory = str(path.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)  # what a script's own imports expect
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

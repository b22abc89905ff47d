"""Glob patterns as agents write them: ``*.py``, ``**/test_*.py``, ``json/*.{py,pyi}``."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)
_MEANING = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}


def matcher(pattern: str) -> Callable[[str], bool]:
    """A predicate on '/'-separated relative paths.

    Without a '/' the pattern is matched against the file's name alone, as in .gitignore; with one, against
    the path. ``*`` and ``?`` stop at '/', ``**`` doesn't. Braces list alternatives.
    """
    try:
        expression = re.compile(_translate(pattern.removeprefix("./")), re.DOTALL)
    except re.error as error:
        raise ValueError(f"invalid glob {pattern!r}: {error.msg}") from None
    if "/" in pattern:
        return lambda path: expression.fullmatch(path) is not None
    return lambda path: expression.fullmatch(path.rpartition("/")[2]) is not None


def _translate(pattern: str) -> str:
    parts: list[str] = []
    depth = 0
    for token in _TOKEN.findall(pattern):
        if token == "{":
            depth += 1
            parts.append("(?:")
        elif token == "}" and depth:
            depth -= 1
            parts.append(")")
        elif token == "," and depth:
            parts.append("|")
        else:
            parts.append(_part(token))
    if depth:
        raise ValueError(f"invalid glob {pattern!r}: '{{' is not closed")
    return "".join(parts)


def _part(token: str) -> str:
    if token in _MEANING:
        return _MEANING[token]
    if token.startswith("**"):
        return ".*"
    if token.startswith("[") and len(token) > 1:
        negated = token.startswith("[!")
        members = token[2 if negated else 1 : -1]
        members = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
        return f"[{'^' if negated else ''}{members}]"
    return re.escape(token)

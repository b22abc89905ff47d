"""How results and tables are shown: plain columns, colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from toolring import plain as data
from toolring.errors import ToolringError

if TYPE_CHECKING:
    from toolring.client.stored import StoredResult


def plain(value: Any) -> Any:
    """A result as JSON can hold it: of a stored one what is known of it."""
    return data.plain(value, _other)


def _other(value: Any) -> Any:
    stored = _stored(value)
    if stored is None:
        return str(value)
    about = {"stored": stored.handle, "size": stored.size, "media": stored.media}
    return {**about, "preview": plain(stored.preview)}


def _stored(value: Any) -> StoredResult | None:
    """The stored result that it is, if it is one."""
    from toolring.client.stored import StoredResult

    return value if isinstance(value, StoredResult) else None


def as_line(value: Any) -> str:
    """A value as JSON in one line. What standard output can't encode is escaped as JSON does it, so it stays JSON."""
    return json.dumps(plain(value), ensure_ascii=not str(sys.stdout.encoding).lower().startswith("utf"))


def show(result: Any, to: TextIO) -> None:
    """A result for a person: text as it is, the rest as indented JSON."""
    if isinstance(result, str):
        print(result, file=to)
    elif not isinstance(result, bytes | list | dict) and (stored := _stored(result)) is not None:
        _show_stored(stored, to)
    elif isinstance(result, bytes):
        to.flush()
        to.buffer.write(result)
    else:
        print(json.dumps(plain(result), indent=2, ensure_ascii=False), file=to)


def _show_stored(result: StoredResult, to: TextIO) -> None:
    """How it begins; on standard error, so that it doesn't mix with that, how to read on."""
    show(result.preview, to)
    to.flush()
    shown = result.preview if isinstance(result.preview, bytes) else result.preview.encode()
    on = "" if result.media.endswith("msgpack") else f" --offset {len(shown)}"
    text = f"toolring: that is how {result.size} bytes of {result.media} begin, which are stored; to read on:"
    print(f"{text}\n  toolring result {result.handle}{on}", file=sys.stderr)


def table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they must be; numbers to the right."""
    text = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heading), *text]) for i in range(len(heading))]
    right = [bool(text) and all(_is_number(row[i]) for row in text) for i in range(len(heading))]
    lines = [paint("  ".join(_pad(head, width, r) for head, width, r in zip(heading, widths, right, strict=True)), "1")]
    lines += [
        "  ".join(_pad(cell, width, r) for cell, width, r in zip(row, widths, right, strict=True)) for row in text
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").replace("%", "").isdigit()


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def harmless(text: str) -> str:
    """Text of others for a terminal: control characters as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def paint(text: str, code: str) -> str:
    """ANSI colour, on a terminal only, and if nobody minds: https://no-color.org"""
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def report(error: ToolringError, as_json: bool = False) -> int:
    """Tell a person in one line, with the traceback of their own code below it; a program gets JSON on stdout."""
    if as_json:
        print(json.dumps({"error": error.to_wire()}, default=str))
    print(f"toolring: {error.code}: {harmless(' '.join(str(error).split()))}", file=sys.stderr)
    trace = error.facts.get("traceback")
    if isinstance(trace, str) and not as_json:
        print("\n".join(harmless(line) for line in trace.rstrip().split("\n")), file=sys.stderr)
    return error.exit_status

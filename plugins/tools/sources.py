"""Reading source files: encodings, line ends, syntax trees."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings

import msgspec

from toolring.plugins.tools.roots import SourceFile, printable

MAX_BYTES = 4_000_000
"""Larger files are data, generated or minified: not worth a tool's time."""

_BINARY_PROBE = 8192


class Source(msgspec.Struct):
    """A Python file, read and parsed."""

    lines: list[str]
    tree: ast.Module


def read_bytes(file: SourceFile) -> bytes:
    """The file's bytes. Raises ValueError for a binary or a huge file."""
    if file.stat.st_size > MAX_BYTES:
        raise ValueError(f"{file.shown}: {file.stat.st_size} bytes are too many, the limit is {MAX_BYTES}")
    with open(file.path, "rb") as stream:
        data = stream.read(MAX_BYTES)
    if b"\0" in data[:_BINARY_PROBE]:
        raise ValueError(f"{file.shown}: is a binary file")
    return data


def decode(data: bytes) -> str:
    """Text by its BOM or PEP 263 cookie, else as UTF-8; what can't be decoded becomes U+FFFD. Line ends
    become '\\n'."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding, "replace")
    except (SyntaxError, LookupError, UnicodeError):  # no (text) encoding's cookie, or no UTF-8 in line 1
        text = data.decode("utf-8-sig", "replace")
    return printable(text).replace("\r\n", "\n").replace("\r", "\n")


def split_lines(text: str) -> list[str]:
    """Lines as Python and editors count them; str.splitlines would also split at form feeds and the like."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def read_text(file: SourceFile) -> str:
    """The file's text; see ``read_bytes`` and ``decode``."""
    return decode(read_bytes(file))


def parse(file: SourceFile) -> Source:
    """Read and parse a Python file.

    Raises SyntaxError naming the file and the line, also for undecodable or absurdly nested source.
    """
    data = read_bytes(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are the file's affair, not the worker's log's
            tree = ast.parse(data)
    except SyntaxError as error:
        # Only a message: the other attributes would lead traceback printers to a file named <unknown>.
        raise SyntaxError(f"{file.shown}, line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; too deep nesting
        reason = str(error) or "nested too deeply, or too little memory"
        raise SyntaxError(f"{file.shown}: can't be parsed: {reason}") from None
    return Source(split_lines(decode(data)), tree)


def clip(text: str, limit: int) -> str:
    """The text, ended by '…' where it exceeds the limit."""
    return text if len(text) <= limit else text[: limit - 1] + "…"

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.tools.roots import SourceFile
from toolring.plugins.tools.sources import MAX_BYTES, clip, decode, parse, read_text, split_lines

Write = Callable[[str, str | bytes], SourceFile]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("é".encode(), "é"),
        (b"\xef\xbb\xbfx = '\xc3\xa9'", "x = 'é'"),
        (b"# -*- coding: latin-1 -*-\n'\xe9'", "# -*- coding: latin-1 -*-\n'é'"),
        (
            b"#!/bin/x\n# vim: set fileencoding=cp1252 :\n'\x80'",
            "#!/bin/x\n# vim: set fileencoding=cp1252 :\n'€'",
        ),
        (b"\n\n# coding: latin-1\n\xe9", "\n\n# coding: latin-1\n\ufffd"),  # too late to count
        (b"# coding: no-such\n\xc3\xa9", "# coding: no-such\né"),
        (b"# coding: hex\nff", "# coding: hex\nff"),  # a codec, but not of text
        (b"\xef\xbb\xbf# coding: latin-1\nx", "# coding: latin-1\nx"),  # contradiction
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
    ],
)
def test_decoding(data: bytes, text: str) -> None:
    assert decode(data) == text


@given(st.binary(max_size=200), st.sampled_from([b"", b"# coding: utf-7\n", b"# coding: unicode_escape\n"]))
def test_any_bytes_become_valid_text(data: bytes, cookie: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        text = decode(cookie + data)
    text.encode()
    assert "\r" not in text


def test_lines_are_counted_as_python_does() -> None:
    assert split_lines("a\x0cb\u2028c\n\nd\n") == ["a\x0cb\u2028c", "", "d"]
    assert split_lines("") == []
    assert split_lines("a") == ["a"]


def test_binary_and_huge_files_are_refused_by_name(write: Write) -> None:
    with pytest.raises(ValueError, match=r"a\.bin: is a binary file"):
        read_text(write("a.bin", b"ELF\0"))
    with pytest.raises(ValueError, match=r"b\.py: 4000001 bytes are too many"):
        read_text(write("b.py", b" " * (MAX_BYTES + 1)))


def test_parsing_follows_the_cookie(write: Write) -> None:
    source = parse(write("a.py", b"# coding: latin-1\nx = '\xe9'\n"))
    assert source.lines == ["# coding: latin-1", "x = 'é'"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"x = 1\ndef f(:\n", r"^d/a\.py, line 2: invalid syntax$"),
        (b"x = (\n", r"^d/a\.py, line 1: '\(' was never closed$"),
        (b"x = 1\n'\xff'\n", r"^d/a\.py, line \d: .*(utf-8|UTF-8)"),
        (b"# coding: no-such\n", r"^d/a\.py, line 1: .*unknown encoding"),
        (b"x = " + b"-" * 100_000 + b"1", r"^d/a\.py.*nest|memory"),
        (b"x = 1" + b"+1" * 100_000, r"^d/a\.py"),
        (b"x = " + b"(" * 300 + b")" * 300, r"^d/a\.py, line 1: too many nested parentheses"),
        (b" " * 9000 + b"\0", r"^d/a\.py.*null bytes"),
    ],
)
def test_syntax_errors_name_file_and_line(write: Write, code: bytes, message: str) -> None:
    with pytest.raises(SyntaxError, match=message) as caught:
        parse(write("d/a.py", code))
    assert caught.value.lineno is None, "only a message: tracebacks show it plainly"


def test_invalid_escapes_do_not_warn(write: Write) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse(write("a.py", "x = '\\d'; assert (1, 2)\n"))


def test_clip() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"

from __future__ import annotations

import contextlib
import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.tools.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "a.py", True),
        ("*.py", "d/e/a.py", True),
        ("*.py", "a.pyc", False),
        ("./*.py", "a.py", True),
        ("./*.py", "d/a.py", False),
        ("d/*.py", "d/a.py", True),
        ("d/*.py", "d/e/a.py", False),
        ("d/*.py", "c/d/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "d/e/a.py", True),
        ("d/**", "d/e/a.py", True),
        ("d/**/a.py", "d/a.py", True),
        ("d/**/a.py", "dd/a.py", False),
        ("?.py", "a.py", True),
        ("?/a", "//a", False),
        ("[a-c].py", "b.py", True),
        ("[!a-c].py", "b.py", False),
        ("[]].py", "].py", True),
        ("[^a].py", "^.py", True),
        ("*.{py,txt}", "a.txt", True),
        ("{a,b/c}.py", "b/c.py", True),
        ("a,b", "a,b", True),
        ("a}", "a}", True),
        ("a[", "a[", True),
        ("a.b", "axb", False),
        ("a\n*", "a\nb", True),
    ],
)
def test_matching(pattern: str, path: str, expected: bool) -> None:
    assert matcher(pattern)(path) is expected


@pytest.mark.parametrize("pattern", ["{a,b", "[z-a]", "[!]"])
def test_invalid_globs_are_named(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"invalid glob {pattern!r}")):
        matcher(pattern)


@given(st.text("ab.*?", max_size=8), st.text("ab.", max_size=8))
def test_names_match_as_in_fnmatch(pattern: str, name: str) -> None:
    assert matcher(pattern)(name) == fnmatch.fnmatchcase(name, pattern)


@given(st.text(max_size=20))
def test_any_text_is_a_glob_or_a_value_error(pattern: str) -> None:
    with contextlib.suppress(ValueError):
        assert matcher(pattern)("a/b.py") in (True, False)

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.tools.memos import FileMemo
from toolring.plugins.tools.roots import CodeRoot, SourceFile

Write = Callable[[str, str | bytes], SourceFile]


class Reader:
    """Counts what it reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, file: SourceFile) -> str:
        self.read.append(file.shown)
        return Path(file.path).read_text()


def test_unchanged_files_are_computed_once(write: Write) -> None:
    reader = Reader()
    memo = FileMemo(reader, len, 100)
    file = write("a", "one")
    assert [memo.get(file), memo.get(file)] == ["one", "one"]
    assert reader.read == ["a"]


def test_changed_files_are_read_again(root: CodeRoot, write: Write) -> None:
    memo = FileMemo(Reader(), len, 100)
    assert memo.get(write("a", "one")) == "one"
    assert memo.get(write("a", "three")) == "three", "another size"
    file = write("a", "thre2")
    os.utime(file.path, ns=(1, 1))
    assert memo.get(root.file("a")) == "thre2", "another time"
    write("b", "thre3")
    os.utime(f"{root.path}/b", ns=(1, 1))
    os.replace(f"{root.path}/b", f"{root.path}/a")
    assert memo.get(root.file("a")) == "thre3", "another file of equal size and time"
    assert len(memo) == 1


def test_the_same_file_below_another_root_is_another(root: CodeRoot, write: Write) -> None:
    file = write("d/a", "x")
    memo = FileMemo(lambda file: file.shown, len, 100)
    assert memo.get(file) == "d/a"
    assert memo.get(CodeRoot(f"{root.path}/d").file("a")) == "a"


def test_errors_are_not_kept(write: Write) -> None:
    outcomes = iter([ValueError("first"), None])

    def compute(_: SourceFile) -> str:
        error = next(outcomes)
        if error:
            raise error
        return "fine"

    memo = FileMemo(compute, len, 100)
    file = write("a", "")
    with pytest.raises(ValueError, match="first"):
        memo.get(file)
    assert memo.get(file) == "fine"


def test_the_least_recently_used_go_first(write: Write) -> None:
    reader = Reader()
    memo = FileMemo(reader, len, 6)  # two files of two characters
    a, b, c = (write(name, name * 2) for name in "abc")
    for file in (a, b, a, c, a, b):
        memo.get(file)
    assert reader.read == ["a", "b", "c", "b"]


def test_what_exceeds_the_budget_alone_is_not_kept(write: Write) -> None:
    memo = FileMemo(Reader(), len, 6)
    memo.get(write("a", "aa"))
    assert memo.get(write("b", "b" * 6)) == "b" * 6
    assert (len(memo), memo.weight) == (1, 3)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=30), st.integers(1, 20))
def test_it_is_right_and_within_budget_whatever_comes(calls: list[tuple[str, int]], budget: int) -> None:
    memo = FileMemo(lambda file: "x" * file.stat.st_size, len, budget)
    for name, size in calls:
        state = os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0))
        assert memo.get(SourceFile(name, name, state)) == "x" * size
        assert memo.weight <= budget
        assert len(memo) <= 4

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from toolring.errors import Cancelled
from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.trees import list_files, walk

Write = Callable[[str, str | bytes], SourceFile]


def shown(root: CodeRoot, path: str = ".", glob: str | None = None) -> list[str]:
    return [file.shown for file in walk(root, path, glob)]


def test_a_directorys_files_come_before_its_subdirectories(root: CodeRoot, write: Write) -> None:
    for path in ("z.py", "a/b.py", "a/a/c.py", "b/a.txt", "A.py"):
        write(path, "")
    assert shown(root) == ["A.py", "z.py", "a/b.py", "a/a/c.py", "b/a.txt"]
    assert shown(root, "a") == ["a/b.py", "a/a/c.py"]
    assert shown(root, "a", "*/*.py") == ["a/a/c.py"], "globs are relative to the path"
    assert shown(root, "z.py") == ["z.py"]


def test_hidden_and_vendored_directories_are_left_out_unless_named(root: CodeRoot, write: Write) -> None:
    for path in (
        ".git/a.py",
        ".hidden.py",
        "node_modules/m/a.js",
        "__pycache__/a.pyc",
        "env/pyvenv.cfg",
        "env/a.py",
    ):
        write(path, "")
    write("a.py", "")
    assert shown(root) == ["a.py"]
    assert shown(root, "node_modules/m") == ["node_modules/m/a.js"]


def test_links_are_followed_to_files_inside_only(root: CodeRoot, write: Write, tmp_path: Path) -> None:
    write("d/a.py", "")
    (tmp_path / "secret.py").write_text("x")
    Path(root.path, "in.py").symlink_to("d/a.py")
    Path(root.path, "out.py").symlink_to(tmp_path / "secret.py")
    Path(root.path, "broken.py").symlink_to("nothing")
    Path(root.path, "loop").symlink_to(".")
    Path(root.path, "up").symlink_to(tmp_path)
    os.mkfifo(Path(root.path, "fifo.py"))
    assert shown(root) == ["in.py", "d/a.py"]


def test_undecodable_names_are_shown_as_valid_text(root: CodeRoot) -> None:
    Path(os.fsdecode(os.fsencode(root.path) + b"/\xff.py")).write_text("")
    assert shown(root) == ["\\udcff.py"]


def test_missing_paths_and_escapes(root: CodeRoot) -> None:
    with pytest.raises(FileNotFoundError, match="'nope'"):
        shown(root, "nope")
    with pytest.raises(PermissionError, match="'\\.\\.'"):
        shown(root, "..")


def test_a_cancelled_walk_ends(root: CodeRoot, write: Write) -> None:
    write("a.py", "")
    write("b.py", "")
    answers = iter([False, True])
    files = walk(root, cancelled=lambda: next(answers))
    assert [file.shown for file in islice(files, 1)] == ["a.py"]
    with pytest.raises(Cancelled):
        next(files)


def test_the_standard_library_matches_pathlib(stdlib: CodeRoot) -> None:
    expected = {path.relative_to(stdlib.path).as_posix() for path in Path(stdlib.path, "json").rglob("*.py")}
    assert set(shown(stdlib, "json", "*.py")) == expected


def test_listings_count_all_and_show_some(root: CodeRoot, write: Write) -> None:
    for name in "abc":
        write(name, name * 3)
    listing = list_files(walk(root), limit=2)
    assert ([file.path for file in listing.files], listing.total, listing.truncated) == (["a", "b"], 3, True)
    assert listing.files[0].bytes == 3
    assert not list_files(walk(root), limit=3).truncated
    assert list_files(walk(root, glob="nothing"), limit=3).total == 0

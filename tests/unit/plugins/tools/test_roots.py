from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.plugins.tools.roots import ROOT_VARIABLE, CodeRoot, printable


def test_the_default_is_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    assert CodeRoot.configured().path == os.path.realpath(sysconfig.get_path("stdlib"))


def test_the_variable_names_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert CodeRoot.configured().path == os.path.realpath(tmp_path)


@pytest.mark.parametrize(("value", "error"), [("src", ValueError), ("/no/such/dir", NotADirectoryError)])
def test_a_wrong_variable_is_named(
    value: str,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, value)
    with pytest.raises(error, match=f"{ROOT_VARIABLE}='{value}'"):
        CodeRoot.configured()


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/passwd", "/", "../root2/x"])
def test_escapes_are_refused_and_named(root: CodeRoot, path: str) -> None:
    with pytest.raises(PermissionError, match=f"'{path}' is outside"):
        root.file(path)


def test_a_sibling_with_the_same_prefix_is_outside(root: CodeRoot) -> None:
    Path(root.path + "2").mkdir()
    with pytest.raises(PermissionError):
        root.resolve(root.path + "2")


def test_links_out_of_the_root_are_refused(root: CodeRoot, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    Path(root.path, "file").symlink_to(tmp_path / "secret")
    Path(root.path, "dir").symlink_to(tmp_path)
    for path in ("file", "dir/secret", "dir"):
        with pytest.raises(PermissionError, match=f"'{path}' is outside"):
            root.state(path)


def test_links_and_dots_and_absolute_paths_within_the_root_are_fine(root: CodeRoot) -> None:
    Path(root.path, "real.py").write_text("x")
    Path(root.path, "link.py").symlink_to("real.py")
    for path in ("link.py", "./real.py", "no/../real.py", f"{root.path}/real.py"):
        assert root.file(path).shown == "real.py"


def test_a_root_that_is_a_link_is_resolved(root: CodeRoot, tmp_path: Path) -> None:
    Path(root.path, "a.py").write_text("x")
    (tmp_path / "link").symlink_to(root.path)
    assert CodeRoot(str(tmp_path / "link")).file("a.py").path == f"{root.path}/a.py"


def test_missing_files_directories_loops_and_devices(root: CodeRoot) -> None:
    Path(root.path, "loop").symlink_to("loop")
    Path(root.path, "dir").mkdir()
    os.mkfifo(Path(root.path, "fifo"))
    with pytest.raises(FileNotFoundError, match=r"no file 'a/b\.py'"):
        root.file("a/b.py")
    with pytest.raises(FileNotFoundError, match="'loop'"):
        root.file("loop")
    with pytest.raises(IsADirectoryError, match="'dir'"):
        root.file("dir")
    with pytest.raises(ValueError, match="'fifo' is not a regular file"):
        root.file("fifo")
    with pytest.raises(ValueError, match="null character"):
        root.file("a\0b")
    with pytest.raises(FileNotFoundError):
        root.file("a" * 5000)


@given(st.text(st.sampled_from("./ab\\~-\u00e9"), max_size=20))
def test_whatever_resolves_is_inside(path: str) -> None:
    root = CodeRoot("/usr/lib")
    try:
        real = root.resolve(path)
    except PermissionError:
        return
    assert real == "/usr/lib" or real.startswith("/usr/lib/")


@given(st.text(st.characters()))
def test_printable_is_utf8_and_leaves_good_text_alone(text: str) -> None:
    printable(text).encode()
    assert printable("é😀") == "é😀"
    assert printable("a\udcff") == "a\\udcff"

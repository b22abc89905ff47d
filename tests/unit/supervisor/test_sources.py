"""What has changed of the files that the tools' code is from."""

from __future__ import annotations

import os
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from toolring.supervisor.sources import LOOK_SECONDS, Sources


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tools.py"
    file.write_text("x = 1\n")
    return file


def test_a_change_is_told_once_nothing_more_happens(file: Path) -> None:
    sources = Sources()
    sources.follow([str(file)])
    now = 0.0
    assert sources.look(now) == []
    file.write_text("x = 22\n")
    now += LOOK_SECONDS
    assert sources.look(now) == [], "it may still be written to"
    assert sources.look(now + LOOK_SECONDS / 2) == [], "it is too soon to look"
    file.write_text("x = 333\n")
    now += LOOK_SECONDS
    assert sources.look(now) == []
    now += LOOK_SECONDS
    assert sources.look(now) == [str(file)]
    assert sources.settle() == [str(file)]
    now += LOOK_SECONDS
    assert sources.look(now) == []
    assert sources.changed() == []


def test_what_was_loaded_twice_is_as_it_was_at_first(file: Path) -> None:
    sources = Sources()
    sources.follow([str(file)])
    file.write_text("x = 22\n")
    sources.follow([str(file)])
    assert sources.changed() == [str(file)]


def test_one_that_is_removed_and_comes_back(file: Path) -> None:
    sources = Sources()
    sources.follow([str(file)])
    file.unlink()
    assert sources.settle() == [str(file)]
    assert sources.changed() == []
    file.write_text("x = 1\n")
    assert sources.changed() == [str(file)]


def test_what_was_compiled_of_it_goes(file: Path) -> None:
    compiled = Path(cache_from_source(str(file)))
    compiled.parent.mkdir()
    compiled.touch()
    sources = Sources()
    sources.follow([str(file)])
    sources.settle()
    assert compiled.exists(), "it has not changed"
    told = file.stat()
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns + 1))  # within the same second, of the same size
    sources.settle()
    assert not compiled.exists()

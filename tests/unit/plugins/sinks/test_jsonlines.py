from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from toolring.errors import ConfigError
from toolring.plugins.sinks.jsonlines import JsonLines
from toolring.plugins.specs import SinkSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "figures.jsonl"


@pytest.fixture
def sink(file: Path) -> JsonLines:
    return JsonLines(SinkSettings(1.0, str(file), ""))


def numbers(file: Path) -> list[int]:
    return [json.loads(line)["n"] for line in file.read_text().splitlines()]


def test_each_set_of_figures_is_a_line_behind_those_that_are_there(file: Path) -> None:
    file.write_text('{"n": 0}\n')
    sink = JsonLines(SinkSettings(1.0, str(file), ""))
    for number in (1, 2):
        sink.emit({"n": number})
    sink.close()
    assert numbers(file) == [0, 1, 2]


def test_a_file_that_was_rotated_or_removed_is_made_anew(sink: JsonLines, file: Path) -> None:
    sink.emit({"n": 1})
    file.rename(f"{file}.1")
    sink.emit({"n": 2})
    file.unlink()
    sink.emit({"n": 3})
    sink.close()
    assert numbers(Path(f"{file}.1")) == [1]
    assert numbers(file) == [3]


def test_what_a_full_disk_leaves_of_a_line_is_taken_away(
    sink: JsonLines, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.emit({"n": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="only 3 of 8 bytes"):
        sink.emit({"n": 2})
    monkeypatch.undo()
    sink.emit({"n": 3})
    sink.close()
    sink.close()
    assert numbers(file) == [1, 3]


def test_without_a_file_it_says_which_setting_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.file"):
        JsonLines(SinkSettings(1.0, "", ""))


def test_a_pipe_is_written_to_if_somebody_reads_from_it_and_else_refused(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(ConfigError, match=f"{file} is a pipe, or the like, that nobody reads"):
        JsonLines(SinkSettings(1.0, str(file), ""))
    reads = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        sink = JsonLines(SinkSettings(1.0, str(file), ""))
        sink.emit({"n": 1})
        sink.close()
        assert json.loads(os.read(reads, 100)) == {"n": 1}
    finally:
        os.close(reads)


def test_where_it_can_not_be_made_anew_it_is_tried_again(sink: JsonLines, file: Path) -> None:
    """And keeps no number that is another file's by then."""
    aside = Path(f"{file}.1")
    file.rename(aside)
    file.mkdir()
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            sink.emit({"n": 1})
    file.rmdir()
    sink.emit({"n": 2})
    sink.close()
    assert numbers(file) == [2]

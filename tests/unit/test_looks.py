"""Answers in files: all of one, or none."""

from __future__ import annotations

import os
from pathlib import Path

from toolring.looks import get, path, put


def test_an_answer_is_found_by_its_number_only(tmp_path: Path) -> None:
    file = path(tmp_path, 3, "dump")
    assert file == tmp_path / "3.dump"
    assert get(file, 1) is None
    fd = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        assert get(file, 1) is None
        put(fd, 1, b"the first, which is longer")
        assert get(file, 1) == b"the first, which is longer"
        assert get(file, 2) is None
        put(fd, 2, b"the second")
        assert get(file, 1) is None
        assert get(file, 2) == b"the second"
    finally:
        os.close(fd)

"""The directory of one life of a node, and what is read there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from toolring.blobs import LEDGER, Blobs
from toolring.errors import ConfigError, InvalidArguments, NodeError, ResultGone
from toolring.stored import READ
from toolring.supervisor.results import LONGEST, STEP_SECONDS, Home, Results, home

LIFE = "00aa11bb"
NAME = "0" * 40 + "t"
HANDLE = f"{LIFE}-{NAME}"
KEEP = 100.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path, clock: Clock) -> Iterator[Blobs]:
    made = Blobs(str(tmp_path), 1 << 30, clock)
    yield made
    made.close()


@pytest.fixture
def results(blobs: Blobs) -> Results:
    return Results(blobs, LIFE, KEEP)


# ---- what is read


def test_as_much_is_read_as_is_asked_for_and_there_and_one_answer_holds(results: Results, blobs: Blobs) -> None:
    data = os.urandom(READ + 1000)
    blobs.put(NAME, data)
    assert results.read(HANDLE, 0, 10) == {"size": len(data), "data": data[:10]}
    assert results.read(HANDLE, 7, 1 << 40)["data"] == data[7 : 7 + READ]
    assert results.read(HANDLE, READ, READ)["data"] == data[READ:]
    assert results.read(HANDLE, len(data), 1)["data"] == b""
    assert results.figures() == {"files": 0, "bytes": len(data), "reads": 4, "gone": 0}


@pytest.mark.parametrize("handle", [f"11111111-{NAME}", f"{LIFE}-{'1' * 40}t"])
def test_what_is_not_there_is_gone(results: Results, blobs: Blobs, handle: str) -> None:
    blobs.put(NAME, b"0")
    with pytest.raises(ResultGone):
        results.read(handle, 0, 1)
    assert results.figures()["gone"] == 1


def test_what_is_kept_too_long_is_gone(results: Results, blobs: Blobs, clock: Clock) -> None:
    blobs.put(NAME, b"0")
    clock.now += KEEP
    with pytest.raises(ResultGone, match="not stored any more: that is 100 s") as caught:
        results.read(HANDLE, 0, 1)
    assert caught.value.facts == {"keep": KEEP}


def test_a_node_without_a_store_has_nothing() -> None:
    none = Results(None, LIFE, KEEP)
    with pytest.raises(ResultGone):
        none.read(HANDLE, 0, 1)
    none.look(0.0)
    assert none.figures() == {"files": 0, "bytes": 0, "reads": 0, "gone": 1}
    none.close()


@pytest.mark.parametrize(
    ("handle", "offset", "length", "argument"),
    [
        (f"{LIFE}-../../etc/passwd", 0, 1, "handle"),
        (None, 0, 1, "handle"),
        (HANDLE, -1, 1, "offset"),
        (HANDLE, True, 1, "offset"),
        (HANDLE, 0, -1, "length"),
        (HANDLE, 0, 1.5, "length"),
        (HANDLE, 1 << 63, 1, "offset"),
    ],
)
def test_nonsense_is_refused_by_name(results: Results, handle: Any, offset: Any, length: Any, argument: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        results.read(handle, offset, length)
    assert caught.value.facts["argument"] == argument


# ---- their end


def test_the_sweep_goes_little_by_little(blobs: Blobs, clock: Clock, tmp_path: Path) -> None:
    results = Results(blobs, LIFE, KEEP, count(0.0, STEP_SECONDS / 4).__next__)
    for number in range(10):
        blobs.put(f"{number:040x}t", b"0")
    clock.now += KEEP
    looks = 0
    while before := [path for path in tmp_path.iterdir() if path.name != LEDGER]:
        results.look(0.0)
        left = [path for path in before if path.exists()]
        assert 1 <= len(before) - len(left) <= 4
        looks += 1
    assert looks >= 3
    results.look(0.0)
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    blobs.put(NAME, b"0")
    clock.now += KEEP
    results.look(KEEP / 10 - 0.1)
    assert blobs.touch(NAME), "the next begins later"


def test_a_sweep_is_never_far(blobs: Blobs, clock: Clock) -> None:
    patient = Results(blobs, LIFE, 1e6)
    patient.look(0.0)
    blobs.put(NAME, b"0")
    clock.now += 1e6
    patient.look(LONGEST)
    assert not blobs.touch(NAME)


def test_what_can_not_be_read_now_is_a_fault_of_the_node(results: Results, blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(NAME)  # as good as any fault of the machine
    with pytest.raises(NodeError, match="can't be read now"):
        results.read(HANDLE, 0, 10)


def test_a_directory_that_was_removed_is_no_fault(results: Results, blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(NAME, b"0")
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    results.look(0.0)
    with pytest.raises(ResultGone):
        results.read(HANDLE, 0, 1)


# ---- the directory


def test_it_is_the_users_alone_and_goes_with_the_node(tmp_path: Path) -> None:
    base = tmp_path / "cache" / "results"
    one = Home(base, LIFE)
    assert Path(one.directory) == base / LIFE
    assert {path.stat().st_mode & 0o077 for path in (base, base / LIFE)} == {0}
    (base / LIFE / NAME).write_bytes(b"0")
    one.close()
    assert list(base.iterdir()) == []


def test_what_a_node_that_is_dead_has_left_is_removed_and_nothing_of_one_that_lives(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        Home(tmp_path, "dead0000")
        (tmp_path / "dead0000" / NAME).write_bytes(b"0")
        os._exit(0)
    os.waitpid(child, 0)
    (tmp_path / "something else").mkdir()
    assert (tmp_path / "dead0000" / NAME).exists()
    lives = Home(tmp_path, "1111aaaa")
    assert not (tmp_path / "dead0000").exists()
    other = Home(tmp_path, LIFE)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"1111aaaa", "1111aaaa.alive", LIFE, f"{LIFE}.alive", "something else"}
    lives.close()
    other.close()


def test_where_there_can_be_none_is_told_to_those_who_want_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    base = str(tmp_path / "file" / "results")
    assert home(base, LIFE, wanted=False) is None
    with pytest.raises(ConfigError, match=r"choose another results\.directory"):
        home(base, LIFE, wanted=True)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigError, match="nobody else can write"):
        home(str(open_to_all), LIFE, wanted=True)

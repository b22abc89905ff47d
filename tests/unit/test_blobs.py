"""The store of files, in a real directory, with a clock of its own."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.process.kit import place
from toolring.blobs import LEDGER, PART, Blobs

KEEP = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def make(directory: Path, clock: Clock) -> Iterator[Callable[..., Blobs]]:
    made: list[Blobs] = []

    def one(most: int = 1000) -> Blobs:
        made.append(Blobs(str(directory), most, clock))
        return made[-1]

    yield one
    for blobs in made:
        blobs.close()


Make = Callable[..., Blobs]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.name != LEDGER}


def swept(blobs: Blobs, keep: float = KEEP) -> None:
    for _ in blobs.sweep(keep):
        pass


def test_what_is_put_is_read_from_any_offset_by_any_process(make: Make) -> None:
    make().put("a", b"0123456789")
    other = make()
    assert other.read("a", 0, 100, KEEP) == (10, b"0123456789")
    assert other.read("a", 3, 4, KEEP) == (10, b"3456")
    assert other.read("a", 8, 4, KEEP) == (10, b"89")
    assert other.read("a", 10, 4, KEEP) == (10, b"")
    assert other.read("a", 1 << 40, 4, KEEP) == (10, b"")
    assert other.read("a", 3, 0, KEEP) == (10, b"")
    with pytest.raises(FileNotFoundError):
        other.read("b", 0, 1, KEEP)


def test_only_its_user_can_read_the_files(make: Make, directory: Path) -> None:
    make().put("a", memoryview(b"0123456789"))
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}


def test_the_same_is_stored_once_and_for_longer(make: Make, clock: Clock, directory: Path) -> None:
    one, other = make(), make()
    one.put("a", b"0123456789")
    clock.now += KEEP - 1
    other.put("a", b"0123456789")
    assert one.total == 10
    clock.now += KEEP - 1
    assert one.read("a", 0, 1, KEEP) == (10, b"0")
    swept(one)
    assert names(directory) == {"a"}


def test_its_time_ends_at_once_and_the_file_goes_with_the_sweep(make: Make, clock: Clock, directory: Path) -> None:
    blobs = make()
    blobs.put("old", b"0123")
    clock.now += KEEP
    blobs.put("new", b"01234567")
    with pytest.raises(FileNotFoundError):
        blobs.read("old", 0, 1, KEEP)
    assert blobs.total == 12
    swept(blobs)
    assert names(directory) == {"new"}
    assert blobs.total == 8
    assert blobs.seen == (1, 8)


def test_a_touch_makes_it_last(make: Make, clock: Clock) -> None:
    blobs = make()
    blobs.put("a", b"0123")
    clock.now += KEEP - 1
    assert blobs.touch("a")
    assert not blobs.touch("b")
    clock.now += KEEP - 1
    assert blobs.read("a", 0, 1, KEEP)[1] == b"0"


def test_the_oldest_leave_for_new_ones(make: Make, clock: Clock, directory: Path) -> None:
    blobs = make(80)
    for name in "abcdefgh":
        blobs.put(name, b"0123456789")
        clock.now += 1
    blobs.touch("a")
    make(80).put("new", b"0123456789")
    assert names(directory) == set("adefgh") | {"new"}, "and an eighth more"
    assert blobs.total == 70
    blobs.put("large", b"x" * 80)
    assert names(directory) == {"large"}


def test_one_that_is_larger_than_all_may_be_is_refused(make: Make, directory: Path) -> None:
    blobs = make(80)
    blobs.put("a", b"0")
    with pytest.raises(OSError, match="81 bytes are more than the store may hold") as caught:
        blobs.put("b", b"x" * 81)
    assert caught.value.errno == errno.EFBIG
    assert names(directory) == {"a"}


def test_a_wrong_count_is_noticed_when_room_is_needed(make: Make, directory: Path) -> None:
    """As a process leaves it that is killed between its count and its file."""
    blobs = make(80)
    blobs.put("a", b"0123456789")
    (directory / LEDGER).write_bytes((75).to_bytes(8, "little"))
    blobs.put("b", b"0123456789")
    assert names(directory) == {"a", "b"}
    assert blobs.total == 20


def test_no_file_and_no_part_is_left_of_what_the_disk_has_no_room_for(make: Make, directory: Path) -> None:
    blobs = make(1 << 20)
    blobs.put("a", b"0")
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        own = make(1 << 20)
        try:
            own.put("b", b"x" * 10_000)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == errno.EFBIG
    assert names(directory) == {"a"}
    assert blobs.total == 1


def test_parts_of_processes_that_are_gone_are_removed(make: Make, directory: Path) -> None:
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    mine, theirs, odd = (f".{who}-1{PART}" for who in (os.getpid(), gone, "x"))
    for name in (mine, theirs, odd):
        (directory / name).write_bytes(b"half of it")
    blobs = make()
    swept(blobs)
    assert names(directory) == {mine, odd}
    assert blobs.seen == (0, 0)


def test_a_sweep_does_not_wait_for_who_has_the_lock(make: Make, clock: Clock, directory: Path) -> None:
    blobs = make()
    blobs.put("a", b"0123")
    clock.now += KEEP
    held = os.open(directory / LEDGER, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    swept(blobs)
    assert names(directory) == {"a"}
    os.close(held)
    swept(blobs)
    assert names(directory) == set()
    assert blobs.total == 0


def test_without_a_directory_nothing_is_stored(make: Make, directory: Path) -> None:
    directory.rmdir()
    blobs = make()
    with pytest.raises(FileNotFoundError):
        blobs.put("a", b"0")
    assert blobs.total == 0
    assert not blobs.touch("a")
    with pytest.raises(FileNotFoundError):
        swept(blobs)


class Model(RuleBasedStateMachine):
    """Two processes store, touch, read and sweep; what is there is what a dictionary says, but for what left for
    others."""

    MOST = 64

    def __init__(self) -> None:
        super().__init__()
        self._place = place()
        self.directory = self._place.__enter__()
        self.clock = Clock()
        self.both = [Blobs(str(self.directory), self.MOST, self.clock) for _ in range(2)]
        self.dated: dict[str, float] = {}
        self.size: dict[str, int] = {}

    def teardown(self) -> None:
        for blobs in self.both:
            blobs.close()
        self._place.__exit__(None, None, None)

    which = some.integers(0, 1)
    name = some.sampled_from("abcdef")

    @rule(which=which, name=name)
    def put(self, which: int, name: str) -> None:
        size = 5 + 7 * (ord(name) - ord("a"))
        there = names(self.directory)
        self.both[which].put(name, name.encode() * size)
        self.dated[name], self.size[name] = self.clock.now, size
        left = there - names(self.directory)
        stays = names(self.directory) - {name}
        assert all(self.dated[gone] <= self.dated[kept] for gone in left for kept in stays), "the oldest leave"

    @rule(which=which, name=name)
    def touch(self, which: int, name: str) -> None:
        if self.both[which].touch(name):
            self.dated[name] = self.clock.now

    @rule(which=which, name=name, offset=some.integers(0, 50), length=some.integers(0, 50))
    def read(self, which: int, name: str, offset: int, length: int) -> None:
        try:
            size, data = self.both[which].read(name, offset, length, KEEP)
        except FileNotFoundError:
            there = name in names(self.directory)
            assert not there or self.clock.now >= self.dated[name] + KEEP - 1e-6
            return
        assert size == self.size[name]
        assert data == (name.encode() * size)[offset : offset + length]

    @rule(seconds=some.sampled_from([1.0, 40.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=which)
    def sweep(self, which: int) -> None:
        swept(self.both[which])
        assert all(self.clock.now < self.dated[name] + KEEP + 1e-6 for name in names(self.directory))

    @invariant()
    def counted(self) -> None:
        total = sum(self.size[name] for name in names(self.directory))
        assert total == self.both[0].total == self.both[1].total
        assert total <= self.MOST


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

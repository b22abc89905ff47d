"""An SQLite file that is damaged, locked, gone, or on a full disk: misses, and never a wrong answer."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.sqlite import FILE, SqliteStore

KEY, TAGS = b"k" * 32, (b"*", b"tag:x")


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    made = opened(tmp_path, clock)
    yield made
    made.close()


def opened(directory: Path, clock: Clock, max_bytes: int = 1 << 24) -> SqliteStore:
    return SqliteStore(StoreSettings(str(directory), "", max_bytes, 0.05), clock)


def put(store: SqliteStore, value: bytes, key: bytes = KEY, fresh: float = 60.0) -> None:
    _, token = store.get(key, TAGS)
    store.put(key, TAGS, token, Stored(value, 0, fresh, 0.0, 0.1))


def value(store: SqliteStore, key: bytes = KEY) -> bytes | None:
    found, _ = store.get(key, TAGS)
    return None if found is None else found.value


def test_it_outlives_its_process_and_keeps_what_remains_of_the_time(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path, clock)
    put(first, b"v")
    first.close()
    clock.now += 20
    second = opened(tmp_path, clock)
    found, _ = second.get(KEY, TAGS)
    assert found is not None
    assert found.fresh == pytest.approx(40)
    clock.now += 40
    assert value(second) is None
    second.close()


def test_a_row_from_the_future_is_a_miss(store: SqliteStore, clock: Clock) -> None:
    put(store, b"v")
    clock.now -= 3600
    assert value(store) is None


def test_it_is_private(store: SqliteStore, tmp_path: Path) -> None:
    put(store, b"v")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    for path in tmp_path.iterdir():
        assert not path.stat().st_mode & 0o077, path


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 5000])
def test_a_truncated_file_is_replaced(store: SqliteStore, tmp_path: Path, clock: Clock, length: int) -> None:
    for number in range(200):
        put(store, b"v" * 200, b"%032d" % number)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(tmp_path / FILE, length)
    for number in range(200):
        assert value(store, b"%032d" % number) in (None, b"v" * 200)
    other = opened(tmp_path, clock)
    for number in range(200):
        assert value(other, b"%032d" % number) in (None, b"v" * 200)
    put(store, b"new")
    assert [value(store), value(other)] == [b"new", b"new"]
    other.close()


def test_garbage_is_replaced(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / FILE).write_bytes(os.urandom(10_000))
    store = opened(tmp_path, clock)
    put(store, b"v")
    assert value(store) == b"v"
    store.close()


def test_a_file_of_another_version_is_replaced(tmp_path: Path, clock: Clock) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    store = opened(tmp_path, clock)
    put(store, b"v")
    assert value(store) == b"v"
    store.close()


def test_a_row_that_was_changed_is_a_miss(store: SqliteStore) -> None:
    put(store, b"v")
    store._db.execute("UPDATE entries SET value = ?", (b"w",))
    assert value(store) is None


def test_a_file_that_was_deleted_is_not_written_to_in_secret(store: SqliteStore, tmp_path: Path, clock: Clock) -> None:
    put(store, b"v")
    for path in tmp_path.iterdir():
        path.unlink()
    other = opened(tmp_path, clock)
    put(other, b"w")
    store.invalidate([b"tag:x"])
    assert value(other) is None
    other.close()


def test_a_token_from_a_file_that_is_gone_is_worth_nothing(store: SqliteStore, tmp_path: Path) -> None:
    _, token = store.get(KEY, TAGS)
    (tmp_path / FILE).unlink()
    store.put(KEY, TAGS, token, Stored(b"old", 0, 60.0, 0.0, 0.1))
    assert value(store) is None


def test_a_lock_is_an_error_and_not_a_wait(store: SqliteStore, tmp_path: Path) -> None:
    put(store, b"v")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        put(store, b"w")
    assert value(store) == b"v", "reading goes on"
    other.close()


def test_what_could_not_be_invalidated_is_thrown_away(store: SqliteStore, tmp_path: Path, clock: Clock) -> None:
    put(store, b"v")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        store.invalidate([b"tag:x"])
    other.close()
    again = opened(tmp_path, clock)
    assert [value(again), value(store)] == [None, None]
    again.close()


def test_its_size_is_bounded_and_the_oldest_leave(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, 400_000)
    for number in range(1500):
        clock.now += 0.01
        put(store, b"x" * 1000, b"%032d" % number)
    assert store.stats()["bytes"] < 400_000
    assert value(store, b"%032d" % 1499) is not None
    assert value(store, b"%032d" % 0) is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8_000_000
    store.close()


WRITER = """
import sys
from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.sqlite import SqliteStore
store = SqliteStore(StoreSettings(sys.argv[1], "", 1 << 24, 1.0))
print("ready", flush=True)
for number in range(10**9):
    key = b"%032d" % (number % 50)
    _, token = store.get(key, (b"*",))
    store.put(key, (b"*",), token, Stored(key * 50, 0, 60.0, 0.0, 0.1))
"""


def test_a_writer_that_is_killed_leaves_no_wrong_value(tmp_path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        reader = SqliteStore(StoreSettings(str(tmp_path), "", 1 << 24, 1.0))
        seen = 0
        while seen < 200:
            for number in range(50):
                key = b"%032d" % number
                found, _ = reader.get(key, (b"*",))
                assert found is None or found.value == key * 50
                seen += found is not None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for number in range(50):
            key = b"%032d" % number
            found, _ = reader.get(key, (b"*",))
            assert found is None or found.value == key * 50
        reader.close()


FULL = """
import resource, signal, sys
from toolring.plugins.specs import Stored, StoreSettings
from toolring.plugins.stores.sqlite import SqliteStore
from toolring.workers.cache.guarded import Guarded
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
guarded = Guarded("sqlite", lambda: SqliteStore(StoreSettings(sys.argv[1], "", 1 << 24, 0.1)), 1.0, clock=lambda: 0.0)
for number in range(400):
    key = b"%032d" % number
    found, token = guarded.get(key, (b"*",))
    guarded.put(key, (b"*",), token, Stored(bytes(2000), 0, 60.0, 0.0, 0.1))
    assert found is None
    found, _ = guarded.get(key, (b"*",))
    assert found is None or found.value == bytes(2000)
print(guarded.failures, guarded.stores)
"""


def test_a_full_disk_is_misses(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does: writes come back short."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failures, stores = map(int, done.stdout.split())
    assert failures > 0
    assert stores > 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        opened(tmp_path / "file", clock)


def test_what_was_loaded_before_a_forgotten_invalidation_is_not_kept(tmp_path: Path, clock: Clock) -> None:
    """The tag's row leaves once no entry is older: then nothing tells any more that the load began before it."""
    loader, other = opened(tmp_path, clock), opened(tmp_path, clock)
    _, token = loader.get(KEY, TAGS)
    clock.now += 1
    other.invalidate([b"tag:x"])
    clock.now += 1
    for number in range(64):  # which sweeps
        put(other, b"new", key=b"%032d" % number)
    loader.put(KEY, TAGS, token, Stored(b"old", 0, 60.0, 0.0, 0.1))
    assert value(other) is None
    put(loader, b"new")
    assert value(other) == b"new"
    loader.close()
    other.close()


def test_processes_that_find_a_broken_file_at_once_end_up_in_the_same_one(tmp_path: Path, clock: Clock) -> None:
    """Each would throw away what it takes for the broken file, with the log of the new one."""
    code = (
        "import sys, time\n"
        "from tests.unit.plugins.stores.test_sqlite import TAGS, opened, put, value\n"
        "from pathlib import Path\n"
        "store = opened(Path(sys.argv[1]), time.time, 1 << 24)\n"
        "number = int(sys.argv[2])\n"
        "for n in range(30):\n"
        "    put(store, b'%d' % n, key=b'%016d%016d' % (number, n))\n"
        "print(sum(value(store, b'%016d%016d' % (number, n)) == b'%d' % n for n in range(30)))\n"
        "store.close()\n"
    )
    (tmp_path / FILE).write_bytes(b"no database " * 1000)
    root = Path(__file__).parents[4]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)], cwd=root, stdout=subprocess.PIPE)
        for n in range(4)
    ]
    assert [int(process.communicate(timeout=60)[0]) for process in processes] == [30] * 4
    late = opened(tmp_path, clock)
    assert late.stats()["entries"] == 120
    late.close()

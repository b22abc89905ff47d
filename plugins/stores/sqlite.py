"""Results in one SQLite file of the node's user: shared by workers and nodes, and there after a restart.

Every row carries a checksum, so a torn or foreign file is a miss and never a wrong answer. A file that SQLite can't
read is thrown away: it is a cache.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

from toolring.plugins.specs import Stored, StoreSettings

FILE: Final = "results.sqlite3"
VERSION: Final = 1
_HEADER: Final = 100
SWEEP: Final = 64
"""Every so many puts the expired leave, and the oldest if the file is too large."""
# The stamp of everything is random from the start: a token from an earlier file is worth nothing in this one.
_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, value BLOB, status INTEGER, created REAL, expires REAL, dies REAL, cost REAL,
    stamps BLOB, mark BLOB
);
CREATE INDEX IF NOT EXISTS by_death ON entries (dies);
CREATE INDEX IF NOT EXISTS by_age ON entries (created);
CREATE TABLE IF NOT EXISTS tags (tag BLOB PRIMARY KEY, stamp BLOB, at REAL);
INSERT OR IGNORE INTO tags VALUES (CAST('*' AS BLOB), randomblob(8), 9e99);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_PRUNED: Final = b"pruned"
"""No tag, but the moment of the last invalidation that is not known any more. What was loaded from before it can't be
checked, and is not kept."""
_PUT: Final = """
INSERT OR REPLACE INTO entries SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM tags WHERE tag = ? AND at >= ?)
"""
LOCK: Final = f"{FILE}-lock"
T = TypeVar("T")
_Token = tuple[bytes, float]
"""How the tags stood, as one digest, and when that was looked up."""
_Row = tuple[bytes, int, float, float, float, float, bytes, bytes]


class SqliteStore:
    """See ``CacheStore``. Times in the file are of the wall clock, which outlives the machine's start."""

    shared = False

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._max_bytes = settings.max_bytes
        self._timeout = settings.timeout
        self._directory = Path(settings.directory)
        make_private(self._directory)
        self._path = self._directory / FILE
        self._puts = 0
        self._db = self._open()

    def get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, _Token]:
        asked = self._clock()
        found, stamps = self._mended(lambda: self._get(key, tags))
        return found, (stamps, asked)

    def _get(self, key: bytes, tags: Sequence[bytes]) -> tuple[Stored | None, bytes]:
        stamps = self._stamps(tags)
        row: _Row | None = self._db.execute(
            "SELECT value, status, created, expires, dies, cost, stamps, mark FROM entries WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None, stamps
        value, status, created, expires, dies, cost, seen, mark = row
        now = self._clock()
        if seen != stamps or not created <= now < dies:
            return None, stamps
        if mark != _mark(key, value, status, expires, dies):
            self._db.execute("DELETE FROM entries WHERE key = ?", (key,))
            return None, stamps
        return Stored(value, status, expires - now, dies - expires, cost), stamps

    def put(self, key: bytes, tags: Sequence[bytes], token: _Token, entry: Stored) -> None:
        now = self._clock()
        stamps, asked = token
        expires = now + entry.fresh
        dies = expires + entry.stale
        mark = _mark(key, entry.value, entry.status, expires, dies)
        row = (key, entry.value, entry.status, now, expires, dies, entry.cost, stamps, mark, _PRUNED, asked)
        if len(entry.value) > self._max_bytes // 8:
            return
        self._mended(lambda: self._db.execute(_PUT, row))
        self._puts += 1
        if self._puts % SWEEP == 0:
            self._mended(self._sweep)

    def invalidate(self, tags: Sequence[bytes]) -> None:
        """Raises only after the files were removed: what can't be invalidated must not stay."""
        now = self._clock()
        try:
            rows = [(tag, os.urandom(8), now) for tag in tags]
            self._mended(lambda: self._write_tags(rows))
            while not self._is_mine():  # it was thrown away meanwhile: the new one must know
                self._mended(lambda: self._write_tags(rows))
        except sqlite3.Error:
            self._remove()
            raise

    def _write_tags(self, rows: Sequence[tuple[bytes, bytes, float]]) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", rows)

    def claim(self, key: bytes, seconds: float) -> bool:
        return True

    def release(self, key: bytes) -> None:
        pass

    def stats(self) -> dict[str, int]:
        return self._mended(lambda: {"entries": self._number("SELECT count(*) FROM entries"), "bytes": self._bytes()})

    def close(self) -> None:
        self._db.close()

    # ---- the file

    def _stamps(self, tags: Sequence[bytes]) -> bytes:
        """How the tags stand, as one digest; a tag that was never invalidated has no row."""
        marks = ",".join("?" * len(tags))
        rows = self._db.execute(f"SELECT tag, stamp FROM tags WHERE tag IN ({marks}) ORDER BY tag", tuple(tags))
        digest = blake2b(digest_size=16)
        for tag, stamp in rows:
            digest.update(stamp + tag)
        return digest.digest()

    def _sweep(self) -> None:
        now = self._clock()
        db = self._db
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE dies <= ? LIMIT 1000)", (now,))
            size = self._bytes()
            over = size - self._max_bytes
            if over > 0:
                mean = max(1, size // max(1, self._number("SELECT count(*) FROM entries")))
                most = min(over // mean + SWEEP, 5000)
                db.execute(
                    "DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY created LIMIT ?)", (most,)
                )
            bound = db.execute("SELECT coalesce(min(created), ?) FROM entries", (now,)).fetchone()[0]
            last = db.execute("SELECT max(at) FROM tags WHERE at < ? AND tag != ?", (bound, _PRUNED)).fetchone()[0]
            if last is not None:
                db.execute("DELETE FROM tags WHERE at < ? AND tag != ?", (bound, _PRUNED))
                db.execute(
                    "INSERT INTO tags VALUES (?, x'', ?) ON CONFLICT (tag) DO UPDATE SET at = max(at, excluded.at)",
                    (_PRUNED, last),
                )

    def _bytes(self) -> int:
        """Of the pages in use; a file doesn't shrink."""
        pages, free, size = (self._number(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * size

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        with self._alone():
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_broken(error) and self._path.stat().st_size >= _HEADER:  # cut off under those who use it
                    raise
            self._unlink()
            return self._connect()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While files are opened or removed: nobody's new log may be taken for the old file's."""
        fd = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _connect(self) -> sqlite3.Connection:
        old = os.umask(0o077)
        try:
            db = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None, cached_statements=32)
        finally:
            os.umask(old)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"malformed: {FILE} is of another version, {version}")
            if version == 0:
                db.executescript(_SCHEMA)
            db.execute("SELECT key, value, status, created, expires, dies, cost, stamps, mark FROM entries LIMIT 1")
            db.execute("SELECT tag, stamp, at FROM tags LIMIT 1")
            db.execute("PRAGMA synchronous = NORMAL")
            self._inode = os.stat(self._path).st_ino
        except BaseException:
            db.close()
            raise
        return db

    def _mended(self, operation: Callable[[], T]) -> T:
        """Do it in the file that is there now; if that turns out to be broken, once more in a new one.

        Another process may have thrown the file away: what is written to it then, no other would ever see.
        """
        if not self._is_mine():
            self._reopen()
        try:
            return operation()
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
        self._remove()
        self._reopen()
        return operation()

    def _reopen(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()
        self._db = self._open()

    def _is_mine(self) -> bool:
        """Is the file at the path still the one that this process opened, or another's new one?"""
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _remove(self) -> None:
        """Throw the files away, unless others have done so already."""
        with self._alone():
            if self._is_mine():
                self._unlink()

    def _unlink(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{suffix}")


def make_private(directory: Path) -> None:
    """Make a directory that nobody else can read. Raises PermissionError if it is somebody else's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user; set cache.directory")
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    text = str(error)
    return any(sign in text for sign in ("malformed", "not a database", "no such table", "no such column", "corrupt"))


def _mark(key: bytes, value: bytes, status: int, expires: float, dies: float) -> bytes:
    head = b"%d %a %a" % (status, expires, dies)
    return blake2b(b"|".join((key, head, value)), digest_size=16).digest()

"""Jobs under a name of their own: idempotency keys, and results that are kept.

Such a job runs for nobody in particular: the entry that runs belongs to the house, and each caller, the first
too, waits beside it. So a caller may leave, and another join or ask later, without a second run.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Final

from toolring.protocol import Answer, Job
from toolring.supervisor.ledger import Entry

NAME_BYTES: Final = 500
"""What a record costs for each name that it has, beside its answer."""


class Record:
    """One job under a name: running (``entry``) or answered (``answer``), and who waits for it."""

    __slots__ = ("answer", "digest", "entry", "expires", "keep", "names", "size", "waiting")

    def __init__(self, digest: bytes, keep: bool) -> None:
        self.digest = digest
        self.keep = keep
        """It goes on when nobody waits for it any more."""
        self.entry: Entry | None = None
        self.answer: Answer | None = None
        self.expires = float("inf")
        self.size = 0
        self.names: list[str] = []
        self.waiting: list[Entry] = []


class Keyring:
    """Records by name, each kept for a while after its answer. Once ``max_bytes`` are kept, it takes no new name."""

    def __init__(self, keep_seconds: float, max_bytes: int) -> None:
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._records: dict[str, Record] = {}
        self._answered: deque[Record] = deque()  # all live equally long: oldest first
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def full(self) -> bool:
        """Nothing kept is dropped before its time, so a full ring takes no new names."""
        return self.bytes >= self._max_bytes

    def find(self, name: str) -> Record | None:
        return self._records.get(name)

    def name(self, record: Record, name: str) -> None:
        """Let a record be found under one more name."""
        self._records[name] = record
        record.names.append(name)
        record.size += NAME_BYTES
        self.bytes += NAME_BYTES

    def settle(self, record: Record, answer: Answer, now: float) -> None:
        """The answer is known: keep it for its time."""
        record.entry = None
        if not record.names:
            return  # nobody can ask for it again
        record.answer = answer
        record.size += len(answer.value)
        record.expires = now + self._keep_seconds
        self.bytes += len(answer.value)
        self._answered.append(record)

    def forget(self, record: Record) -> None:
        for name in record.names:
            if self._records.get(name) is record:
                del self._records[name]
        self.bytes -= record.size
        record.size = 0

    def expire(self, now: float) -> None:
        while self._answered and self._answered[0].expires <= now:
            self.forget(self._answered.popleft())


def digest(job: Job, partition: str | None) -> bytes:
    """What a keyed job is, beside its key: the tool, the exact bytes of its arguments, and who shares its result."""
    partition = partition or ""
    head = f"{len(job.tool)}\0{job.tool}{len(partition)}\0{partition}{job.chunk or ''}"
    return blake2b(head.encode() + bytes(memoryview(job.args)), digest_size=16).digest()

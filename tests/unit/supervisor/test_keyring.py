from __future__ import annotations

from msgspec import Raw

from toolring.protocol import OK, Answer, Job
from toolring.supervisor.keyring import Keyring, Record, digest


def settled(ring: Keyring, name: str, size: int, now: float) -> Record:
    record = Record(b"digest", False)
    ring.name(record, name)
    ring.settle(record, Answer(1, OK, Raw(b"x" * size)), now)
    return record


def test_a_record_is_found_under_all_its_names_until_it_is_forgotten() -> None:
    ring = Keyring(60.0, 10_000)
    record = settled(ring, "one", 5, 0.0)
    ring.name(record, "two")
    assert ring.find("one") is ring.find("two") is record
    ring.forget(record)
    assert ring.find("one") is ring.find("two") is None
    assert len(ring) == 0
    assert ring.bytes == 0


def test_an_answer_is_kept_for_its_time() -> None:
    ring = Keyring(60.0, 10_000)
    settled(ring, "early", 5, 0.0)
    settled(ring, "late", 5, 30.0)
    ring.expire(59.9)
    assert ring.find("early") is not None
    ring.expire(60.0)
    assert ring.find("early") is None
    assert ring.find("late") is not None
    ring.expire(1e9)
    assert len(ring) == 0
    assert ring.bytes == 0


def test_what_still_runs_never_expires() -> None:
    ring = Keyring(1.0, 10_000)
    record = Record(b"digest", True)
    ring.name(record, "running")
    ring.expire(1e9)
    assert ring.find("running") is record


def test_it_is_full_by_bytes_and_has_room_again() -> None:
    ring = Keyring(60.0, 10_000)
    assert not ring.full
    settled(ring, "large", 20_000, 0.0)
    assert ring.full
    ring.expire(60.0)
    assert not ring.full


def test_many_small_names_fill_it_too() -> None:
    ring = Keyring(60.0, 10_000)
    record = settled(ring, "first", 0, 0.0)
    for number in range(100):
        ring.name(record, str(number))
    assert ring.full


def test_forgetting_an_old_record_leaves_its_successor() -> None:
    ring = Keyring(60.0, 10_000)
    old = settled(ring, "key", 5, 0.0)
    new = settled(ring, "key", 5, 1.0)
    ring.forget(old)
    assert ring.find("key") is new


def test_a_digest_is_of_tool_and_exact_bytes() -> None:
    def mark(tool: str, args: bytes, partition: str | None = None) -> bytes:
        return digest(Job(1, tool, Raw(args)), partition)

    assert mark("a", b"bc") == mark("a", b"bc", "")
    marks = {mark("a", b"bc"), mark("ab", b"c"), mark("a", b"bd"), mark("a", b"bc", "p")}
    assert len(marks) == 4

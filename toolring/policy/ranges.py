"""Ranges: members own stretches of the keys in their order, as shards of a table do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from toolring.policy.balance import Members

_BYTES: Final = 8


def in_order(key: bytes) -> int:
    """A key's place among all keys, by its first eight bytes."""
    return int.from_bytes(key[:_BYTES].ljust(_BYTES, b"\0"), "big")


class Ranges:
    """The member whose range a key lies in: from its own start up to the next one's. While it can't take calls, the
    member of the next range does.

    Raises ValueError: a start for nobody, a member without one, the same twice, nobody who begins with the first key.
    """

    __slots__ = ("_members", "_points")
    keyed = True

    def __init__(self, members: Members, starts: Mapping[str, bytes]) -> None:
        if set(starts) != set(members.names):
            odd = sorted(set(starts) ^ set(members.names))
            raise ValueError(f"ranges and nodes don't fit: {', '.join(odd)}")
        ordered = sorted((in_order(starts[name]), index) for index, name in enumerate(members.names))
        self._points = [point for point, _ in ordered]
        self._members = [index for _, index in ordered]
        if self._points[0] != 0:
            raise ValueError("nobody's range begins with the first key: one start has to be empty")
        if len(set(self._points)) != len(self._points):
            raise ValueError("two ranges begin with the same eight bytes")

    def place(self, point: int, loads: Sequence[float | None]) -> int:
        at = bisect_right(self._points, point) - 1
        members = self._members
        for step in range(len(members)):
            index = members[(at + step) % len(members)]
            if loads[index] is not None:
                return index
        raise ValueError("no member can take calls")

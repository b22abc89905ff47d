"""SIEVE: a hand moves from the oldest entry to the newest, spares what was used since it last came by, and takes the
first that was not. Zhang et al.: SIEVE is simpler than LRU (NSDI 2024).
"""

from __future__ import annotations


class _Node:
    __slots__ = ("key", "newer", "older", "used")

    def __init__(self, key: bytes, older: _Node | None) -> None:
        self.key = key
        self.used = False
        self.older = older
        self.newer: _Node | None = None


class SIEVE:
    """Entries in order of arrival. A use only marks; nothing is moved."""

    __slots__ = ("_hand", "_newest", "_nodes", "_oldest")

    def __init__(self, max_entries: int) -> None:
        self._nodes: dict[bytes, _Node] = {}
        self._oldest: _Node | None = None
        self._newest: _Node | None = None
        self._hand: _Node | None = None
        """Where to look next; None: at the oldest."""

    def added(self, key: bytes) -> None:
        node = self._nodes[key] = _Node(key, self._newest)
        if self._newest is None:
            self._oldest = node
        else:
            self._newest.newer = node
        self._newest = node

    def touched(self, key: bytes) -> None:
        self._nodes[key].used = True

    def removed(self, key: bytes) -> None:
        node = self._nodes.pop(key)
        if node is self._hand:
            self._hand = node.newer
        if node.older is None:
            self._oldest = node.newer
        else:
            node.older.newer = node.newer
        if node.newer is None:
            self._newest = node.older
        else:
            node.newer.older = node.older

    def victim(self) -> bytes:
        node = self._hand or self._oldest
        while node is not None and node.used:
            node.used = False
            node = node.newer or self._oldest
        if node is None:
            raise KeyError("there is no entry")
        self._hand = node
        return node.key

"""Plain answers of one worker for one tool, put down in rows until they are counted, many together."""

from __future__ import annotations

from typing import Final

from toolring.policy.series import Tally

FULL: Final = 1024
"""Rows that are counted at once."""


class Rows:
    """Of each answer what differs: its run in µs. What it has in common with others of its message, to jobs that were
    accepted together and sent together, is put down once, as a part: how many runs there were before, and when those
    jobs were accepted, sent and answered (seconds)."""

    __slots__ = ("_tally", "bytes_in", "bytes_out", "parts", "runs", "since", "until")

    def __init__(self, now: float) -> None:
        self.since = self.until = now
        self.parts: list[tuple[int, float, float, float]] = []
        self.runs: list[int] = []
        self.bytes_in = 0
        self.bytes_out = 0
        self._tally = Tally()

    def tally(self) -> Tally:
        """All of them, counted. Nothing may be put down any more."""
        self.count()
        tally = self._tally
        tally.bytes_in, tally.bytes_out = self.bytes_in, self.bytes_out
        tally.jobs = tally.operations = tally.run.n
        return tally

    def count(self) -> None:
        """Make room for more."""
        runs, parts = self.runs, self.parts
        responses: dict[int, int] = {}
        queues: dict[int, int] = {}
        overheads: list[int] = []
        ends = [part[0] for part in parts[1:]]
        ends.append(len(runs))
        for (start, accepted, sent, now), end in zip(parts, ends, strict=True):
            away, queue = int((now - sent) * 1e6), int((sent - accepted) * 1e6)
            response = queue + away
            responses[response] = responses.get(response, 0) + end - start
            queues[queue] = queues.get(queue, 0) + end - start
            overheads += [away - run for run in runs[start:end]]
        tally = self._tally
        tally.response.count(responses)
        tally.queue.count(queues)
        tally.run.record_all(runs)
        tally.overhead.record_all(overheads)
        runs.clear()
        parts.clear()

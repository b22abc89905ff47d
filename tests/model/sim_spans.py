"""A sink of spans without a thread, and what must hold of all spans."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from toolring.plugins.specs import Span
from toolring.supervisor.spans import Spans


class Kept:
    """A sink with its exporter."""

    name = "kept"
    idle = True
    sent = failed = dropped = 0

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.closed = False

    def look(self) -> None:
        """It is never stuck."""

    def offer(self, spans: Sequence[Span]) -> None:
        assert self.idle
        self.spans += spans

    def close(self, patience: float = 1.0, last: Any = None) -> None:
        self.spans += last or ()
        self.closed = True


def spans_into(kept: Kept, sample: float = 0.0) -> Spans:
    """By a clock on the wall that is 4,000 s ahead."""
    exporter: Any = kept
    return Spans([exporter], sample, wall=lambda: 5000.0, clock=lambda: 1000.0, rng=random.Random(1))


def check_spans(found: Sequence[Span]) -> None:
    """They have numbers of their own, and lie inside each other."""
    by_number = {span.number: span for span in found}
    for span in found:
        assert span.begin <= span.end
        outer = by_number.get(span.parent or 0)
        if outer is not None:
            assert outer.trace == span.trace
            assert outer.begin <= span.begin, f"{span.name} begins before {outer.name}"
            left = outer.error  # while others wait for its run
            assert span.end <= outer.end or left, f"{span.name} ends after {outer.name}"

"""Answers those who monitor a node over HTTP: the page of figures, and whether it is well. In the loop's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from toolring.supervisor.collector import Collector
from toolring.supervisor.core import Core
from toolring.supervisor.errands import Errands
from toolring.supervisor.exposition import OPEN_METRICS, PLAIN, Book
from toolring.supervisor.web import Asked, Reply

_TEXT: Final = "text/plain; charset=utf-8"
_PIECE: Final = 64 << 10


class Desk:
    """Pages are made in steps; who asks while one is being made gets the same."""

    def __init__(self, core: Core, collector: Collector | None, errands: Errands) -> None:
        self._core = core
        self._collector = collector
        self._errands = errands
        self._book = Book()
        self._making: dict[bool, list[Callable[[Reply], None]]] = {}

    def answer(self, asked: Asked, now: float) -> None:
        if asked.path == "/metrics":
            self._metrics(prefers_open_metrics(asked.accept), asked.reply, now)
        elif asked.path == "/readyz":
            why = self._not_ready()
            asked.reply(
                Reply(HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK, _TEXT, [f"{why or 'ready'}\n".encode()])
            )
        else:
            asked.reply(Reply(HTTPStatus.OK, _TEXT, [b"alive\n"]))

    def _not_ready(self) -> str:
        """Why nobody should send a job here; empty: there is no reason."""
        core = self._core
        if core.draining:
            return "draining"
        if not core.healthy:
            return "unhealthy: workers keep dying; see the node's log"
        if not core.fleet.ready and any(not slot.parked for slot in core.fleet.slots):
            return "no worker is ready"
        return ""

    def _metrics(self, open_metrics: bool, reply: Callable[[Reply], None], now: float) -> None:
        if self._collector is None:
            reply(Reply(HTTPStatus.NOT_FOUND, _TEXT, [b"metrics.figures is off\n"]))
            return
        waiting = self._making.get(open_metrics)
        if waiting is not None:
            waiting.append(reply)
            return
        self._making[open_metrics] = [reply]
        self._errands.add(self._make(self._collector, open_metrics, now))

    def _make(self, collector: Collector, open_metrics: bool, now: float) -> Iterator[None]:
        pieces: list[bytes] = []
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        try:
            yield from collector.figures.folding()
            part: list[str] = []
            size = 0
            for text in self._book.page(collector.families(now), open_metrics):
                part.append(text)
                size += len(text)
                if size > _PIECE:
                    pieces.append("".join(part).encode())
                    part, size = [], 0
                yield
            pieces.append("".join(part).encode())
            status = HTTPStatus.OK
        finally:
            kind = OPEN_METRICS if open_metrics else PLAIN
            told = Reply(status, kind, pieces) if status is HTTPStatus.OK else Reply(status, _TEXT, [b"see the log\n"])
            for reply in self._making.pop(open_metrics):
                reply(told)


def prefers_open_metrics(accept: str) -> bool:
    """Does a client that sends this header want OpenMetrics rather than Prometheus' text?"""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for one in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        if kind in wanted:
            wanted[kind] = max(wanted[kind], _weight(parameters))
    return 0 < wanted["application/openmetrics-text"] >= wanted["text/plain"]


def _weight(parameters: list[str]) -> float:
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0

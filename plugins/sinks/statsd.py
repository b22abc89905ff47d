"""A metrics sink that sends counts, times and gauges to a StatsD server over UDP."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from toolring.address import host_and_port
from toolring.errors import ConfigError
from toolring.plugins.specs import SinkSettings

MOST_BYTES: Final = 1400
"""Of a packet: what fits into one Ethernet frame."""
_COUNTS: Final = ("jobs", "operations", "failed", "cached", "retried", "argument_bytes", "result_bytes")
_SHARES: Final = ("mean", "p50", "p95", "p99")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


class _Line(NamedTuple):
    text: str
    stands: tuple[str, float] | None = None
    """Of a count: its name, and at what it stands once this is sent."""


class Statsd:
    """Counts are sent as what they grew by, times in milliseconds as gauges: they are quantiles already."""

    def __init__(self, settings: SinkSettings) -> None:
        if not settings.statsd:
            raise ConfigError("metrics.sinks names statsd, but metrics.statsd names no HOST:PORT", key="metrics.statsd")
        host, port = host_and_port(settings.statsd)
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._address: Any = address
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._sent: dict[str, float] = {}
        """Counts as they stood when they were sent last."""

    def emit(self, figures: Mapping[str, Any]) -> None:
        packet: list[_Line] = []
        size = 0
        for line in self._lines(figures):
            length = len(line.text) + 1
            if packet and size + length > MOST_BYTES:
                self._send(packet)
                packet, size = [], 0
            packet.append(line)
            size += length
        if packet:
            self._send(packet)

    def close(self) -> None:
        self._socket.close()

    def _send(self, packet: list[_Line]) -> None:
        self._socket.sendto("\n".join(line.text for line in packet).encode(), self._address)
        self._sent.update(line.stands for line in packet if line.stands)  # what could not be sent is sent the next time

    def _lines(self, figures: Mapping[str, Any]) -> Iterator[_Line]:
        jobs = figures.get("jobs", {})
        for name in ("waiting", "running"):
            if name in jobs:
                yield _Line(f"toolring.{name}:{jobs[name]}|g")
        yield _Line(f"toolring.clients:{figures.get('clients', 0)}|g")
        yield _Line(f"toolring.workers:{sum(one.get('ready', 0) for one in figures.get('groups', {}).values())}|g")
        for code, count in jobs.get("refused", {}).items():
            yield from self._grown(f"toolring.refused.{_part(code)}", count)
        yield from self._grown("toolring.restarts", figures.get("restarts", 0))
        for tool, counts in figures.get("counts", {}).items():
            for name in _COUNTS:
                yield from self._grown(f"toolring.tool.{_part(tool)}.{name}", counts.get(name, 0))
            for code, count in counts.get("errors", {}).items():
                yield from self._grown(f"toolring.tool.{_part(tool)}.errors.{_part(code)}", count)
        for tool, one in figures.get("metrics", {}).get("tools", {}).items():
            for time in ("response", "queue", "run", "overhead"):
                for share in _SHARES:
                    seconds = one.get(time, {}).get(share)
                    if seconds is not None:
                        yield _Line(f"toolring.tool.{_part(tool)}.{time}.{share}:{seconds * 1e3:.6g}|g")

    def _grown(self, name: str, count: float) -> Iterator[_Line]:
        """What it grew by since the last time; nothing if it didn't."""
        more = count - self._sent.get(name, 0)
        if more > 0:
            yield _Line(f"{name}:{more}|c", (name, count))


def _part(name: str) -> str:
    """A name without what has a meaning to StatsD."""
    return _ODD.sub("_", name) or "_"

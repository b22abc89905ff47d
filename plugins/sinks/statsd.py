"""A metrics sink that sends counts, times and gauges to a StatsD server over UDP."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from toolring.address import host_and_port
from toolring.errors import ConfigError
from toolring.plugins.specs import SinkSettings

MOST_BYTES: Final = 1400
"""Of a packet: what fits into one Ethernet frame."""
_COUNTS: Final = ("jobs", "operations", "failed", "cached", "retried", "argument_bytes", "result_bytes")
_SHARES: Final = ("mean", "p50", "p95", "p99")
_ZEROS: Final = 3
"""So often a time that there is none of any more is sent as 0: a server keeps gauges, and a packet may get lost."""
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


class _Line(NamedTuple):
    text: str
    stands: tuple[dict[str, float], str, float] | None = None
    """What is to be known of it once this is sent: where, its name, and at what it stands: a count, or how often a time
    is to be sent as 0."""


class Statsd:
    """Counts are sent as what they grew by, times in milliseconds as gauges: they are quantiles already. Of tools whose
    names are one to StatsD the counts are added up, and the longest times are told."""

    def __init__(self, settings: SinkSettings) -> None:
        family, kind, protocol, _, address = _server(settings)
        self._address: Any = address
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._sent: dict[str, float] = {}
        """Counts as they stood when they were sent last."""
        self._zeros: dict[str, float] = {}
        """Of each time that was sent: how often it is to be sent as 0 once there is none any more."""

    @staticmethod
    def check(settings: SinkSettings) -> None:
        """Is it known where to? Raises ConfigError, and OSError."""
        _server(settings)

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
        for line in packet:  # what could not be sent is sent the next time
            if line.stands is not None:
                known, name, stands = line.stands
                known[name] = stands

    def _lines(self, figures: Mapping[str, Any]) -> Iterator[_Line]:
        jobs = figures.get("jobs", {})
        for name in ("waiting", "running"):
            if name in jobs:
                yield _Line(f"toolring.{name}:{jobs[name]}|g")
        yield _Line(f"toolring.clients:{figures.get('clients', 0)}|g")
        yield _Line(f"toolring.workers:{sum(one.get('ready', 0) for one in figures.get('groups', {}).values())}|g")
        for name, count in _counts(figures).items():
            more = count - self._sent.get(name, 0)
            if more > 0:
                yield _Line(f"{name}:{more}|c", (self._sent, name, count))
        times = _times(figures)
        for name, seconds in times.items():
            yield _Line(f"{name}:{seconds * 1e3:.6g}|g", (self._zeros, name, _ZEROS))
        for name, left in list(self._zeros.items()):
            if name in times:
                continue
            if left:
                yield _Line(f"{name}:0|g", (self._zeros, name, left - 1))
            else:
                del self._zeros[name]


def _server(settings: SinkSettings) -> Any:
    """Where it is, as a socket wants it."""
    if not settings.statsd:
        raise ConfigError("metrics.sinks names statsd, but metrics.statsd names no HOST:PORT", key="metrics.statsd")
    host, port = host_and_port(settings.statsd)
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]


def _counts(figures: Mapping[str, Any]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for code, count in figures.get("jobs", {}).get("refused", {}).items():
        found[f"toolring.refused.{_part(code)}"] += count
    found["toolring.restarts"] = figures.get("restarts", 0)
    for tool, counts in figures.get("counts", {}).items():
        base = f"toolring.tool.{_part(tool)}"
        for name in _COUNTS:
            found[f"{base}.{name}"] += counts.get(name, 0)
        for code, count in counts.get("errors", {}).items():
            found[f"{base}.errors.{_part(code)}"] += count
    return dict(found)


def _times(figures: Mapping[str, Any]) -> dict[str, float]:
    """Seconds, of those that there are any of."""
    found: dict[str, float] = {}
    for tool, one in figures.get("metrics", {}).get("tools", {}).items():
        for time in ("response", "queue", "run", "overhead"):
            for share in _SHARES:
                seconds = one.get(time, {}).get(share)
                if seconds is not None:
                    name = f"toolring.tool.{_part(tool)}.{time}.{share}"
                    found[name] = max(seconds, found.get(name, 0.0))
    return found


def _part(name: str) -> str:
    """A name without what has a meaning to StatsD."""
    return _ODD.sub("_", name) or "_"

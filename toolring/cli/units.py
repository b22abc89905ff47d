"""How figures are written for people: short, with their unit, three digits that count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from toolring.cli.output import harmless

LONGEST_NAME: Final = 28
"""Of a name on a narrow screen; longer ones lose their middle."""


def written(value: Any, kind: str, longest: int | None = None) -> str:
    """A figure as people read it, a dash where there is none. ``longest``: the most characters of a text."""
    if value is None or value == "":
        return "-"
    if kind == "text":
        text = harmless(str(value))
        return text if longest is None else shortened(text, longest)
    return _WRITERS[kind](value)


def shortened(name: str, width: int = LONGEST_NAME) -> str:
    """Names begin alike and end differently, so the middle goes."""
    if len(name) <= width:
        return name
    kept = width - 1
    return f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"


def with_unit(seconds: float | None) -> str:
    """For those that stand alone: 34.5ms, 1.20s."""
    text = written(seconds, "ms")
    return f"{text}ms" if text[-1].isdigit() else text


def _count(value: float) -> str:
    """1234, 12.3k, 4.56M."""
    if value < 9999.5:
        return f"{value:.0f}"
    unit, size = ("k", 1e3) if value < 999_500 else ("M", 1e6) if value < 999.5e6 else ("G", 1e9)
    return f"{_three(value / size)}{unit}"


def _three(value: float) -> str:
    """Three digits."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _of_rate(value: float) -> str:
    if value == 0:
        return "0"
    return _count(value) if value >= 999.5 else _three(value)


def _millis(seconds: float) -> str:
    """Milliseconds, with their unit only once they are many: 0.12, 34.5, 1.20s."""
    millis = seconds * 1e3
    if millis == 0:
        return "0"
    if millis < 0.0995:
        return f"{millis:.3f}"
    return _three(millis) if millis < 999.5 else f"{_three(seconds)}s" if seconds < 1000 else _duration(seconds)


def _duration(seconds: float) -> str:
    """Its two largest units."""
    if seconds < 59.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _size(value: float) -> str:
    """Bytes; units of 1024."""
    power = min(4, max(0, int(value).bit_length() - 1) // 10)
    shown = value / (1 << 10 * power)
    return f"{shown:.0f}{'BKMGT'[power]}" if power == 0 or shown >= 99.95 else f"{shown:.1f}{'BKMGT'[power]}"


def _percent(value: float) -> str:
    return f"{value * 100:.0f}%"


_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "whole": str,
    "rate": _of_rate,
    "ms": _millis,
    "span": _duration,
    "bytes": _size,
    "share": _percent,
}

"""What a node tells, made up: as much of it as the screens look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolring.cli.frame import Told


def worker(number: int, answered: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "group": "default",
        "pid": 100 + number,
        "state": "ready",
        "generation": 1,
        "jobs": 0,
        "answered": answered,
        "age": 60.0,
        "memory": {"rss": 10 << 20},
        **more,
    }


def tool(answered: int = 0, circuit: str = "closed", **errors: int) -> dict[str, Any]:
    return {"answered": answered, "cached": 0, "errors": errors, "retried": 0, "circuit": circuit}


def status(tools: Mapping[str, Any], workers: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "node": "n1",
        "pid": 7,
        "state": "healthy",
        "uptime": 61.0,
        "reload": {"code": 1},
        "workers": [worker(0), worker(1)] if workers is None else workers,
        "ending": [],
        "exits": 0,
        "restarts": 0,
        "clients": 1,
        "jobs": {"waiting": 0, "running": 0, "refused": {}},
        "tools": dict(tools),
        "cache": {
            "tools": {},
            "supervisor": {"entries": 0, "bytes": 0, "evictions": 0},
            "memory": {},
            "stores": {},
        },
        "alerts": {"firing": 0},
    }
    return {**found, **more}


def times(value: float, count: int = 10) -> dict[str, Any]:
    return {"count": count, "mean": value, "p50": value, "p95": value * 2, "p99": value * 3}


def minute(tools: Mapping[str, float] = {}, cpu: float = 1.0, workers: Mapping[str, Any] = {}) -> dict[str, Any]:
    """``tools``: the response time of each."""
    of_tools = {
        name: {
            "jobs_per_second": 2.0,
            "failed": 6,
            "response": times(value),
            "run": times(value / 2),
            "queue": times(value / 4),
        }
        for name, value in tools.items()
    }
    return {
        "seconds": 60.0,
        "refused": {"BUSY": 24, "UNKNOWN_TOOL": 6},
        "total": {"response": times(0.01)},
        "tools": of_tools,
        "workers": dict(workers),
        "processes": {
            name: {"cpu_seconds": cpu, "resident_bytes": 20 << 20} for name in ("supervisor", "zygote", "0", "1")
        },
    }


def told(at: float, tools: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, **more: Any) -> Told:
    return Told(at, status(tools, **more), minute() if metrics is None else metrics)

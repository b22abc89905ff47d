"""What `toolring metrics` makes of a node's figures."""

from __future__ import annotations

from typing import Any

from toolring.cli.metrics import _text


def figures(response: bool = True) -> dict[str, Any]:
    times = {"mean": 0.001, "p50": 0.001, "p95": 0.002, "p99": 1.5}
    counts = {"jobs": 3, "operations": 3, "jobs_per_second": 0.5, "failed": 0, "lost": 0, "cached": 0, "errors": {}}
    bytes_ = {"argument_bytes_per_second": 0.0, "result_bytes_per_second": 0.0}
    return {
        **counts,
        **bytes_,
        "queue": times,
        "run": times,
        "overhead": times,
        **({"response": times} if response else {}),
    }


FOUND: dict[str, Any] = {
    "seconds": 58.0,
    "total": figures(),
    "tools": {"echo": figures()},
    "groups": {},
    "workers": {"0": figures(response=False)},
    "left_out": 0,
    "errors": [],
}


def test_it_tells_what_is_of_the_window_and_what_since_the_start() -> None:
    process = dict.fromkeys(("cpu_seconds", "resident_bytes", "threads", "open_fds", "read_bytes", "written_bytes"), 1)
    found = {
        **FOUND,
        "tools": {"echo": {**figures(), "lost": 1200}, "other": figures()},
        "refused": {"BUSY": 2},
        "exits": [{"during": "ready", "cause": "killed by SIGSEGV", "count": 3}],
        "services": {"shop": {"http://a": {"requests": 40, "failed": 2, "refused": 7, "mean": 0.25}}},
        "processes": {"supervisor": process},
        "network": {"received_bytes": 12345, "sent_bytes": 6},
    }
    head, tools, workers, lost, refused, since, exits, services, processes, network = _text(found).split("\n\n")
    assert head.endswith("; times in ms")
    assert tools.splitlines()[1].split() == [
        *("echo", "3", "0.500", "0", "0"),
        *("1.000", "1.000", "2.000", "1,500", *["2.000"] * 3),
    ]
    assert workers.splitlines()[0].split() == [
        "WORKER",
        "JOBS",
        "/S",
        "FAILED",
        "CACHED",
        "QUEUE",
        "P95",
        "RUN",
        "P95",
        "OVER",
        "P95",
    ]
    assert " - " not in workers
    assert lost == "runs that ended with their worker: 1,200 of echo"
    assert refused == "refused at the door, of whatever tool: 2 BUSY"
    assert since == "since the start:"
    assert exits.splitlines()[1].split() == ["ready", "killed", "by", "SIGSEGV", "3"]
    assert services.splitlines()[1].split() == ["shop", "http://a", "40", "2", "7", "250"]
    assert processes.startswith("PROCESS")
    assert network == "network of the machine or container, since it began: 12,345 bytes received, 6 sent"


def test_of_one_tool_there_is_nothing_else() -> None:
    assert "since the start" not in _text({**FOUND, "workers": {}})

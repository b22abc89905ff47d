"""Show a node's workers, jobs, tools and services. With --json: workers (id, pid, state, ...), jobs, tools, services; a
worker whose state is ready or busy can take jobs.

What is accepted and neither waits nor runs is answered, well or with an error. Of a tool, ANSWERED are the calls that a
worker, a cache or another's run has answered, ERRORS all that failed, those too that never came to a worker.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from toolring.address import check
from toolring.cli.output import paint, table
from toolring.errors import ToolringError, Unreachable

_OF_POOLS = ("total", "active", "idle", "waiting", "created", "create_errors", "timeouts", "leaks")
_OF_GROUPS = ("workers", "ready", "least", "most")
_FAULTS = {
    "open": "keeps failing, and gets nothing for a while",
    "half_open": "kept failing, and is tried again",
    "stuck": "is stuck at what it was given",
}
"""Of a sink, by its state."""
_COLOURS = {"healthy": "32", "draining": "33", "unhealthy": "31"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object; of several nodes, one of them each")
    parser.add_argument(
        "--address",
        action="append",
        help="where the node listens (default: TOOLRING_ADDRESS, or this user's socket); repeat it for several nodes",
    )


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    if len(options.address or ()) > 1:
        return _several(options.address, options.json)
    with Client(*(options.address or ())) as client:
        status = client.status()
    if options.json:
        print(json.dumps(status))
        return 0
    _show(status)
    return 0


def _show(status: dict[str, Any]) -> None:
    jobs = status["jobs"]
    print(
        f"node {status['node']} at {status['address']}: {paint(status['state'], _COLOURS[status['state']])}, ", end=""
    )
    print(f"up {status['uptime']:.0f} s, pid {status['pid']}, ", end="")
    unasked = f" ({status['restarts']} unasked)" if status["restarts"] else ""
    print(f"{status['exits']} worker exits{unasked}, {status['clients']} clients")
    print(f"jobs: {jobs['accepted']} accepted, {jobs['answered']} answered, {jobs['waiting']} waiting, ", end="")
    print(f"{jobs['running']} with workers, {jobs['kept']} kept, refused {_refused(jobs['refused'])}")
    last = status["reload"]["outcome"]
    if last is not None and last["error"] is not None:
        why, error = last["why"], last["error"]
        told = f"{error['code']}: {error['message'].splitlines()[0]}"
        print(paint(f"the last reload ({why}) failed: {told}", "31"))
    for name, sink in [*status["sinks"].items(), *status["tracing"].items()]:
        if sink["state"] in _FAULTS:
            counts = ", ".join(f"{sink[key]} {key}" for key in ("sent", "failed", "dropped"))
            text = f"the sink {name} {_FAULTS[sink['state']]}: {counts}; the log says why (sink_failed)"
            print(paint(text, "31"))
    print()
    rows = [
        (w["id"], str(w["pid"] or "-"), w["state"], w.get("generation"), w.get("jobs"), w.get("answered"), *_cache(w))
        for w in status["workers"] + status["ending"]
    ]
    heads: tuple[str, ...] = ("WORKER", "PID", "STATE", "GENERATION", "JOBS", "ANSWERED", "CACHE HITS", "ENTRIES")
    if len({w["group"] for w in status["workers"]}) > 1:
        heads = (*heads, "GROUP")
        rows = [(*row, w["group"]) for row, w in zip(rows, status["workers"] + status["ending"], strict=True)]
    print(table(heads, rows), end="\n\n")
    used = [(name, t) for name, t in status["tools"].items() if t["answered"] or t["errors"]]
    if used:
        figures = [
            (name, t["answered"], t["cached"], sum(t["errors"].values()), (t["mean_run_seconds"] or 0) * 1e3)
            for name, t in used
        ]
        print(table(("TOOL", "ANSWERED", "CACHED", "ERRORS", "MEAN RUN MS"), figures))
    else:
        print(f"tools: {', '.join(status['tools'])} (none was called yet)")
    scaled = [
        (name, *(one[key] for key in _OF_GROUPS))
        for name, one in status["groups"].items()
        if one["least"] < one["most"]
    ]
    if scaled:
        print("\n" + table(("GROUP", "WORKERS", "READY", "LEAST", "MOST"), scaled))
    if services := status.get("services"):
        rows = [_endpoint(name, base, one) for name, its in services.items() for base, one in its["endpoints"].items()]
        print("\n" + table(("SERVICE", "ENDPOINT", "HEALTH", "CIRCUIT", "REQUESTS", "FAILED", "NOW", "MEAN MS"), rows))
    if resources := status.get("resources"):
        heads = ("RESOURCE", "TOTAL", "IN USE", "IDLE", "WAITING", "CREATED", "FAILED", "TIMEOUTS", "LEAKS")
        heads = (*heads, "LONGEST WAIT")
        rows = [
            (name, *(one[key] for key in _OF_POOLS), f"{one['longest_wait']:.3f} s") for name, one in resources.items()
        ]
        print("\n" + table(heads, rows))


def _refused(codes: dict[str, int]) -> str:
    told = ", ".join(f"{count} {code}" for code, count in sorted(codes.items(), key=lambda one: -one[1]) if count)
    return f"{sum(codes.values())} ({told})" if told else "0"


def _endpoint(name: str, base: str, one: dict[str, Any]) -> tuple[Any, ...]:
    mean = one["seconds"] / one["requests"] * 1e3 if one["requests"] else None
    circuit = _counted(one["circuit"], "closed")
    if one["order"] != "auto":
        circuit = paint(f"told to {one['order']}", "33")
    health = _counted(one["health"], "up")
    return name, base, health, circuit, one["requests"], one["failed"], one["under_way"], mean


def _counted(workers: dict[str, int], good: str) -> str:
    """What the workers think of it, each by itself."""
    if set(workers) <= {good}:
        return good if workers else "-"
    total = sum(workers.values())
    bad = ", ".join(f"{state.replace('_', ' ')} {n}/{total}" for state, n in workers.items() if state != good)
    return paint(bad, "31")


def _several(addresses: list[str], as_json: bool) -> int:
    """One line a node; the exit status says whether one of them didn't answer."""
    from toolring.client.sync import Client

    found: dict[str, dict[str, Any]] = {}
    for address in [check(address, any_port=False) for address in addresses]:
        try:
            with Client(address, connect_timeout=2.0) as client:
                found[address] = client.status()
        except ToolringError as error:
            found[address] = {"error": error.to_wire()}
    missing = [address for address, status in found.items() if "error" in status]
    if as_json:
        print(json.dumps(found))
    else:
        rows = [_line(address, status) for address, status in found.items()]
        print(table(("NODE", "STATE", "WORKERS", "RUNNING", "WAITING", "ACCEPTED", "UP"), rows))
    return Unreachable.exit_status if missing else 0


def _line(address: str, status: dict[str, Any]) -> tuple[Any, ...]:
    if "error" in status:
        return address, paint(str(status["error"]["code"]).lower(), "31"), None, None, None, None, None
    jobs, state = status["jobs"], status["state"]
    at_work = sum(worker["state"] in ("ready", "busy") for worker in status["workers"])
    up = f"{status['uptime']:.0f} s"
    return address, paint(state, _COLOURS[state]), at_work, jobs["running"], jobs["waiting"], jobs["accepted"], up


def _cache(worker: dict[str, object]) -> tuple[object, ...]:
    cache = worker.get("cache")
    if not isinstance(cache, dict) or not cache:
        return None, None
    return tuple(sum(one[name] for one in cache.values()) for name in ("hits", "entries"))

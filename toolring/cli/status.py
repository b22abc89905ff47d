"""Show a node's workers, jobs and tools. With --json: workers (id, pid, state, ...), jobs, tools; a worker whose
state is ready or busy can take jobs.
"""

from __future__ import annotations

import argparse
import json

from toolring.cli.options import add_address
from toolring.cli.output import paint, table

_COLOURS = {"healthy": "32", "draining": "33", "unhealthy": "31"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        status = client.status()
    if options.json:
        print(json.dumps(status))
        return 0
    jobs = status["jobs"]
    print(
        f"node {status['node']} at {status['address']}: {paint(status['state'], _COLOURS[status['state']])}, ", end=""
    )
    print(f"up {status['uptime']:.0f} s, pid {status['pid']}, ", end="")
    print(f"{status['restarts']} worker exits, {status['clients']} clients")
    print(f"jobs: {jobs['accepted']} accepted, {jobs['answered']} answered, {jobs['waiting']} waiting, ", end="")
    print(f"{jobs['running']} with workers, {jobs['kept']} kept, refused {sum(jobs['refused'].values())}", end="\n\n")
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
    return 0


def _cache(worker: dict[str, object]) -> tuple[object, ...]:
    cache = worker.get("cache")
    if not isinstance(cache, dict) or not cache:
        return None, None
    return tuple(sum(one[name] for one in cache.values()) for name in ("hits", "entries"))

"""One system, once, in this fresh interpreter: python -m benchmarks.once NAME [--quick]. Prints one line of JSON."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from benchmarks.measure import everything
from benchmarks.peers import make

MARK = "FIGURES "


def main(name: str, *flags: str) -> None:
    faulthandler.dump_traceback_later(float(os.environ.get("BENCH_TIMEOUT") or 180) - 5)
    started = float(os.environ.get("BENCH_STARTED") or time.monotonic())
    system = make(name)
    figures = everything(system, started, "--quick" in flags)
    figures["versions"] = {package: _version(package) for package in system.distributions}
    print(MARK + json.dumps(figures), flush=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Pools of processes inside the client's own process: nothing to connect to, nothing that outlives the client."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Any

from benchmarks.peers.base import Arguments, Futures
from benchmarks.work import FUNCTIONS


class Pool(Futures):
    def start(self) -> None:
        self._pool = multiprocessing.Pool(2)

    def stop(self) -> None:
        self._pool.terminate()
        self._pool.join()

    def submit(self, job: str, argument: Any) -> Any:
        return self._pool.apply_async(FUNCTIONS[job], (argument,))

    def wait(self, handle: Any) -> Any:
        return handle.get()

    def extras(self, arguments: Callable[[int], Arguments], seconds: float) -> dict[str, float]:
        figures = {}
        for chunk, rate in ((1, 40_000), (64, 400_000)):
            given = arguments(int(rate * seconds / 2))
            began = perf_counter()
            for _ in self._pool.imap(FUNCTIONS["echo"], given, chunksize=chunk):
                pass
            figures[f"imap, chunksize {chunk}"] = len(given) / (perf_counter() - began)
        return figures


class Executor(Futures):
    _pool: Any

    def start(self) -> None:
        self._pool = ProcessPoolExecutor(2)

    def stop(self) -> None:
        self._pool.shutdown()

    def submit(self, job: str, argument: Any) -> Any:
        return self._pool.submit(FUNCTIONS[job], argument)

    def wait(self, handle: Any) -> Any:
        return handle.result()


class Pebble(Executor):
    distributions = ("Pebble",)

    def start(self) -> None:
        from pebble import ProcessPool

        self._pool = ProcessPool(max_workers=2)

    def stop(self) -> None:
        self._pool.close()
        self._pool.join(10)

    def submit(self, job: str, argument: Any) -> Any:
        return self._pool.schedule(FUNCTIONS[job], args=(argument,))

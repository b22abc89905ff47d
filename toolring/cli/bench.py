"""Measure a tool: how often it can be called, how long callers wait, and for what.

The node is one that runs, or one that is started for this (--serve). --concurrency: so many callers, each of which
waits for its answer. --rate: calls begin at this rate, and are timed from when they were meant to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from toolring.cli import output
from toolring.cli.options import add_address
from toolring.errors import ConfigError, Draining, InvalidArguments, ToolringError, UnknownTool, Unreachable

if TYPE_CHECKING:
    from toolring.cli.drive import Arguments, Drive, Plan
    from toolring.client.aio import AsyncClient

_LOOK_SECONDS: Final = 0.5
_LAST_SECONDS: Final = 1.0
"""That a node which drains may take to tell what it has counted."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("--arguments", metavar="JSON", help="an object, the arguments of each call (none)")
    parser.add_argument("--arguments-file", metavar="FILE", help="a JSON object in each line, one after the other")
    parser.add_argument("--random", action="store_true", help="take lines of the file at random")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="measure for so long (10)")
    parser.add_argument("--warmup", type=float, default=1.0, metavar="S", help="call for so long before (1)")
    parser.add_argument("--concurrency", type=int, metavar="N", help="callers at once (16)")
    parser.add_argument("--rate", type=float, metavar="R", help="begin so many calls a second, however long they take")
    parser.add_argument("--timeout", type=float, metavar="S", help="the deadline of each call (the node's default)")
    parser.add_argument("--serve", metavar="TARGET", action="append", help="start a node with these tools; repeatable")
    parser.add_argument("--workers", type=int, metavar="N", help="workers of the node that is started")
    parser.add_argument("--compare", metavar="FILE", help="compare with an earlier run: what --json has printed")
    parser.add_argument("--fail-on-error", action="store_true", help="exit with status 1 if a call failed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.cli.verdict import check_comparable, compare, told

    plan = _plan(options)
    old = None
    if options.compare is not None:
        old = _json(_read(options.compare, "compare"), "compare")
        check_comparable(old, plan)
    with ExitStack() as stack:
        address = _own_node(options, stack) if options.serve else options.address
        found, run = asyncio.run(_measured(address, plan, options.timeout))
    if old is not None:
        found["compared"] = compare(old, found)
    away = None
    if run.gone is not None:
        away = type(run.gone)(f"the node went away, so that is all: {run.gone}", **run.gone.facts)
        found["error"] = away.to_wire()
    print(json.dumps(found) if options.json else told(found), flush=True)
    if away is not None:
        return output.report(away, as_json=False)
    if run.stopped:
        return 130
    return int(options.fail_on_error and found["failed"] > 0)


def _plan(options: argparse.Namespace) -> Plan:
    from toolring.cli.drive import Plan

    if options.rate is not None and options.concurrency is not None:
        raise InvalidArguments("--rate and --concurrency don't go together", argument="rate")
    if options.serve and options.address:
        raise InvalidArguments("--serve starts a node of its own: leave --address away", argument="address")
    if options.workers is not None and not options.serve:
        raise InvalidArguments("--workers is about the node that --serve starts", argument="workers")
    concurrency = 16 if options.concurrency is None else options.concurrency
    for name, value, least, most in (
        ("seconds", options.seconds, 0.1, 86400),
        ("warmup", options.warmup, 0, 3600),
        ("concurrency", concurrency, 1, 10_000),
        ("rate", 1 if options.rate is None else options.rate, 0.001, 1e6),
    ):
        if not least <= value <= most:
            raise InvalidArguments(f"--{name} is {least:g} to {most:g}", argument=name)
    given = _arguments(options)
    return Plan(options.tool, given, options.seconds, concurrency, options.rate, options.warmup, options.random)


def _arguments(options: argparse.Namespace) -> list[Arguments]:
    if options.arguments is not None and options.arguments_file is not None:
        raise InvalidArguments("--arguments and --arguments-file don't go together", argument="arguments")
    if options.random and options.arguments_file is None:
        raise InvalidArguments("--random takes lines of --arguments-file", argument="random")
    if options.arguments_file is None:
        return [_object(options.arguments or "{}", "arguments", "--arguments")]
    lines = _read(options.arguments_file, "arguments_file").splitlines()
    where = options.arguments_file
    found = [_object(line, "arguments_file", f"{where}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InvalidArguments(f"{where} has no line", argument="arguments_file")
    return found


def _read(path: str, argument: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArguments(f"{path} can't be read: {error}", argument=argument) from None


def _json(text: str, argument: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArguments(f"--{argument} is not JSON: {error}", argument=argument) from None


def _object(text: str, argument: str, where: str) -> Arguments:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArguments(f"{where}: not JSON: {error}", argument=argument) from None
    if not isinstance(value, dict):
        raise InvalidArguments(f"{where}: not a JSON object", argument=argument)
    return value


def _own_node(options: argparse.Namespace, stack: ExitStack) -> str:
    from toolring.cli.started import started

    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="toolring-bench-"))
    address = f"ipc://{directory}/node.sock"
    words = [*options.serve, "--bind", address, "--log-level", "error"]
    words += [] if options.workers is None else ["--workers", str(options.workers)]
    stack.enter_context(started(words, {"TOOLRING_CACHE_DIRECTORY": f"{directory}/cache"}))
    return address


class Run:
    """What ends a drive before its time, and when."""

    def __init__(self) -> None:
        self.stopped = False
        """By Ctrl-C."""
        self.gone: Unreachable | Draining | None = None
        """What was heard of the node at last."""
        self.heard = 0.0
        """When it answered last."""
        self._end: Callable[[], object] = lambda: None

    def begins(self, end: Callable[[], object]) -> None:
        self._end = end

    def stop(self) -> None:
        self.stopped = True
        self._end()

    def lost(self, error: Unreachable | Draining) -> None:
        """The node is away, or will be."""
        self.gone = self.gone or error
        self._end()


async def _measured(address: str | None, plan: Plan, timeout: float | None) -> tuple[dict[str, Any], Run]:
    """The report, and what has ended it."""
    from toolring.cli.drive import Drive
    from toolring.cli.verdict import of_node, report
    from toolring.client.aio import AsyncClient

    async with AsyncClient(address, caller="bench") as client:
        await _try(client, plan, timeout)

        run = Run()

        async def call(given: Arguments) -> Any:
            try:
                found = await client.call(plan.tool, given, timeout=timeout)
            except (Unreachable, Draining) as error:
                run.lost(error)
                raise
            run.heard = time.perf_counter()
            return found

        drive = Drive(plan, call)
        begun: dict[str, Any] = {}

        async def watch() -> None:
            await asyncio.sleep(plan.warmup)
            begun.update(client=time.process_time(), at=time.perf_counter(), node=await _figures(client, plan.tool))
            try:
                await _look_on(client, drive, begun)
            except Unreachable as error:
                run.lost(error)

        await _until_over(drive, watch(), run)
        ended = drive.record.ends
        if run.stopped or run.gone is not None:
            ended = min(run.heard if run.gone is not None else time.perf_counter(), ended)
        node = {}
        if begun.get("node") and (after := await _last_figures(client, plan.tool, run)):
            node = of_node(begun["node"], after)
        cpu = {name: meter.mean for name, meter in begun.get("cpu", {}).items()}
        if "at" in begun:
            cpu["client"] = (time.process_time() - begun["client"]) / max(1e-9, time.perf_counter() - begun["at"])
    return report(plan, drive.record, max(0.0, ended - drive.record.began), node, cpu), run


async def _try(client: AsyncClient, plan: Plan, timeout: float | None) -> None:
    """One call, so that what can't work is told at once."""
    names = [spec.name for spec in await client.tools()]
    if plan.tool not in names:
        raise UnknownTool(f"no tool {plan.tool!r}; there is {', '.join(names[:8])}", tool=plan.tool)
    try:
        await client.call(plan.tool, plan.arguments[0], timeout=timeout)
    except InvalidArguments:
        raise
    except ToolringError:
        pass  # it is counted when it is measured


async def _until_over(drive: Drive, watching: Any, run: Run) -> None:
    """What is under way when Ctrl-C ends it, or the node goes away, is cancelled."""
    work = asyncio.create_task(drive.run())
    watch = asyncio.create_task(watching)
    loop = asyncio.get_running_loop()

    def end() -> None:
        drive.stop()
        work.cancel()

    run.begins(end)
    loop.add_signal_handler(signal.SIGINT, run.stop)
    try:
        await asyncio.wait([work])
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        _clear()
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error


async def _look_on(client: AsyncClient, drive: Drive, begun: dict[str, Any]) -> None:
    """Say how far it is, and take down what the processes use."""
    meters: dict[str, Average] = begun.setdefault("cpu", {"workers": Average(), "supervisor": Average()})
    while True:
        _say(drive)
        if begun["node"]:
            processes = (await client.metrics("1m", most=1))["processes"]
            moment = time.perf_counter()
            if "supervisor" in processes:
                meters["supervisor"].saw(processes["supervisor"]["cpu_seconds"], moment)
            meters["workers"].saw(sum(one["cpu_seconds"] for name, one in processes.items() if name.isdigit()), moment)
        await asyncio.sleep(_LOOK_SECONDS)


class Average:
    """The mean rate of a count that is looked at every two seconds: between the first and the last change."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._first: tuple[float, float] | None = None
        self.mean: float | None = None

    def saw(self, value: float, moment: float) -> None:
        if self._value is not None and value != self._value:
            if self._first is None:
                self._first = value, moment
            else:
                self.mean = (value - self._first[0]) / (moment - self._first[1])
        self._value = value


async def _figures(client: AsyncClient, tool: str) -> Mapping[str, Any]:
    """Nothing of a node that counts nothing."""
    try:
        found: dict[str, Any] = (await client.metrics("start", tool=tool, buckets=True))["total"]
    except ConfigError:
        return {}
    return found


async def _last_figures(client: AsyncClient, tool: str, run: Run) -> Mapping[str, Any]:
    """Nothing of a node that is away; one that drains may still tell."""
    if run.gone is None:
        return await _figures(client, tool)
    if isinstance(run.gone, Draining):
        with suppress(Unreachable, TimeoutError):
            return await asyncio.wait_for(_figures(client, tool), _LAST_SECONDS)
    return {}


def _say(drive: Drive, write: Callable[[str], object] = sys.stderr.write) -> None:
    if not sys.stderr.isatty():
        return
    record = drive.record
    rate = sum(record.answers) / max(1e-9, drive.plan.seconds - drive.left)
    write(f"\r\x1b[K{drive.left:.0f} s left, {rate:,.0f} answers/s, {sum(record.errors.values()):,} failed")
    sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

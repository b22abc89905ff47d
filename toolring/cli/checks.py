"""The judgements of ``toolring doctor``: from facts to a finding, each with what to do about it. Pure.

A failure is what a node can't start or run with, or what lets others in. A warning is what will hurt some day.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Final, NamedTuple

from toolring.address import IPC_LIMIT
from toolring.cli.facts import FILES_PER_WORKER, OWN_FILES, Directory, Facts

LEAST_CLIENTS: Final = 64
TASKS: Final = 3
"""Of each process: its own thread, and those of ZeroMQ."""
PROCESS_BYTES: Final = 48 << 20
"""Of a worker that serves small tools, without its cache."""
TICK: Final = 0.005
"""A clock that is coarser makes time limits so."""
YEARS: Final = (1_735_689_600, 4_102_444_800)
"""From 2025 to 2100."""


class Status(StrEnum):
    OK = auto()
    WARNING = auto()
    FAILURE = auto()


class Finding(NamedTuple):
    check: str
    status: Status
    found: str
    advice: str = ""
    """What to do; empty: nothing."""


def _ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def _warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Status.WARNING, found, advice)


def _failure(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Status.FAILURE, found, advice)


# ---- the set-up


def configuration(facts: Facts) -> Finding:
    if facts.config_error:
        advice = "correct it; all below is judged by the defaults"
        return _failure("configuration", facts.config_error, advice)
    return _ok("configuration", "is sound")


def packages(facts: Facts) -> Finding:
    wrong = [p for p in facts.packages if _version(p.found) < _version(p.least)]
    if wrong:
        found = ", ".join(f"{p.name} {p.found or 'is missing'} (needs {p.least})" for p in wrong)
        return _failure("packages", found, "pip install --upgrade toolring, in the environment that it runs in")
    return _ok("packages", ", ".join(f"{p.name} {p.found}" for p in facts.packages) or "run from the source")


def plugins(facts: Facts) -> Finding:
    if facts.plugins_error:
        return _failure("plugins", facts.plugins_error, "correct it, or put it on plugins.block")
    for name, problem in facts.layers:
        if problem:
            return _failure("plugins", f"cache.layers: {name}: {problem}", "install it, or take it out of cache.layers")
    for key, problem in facts.sinks:
        return _failure("plugins", problem, f"correct [{key.partition('.')[0]}], or take it out of {key}")
    return _ok("plugins", f"cache layers: {', '.join(name for name, _ in facts.layers) or 'none'}")


def tools(facts: Facts) -> Finding:
    if facts.loading.error:
        advice = "correct the module, or name another target; toolring serve shows the traceback"
        if facts.loading.key:
            advice = f"correct {facts.loading.key} in the configuration, or provide what it needs"
        return _failure("tools", facts.loading.error, advice)
    names = [spec.name for spec in facts.loading.specs if not spec.internal]
    return _ok("tools", f"{len(names)} loaded: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")


def alerts(facts: Facts) -> Finding:
    command = facts.config.alerting.command
    if facts.command_error:
        return _failure("alerts", facts.command_error, "correct it, or name the program by its whole path")
    return _ok("alerts", f"are told by {command[0]}" if command else "are told by no command")


def start_method(facts: Facts) -> Finding:
    method, threads = facts.config.node.start_method, facts.loading.threads
    if threads > 1 and method == "fork":
        found = (
            f"fork, but the tools' modules start {threads - 1} threads: a fork may copy a lock that one of them holds"
        )
        return _failure("start method", found, 'set node.start_method = "auto", or start the threads in the tools')
    if threads > 1 and method == "auto":
        found = f"spawn, since the tools' modules start {threads - 1} threads: slower to start, and more memory"
        return _warning("start method", found, "start threads when a tool is first called, not when it is imported")
    return _ok("start method", "fork" if method == "auto" else method)


def group_limits(facts: Facts) -> Finding:
    """Those of the processes of a group, as far as a worker needs more to live at all."""
    for name, problem in facts.loading.limits.items():
        found = f"groups.{name}: a worker can't start under its limits: {problem}"
        return _failure("group limits", found, "raise address_space, open_files or whichever it is, or leave it out")
    for name, files in facts.few_files:
        needed = OWN_FILES + FILES_PER_WORKER * facts.workers
        found = f"groups.{name}.open_files = {files}: a worker among {facts.workers} needs {needed}"
        return _failure("group limits", found, "raise it, or leave it out")
    return _ok("group limits", "leave room for a worker")


# ---- where it listens


def listening(facts: Facts) -> Finding:
    path = facts.address.removeprefix("ipc://")
    if facts.address_error:
        return _failure("address", facts.address_error, "choose another with --bind, or set XDG_RUNTIME_DIR")
    if len(facts.back.encode(errors="surrogateescape")) > IPC_LIMIT:
        found = f"the sockets in {facts.private.path} would have paths of more than {IPC_LIMIT} bytes"
        return _failure("address", found, "set XDG_RUNTIME_DIR to a directory with a shorter name")
    if facts.listening == "other" and facts.address.startswith("tcp://"):
        found = f"another program listens at {facts.address}"
        return _failure("address", found, "choose another with --bind, or end that program")
    if facts.listening == "other":
        return _failure("address", f"{path} is no socket; a node would delete it", "choose another with --bind")
    for key, problem in facts.webs:
        return _failure("address", problem, f"set {key} to another, or end who listens there")
    if facts.listening == "stale" or facts.left:
        found = ", ".join(([path] if facts.listening == "stale" else []) + list(facts.left))
        advice = "nothing: the next node replaces them; look in its log for why the last one was killed"
        return _warning("address", f"left by a node that was killed: {found}", advice)
    return _ok("address", facts.address + (", where a node listens now" if facts.listening == "node" else ""))


def directory(facts: Facts) -> Finding:
    own, public = facts.private, facts.public
    problem = _not_ours(own, facts.user)
    if problem:
        advice = f"chmod 700 {own.path} if it is yours, else remove it, or set XDG_RUNTIME_DIR to a directory of yours"
        return _failure("directory", f"{own.path} {problem}", advice)
    if own.mode is not None and own.mode & 0o077:
        found = f"others can look into {own.path} (mode {stat.S_IMODE(own.mode):o})"
        return _warning("directory", found, f"chmod 700 {own.path}")
    if public is None or public.path == own.path:
        return _ok("directory", f"{own.path} {'will be made' if own.mode is None else 'is private'}")
    if public.mode is None or not public.writable:
        found = f"{public.path} {'is not there' if public.mode is None else 'can not be written to'}"
        return _failure("directory", found, "make it, or choose another address with --bind")
    if public.mode & stat.S_IWOTH and not public.mode & stat.S_ISVTX:
        found = f"anybody can write to {public.path}, and put a socket of his own in the place of the node's"
        return _failure("directory", found, f"chmod o-w {public.path}")
    return _ok("directory", f"{own.path} and {public.path}")


def _not_ours(found: Directory, user: int) -> str:
    if found.mode is None:
        return "" if found.writable else "is not there and can't be made"
    if not stat.S_ISDIR(found.mode) or found.link:
        return "is not a directory"
    if found.owner != user:
        return f"belongs to user {found.owner}, not to {user}"
    if found.mode & 0o022:
        return f"can be written to by others (mode {stat.S_IMODE(found.mode):o})"
    return ""


# ---- the machine


def descriptors(facts: Facts) -> Finding:
    for_workers = OWN_FILES + FILES_PER_WORKER * facts.workers
    wanted = facts.config.limits.clients
    clients = facts.files - OWN_FILES - facts.workers
    found = f"{facts.files} for the node, {facts.files_at_first} for each worker"
    advice = f"raise the limit: ulimit -n {for_workers + wanted}, LimitNOFILE= of the unit"
    if facts.files_at_first < for_workers:
        return _failure("descriptors", f"{found}; with {facts.workers} workers one needs {for_workers}", advice)
    if clients < min(wanted, LEAST_CLIENTS):
        return _failure("descriptors", f"{found}; that leaves room for {max(0, clients)} clients", advice)
    if clients < wanted:
        advice += f", or lower limits.clients to {clients}"
        return _warning("descriptors", f"{found}; room for {clients} of {wanted} clients", advice)
    return _ok("descriptors", found)


def tasks(facts: Facts) -> Finding:
    if facts.tasks is None:
        return _ok("processes", "no limit")
    needed, free = TASKS * (facts.workers + 2), facts.tasks.limit - facts.tasks.used
    found = f"{facts.tasks.used} of {facts.tasks.limit} processes and threads in use"
    advice = "raise the limit: ulimit -u, TasksMax= of the unit, --pids-limit of the container; or lower node.workers"
    if free < needed:
        return _failure("processes", f"{found}; {facts.workers} workers need {needed}", advice)
    if free < 2 * needed:
        return _warning("processes", f"{found}; few are left for what the tools start", advice)
    return _ok("processes", found)


def shared_memory(facts: Facts) -> Finding:
    if facts.lanes_error:
        advice = "a node needs some: look at ulimit -f and -v, and at the memory that is left"
        return _failure("shared memory", f"can't be had: {facts.lanes_error}", advice)
    return _ok("shared memory", f"{_mb(facts.lanes)} reserved, taken up as it is used")


def temporary(facts: Facts) -> Finding:
    if facts.temporary_error:
        advice = "a node needs a place for them: look at ulimit -f, at the room on the disk, and at TMPDIR"
        return _failure("temporary files", facts.temporary_error, advice)
    return _ok("temporary files", "can be made")


def cores(facts: Facts) -> Finding:
    if facts.quota is not None and facts.workers > max(1.0, facts.quota):
        found = f"{facts.workers} workers, but time for {facts.quota:g} cores: all of them pause when that is used up"
        return _warning("cores", found, f"set node.workers = {max(1, int(facts.quota))}, unless the tools mostly wait")
    if facts.workers > 4 * facts.cores:
        found = f"{facts.workers} workers on {facts.cores} cores"
        return _warning("cores", found, "lower node.workers, unless the tools mostly wait")
    return _ok("cores", f"{facts.workers} workers on {facts.cores} cores")


def memory(facts: Facts) -> Finding:
    cache = facts.config.cache
    limit = facts.total if facts.memory is None else facts.memory.limit
    bare = PROCESS_BYTES * (facts.workers + 2)
    full = bare + facts.workers * cache.max_bytes + cache.hot_bytes
    found = f"{_mb(limit)} allowed; {facts.workers} workers take some {_mb(bare)}, with full caches {_mb(full)}"
    advice = "lower node.workers, cache.max_bytes or cache.hot_bytes, or raise the limit"
    if bare > limit:
        return _failure("memory", found, advice)
    if full > 0.8 * limit:
        return _warning("memory", found, advice)
    if facts.memory is not None and facts.memory.share > 0.8:
        return _warning("memory", f"{_mb(facts.memory.used)} of {_mb(limit)} in use already", "raise the limit")
    return _ok("memory", found)


def clock(facts: Facts) -> Finding:
    step, backwards, wall = facts.clocks
    if backwards:
        return _failure("clock", "the monotonic clock went back", "a fault of the machine: look at its clock source")
    if not YEARS[0] < wall < YEARS[1]:
        advice = "set the clock: cached results in stores expire by it, and logs are dated by it"
        return _warning("clock", "the time of day is implausible", advice)
    if step > TICK:
        return _warning("clock", f"it goes in steps of {step * 1e3:.0f} ms", "choose another clock source")
    return _ok("clock", f"steps of {step * 1e9:.0f} ns")


def kernel(facts: Facts) -> Finding:
    bare = PROCESS_BYTES * (facts.workers + 2)
    if facts.commit is not None and facts.commit.limit - facts.commit.used < bare:
        found = f"overcommit is off, and only {_mb(facts.commit.limit - facts.commit.used)} may be promised"
        return _warning(
            "kernel", found, "set vm.overcommit_memory = 0, or add swap: a fork is promised all it may copy"
        )
    if facts.swap.limit and facts.swap.share > 0.5:
        found = f"{facts.swap.share:.0%} of the swap is in use"
        return _warning("kernel", found, "see what takes the memory: who is swapped out answers late")
    return _ok("kernel", "promises memory freely" if facts.commit is None else "has memory to promise")


CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    configuration,
    packages,
    plugins,
    tools,
    alerts,
    start_method,
    group_limits,
    listening,
    directory,
    descriptors,
    tasks,
    shared_memory,
    temporary,
    cores,
    memory,
    clock,
    kernel,
)


def examine(facts: Facts) -> list[Finding]:
    return [check(facts) for check in CHECKS]


def worst(findings: list[Finding]) -> Status:
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _mb(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"

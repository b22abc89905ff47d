"""What ``toolring doctor`` finds out about the machine and the set-up. Gathered here, judged in ``checks``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import socket
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from toolring import address, cgroups
from toolring.cgroups import Room
from toolring.cli.loading import Loading, load
from toolring.client.sync import Client
from toolring.config import Config
from toolring.errors import AddressError, ConfigError, ToolringError
from toolring.lane import Lanes
from toolring.plugins.registry import Registry, load_plugins
from toolring.plugins.specs import SinkSettings
from toolring.policy.balance import Balancer, Members
from toolring.supervisor import ground, web
from toolring.supervisor.alerts import rules
from toolring.supervisor.lineup import Lineup
from toolring.supervisor.node import DESCRIPTORS
from toolring.supervisor.notifier import check_program

OWN_FILES: Final = 32
"""Descriptors that a supervisor, or a worker, has by itself."""
FILES_PER_WORKER: Final = 4
"""That the zygote has of each; its later children inherit them."""
_READS: Final = 10_000
"""Of the monotonic clock, to see how it goes."""


class Directory(NamedTuple):
    """``mode`` None: it is not there. ``link``: its name is a link."""

    path: str
    mode: int | None = None
    owner: int = -1
    link: bool = False
    writable: bool = False
    """By this user: whoever is to make the socket."""


class Package(NamedTuple):
    name: str
    least: str
    found: str
    """Its version; empty: it is missing."""


class Clocks(NamedTuple):
    """Seconds."""

    step: float
    """The least by which the monotonic clock was seen to go on."""
    backwards: bool
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Errors are texts; empty: none."""

    config: Config
    """What was read, or the defaults if it couldn't be."""
    config_error: str
    packages: tuple[Package, ...]
    plugins_error: str
    layers: tuple[tuple[str, str], ...]
    """The stores that are configured, with what is wrong with each."""
    sinks: tuple[tuple[str, str], ...]
    """Those that can't be made: the setting that names one, and why."""
    command_error: str
    """Why alerts can't be told by the command that is configured."""
    loading: Loading
    workers: int
    """Processes that a node would start, over all groups."""
    few_files: tuple[tuple[str, int], ...]
    """Groups whose workers may have fewer descriptors than they need, and how many that are."""
    temporary_error: str
    """Why no temporary file can be made."""
    address: str
    address_error: str
    back: str
    """A path like that of the socket between supervisor and workers."""
    private: Directory
    """Where a node has its own sockets."""
    public: Directory | None
    """Where it listens; None if that is in no directory."""
    webs: tuple[tuple[str, str], ...]
    """Settings of addresses for HTTP where a node can't listen, and why; if a node does so now, it may."""
    listening: str
    """What is at the address: ``nothing``, ``node``, ``stale`` (a socket that nobody listens at), ``other``."""
    left: tuple[str, ...]
    """Sockets of supervisors that were killed."""
    user: int
    files: int
    """Descriptors that a node may have, once it has raised its limit."""
    files_at_first: int
    """Before that, as its workers have it."""
    tasks: Room | None
    """Processes and threads; None: no limit."""
    lanes: int
    """Bytes of shared memory."""
    lanes_error: str
    cores: int
    quota: float | None
    """Cores' worth of time that the control group allows; None: all."""
    memory: Room | None
    """Of the control group; None: no limit."""
    total: int
    """Bytes of the machine."""
    clocks: Clocks
    commit: Room | None
    """Bytes that may be promised, if the kernel promises no more than it has; None: it does."""
    swap: Room


def gather(config: Config, config_error: str = "", temporary_error: str = "") -> Facts:
    """Takes about a second, most of it to load the tools."""
    plugins_error, registry = _plugins(config)
    lanes, lanes_error = _lanes(config)
    loading, workers = _loading(config, {} if registry is None else registry.balancers, lanes)
    where = config.node.bind or address.default_address()
    private = address.runtime_directory()
    address_error = ""
    try:
        where = address.check(where)
    except ToolringError as error:
        address_error = str(error)
    path = Path(where.removeprefix("ipc://")) if where.startswith("ipc://") else None
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    group = cgroups.memory(cgroups.of_process("memory"))
    total = psutil.virtual_memory().total
    swap = psutil.swap_memory()
    return Facts(
        config=config,
        config_error=config_error,
        packages=_packages(),
        plugins_error=plugins_error,
        layers=() if registry is None else _layers(config, registry),
        sinks=() if registry is None else _sinks(config, registry),
        command_error=_command(config),
        loading=loading,
        workers=workers,
        few_files=_few_files(config, OWN_FILES + FILES_PER_WORKER * workers),
        temporary_error=temporary_error,
        address=where,
        address_error=address_error,
        back=str(private / "1234567-12345678.back"),
        private=_directory(private),
        public=None if path is None else _directory(path.parent),
        webs=_webs(config, where),
        listening="nothing" if address_error else _taken(where) if path is None else _listening(path),
        left=tuple(map(str, ground.stale(private))),
        user=os.getuid(),
        files=DESCRIPTORS if files[1] == resource.RLIM_INFINITY else max(files[0], min(files[1], DESCRIPTORS)),
        files_at_first=DESCRIPTORS if files[0] == resource.RLIM_INFINITY else files[0],
        tasks=_tasks(),
        lanes=lanes,
        lanes_error=lanes_error,
        cores=ground.cores(),
        quota=cgroups.cores(cgroups.of_process("cpu")),
        memory=group if group is not None and group.limit < total else None,
        total=total,
        clocks=_clocks(),
        commit=_commit(),
        swap=Room(swap.total, swap.used),
    )


def _plugins(config: Config) -> tuple[str, Registry | None]:
    plugins = config.plugins
    try:
        return "", load_plugins(plugins.load, plugins.allow, plugins.block)
    except ToolringError as error:
        return str(error), None


def _layers(config: Config, registry: Registry) -> tuple[tuple[str, str], ...]:
    stores = registry.cache_stores
    found = []
    for name in config.cache.layers:
        problem = "" if name in stores else f"no plugin offers it; there is {', '.join(sorted(stores))}"
        try:
            getattr(stores.get(name), "check", lambda: None)()
        except ToolringError as error:
            problem = str(error)
        found.append((name, problem))
    return tuple(found)


def _sinks(config: Config, registry: Registry) -> tuple[tuple[str, str], ...]:
    """None is made: it might write. One that has no ``check`` is taken for sound."""
    metrics, found = config.metrics, []
    settings = SinkSettings(metrics.interval, metrics.file, metrics.statsd)
    sinks: list[tuple[str, str, tuple[str, ...], Mapping[str, Any]]] = [
        ("metrics.sinks", "metrics", metrics.sinks, registry.metrics_sinks),
        ("tracing.sinks", "span", config.tracing.sinks, registry.span_sinks),
    ]
    for key, kind, wanted, offered in sinks:
        for name in wanted:
            factory = offered.get(name)
            if factory is None:
                found.append((key, f"no {kind} sink {name!r}; there is {', '.join(sorted(offered))}"))
                continue
            try:
                getattr(factory, "check", lambda _: None)(settings)
                if not metrics.figures and getattr(factory, "families", False):
                    raise ConfigError("it needs what the node counts, but metrics.figures is false")
            except Exception as error:
                found.append((key, f"the {kind} sink {name!r} can't be made: {error}"))
    return tuple(found)


def _command(config: Config) -> str:
    """Judged by the one that would run it, if there is anything to be told."""
    command, alerting = config.alerting.command, config.alerting
    watched = rules(config.alerts, alerting.defaults, config.metrics.figures, bool(config.services))
    if not command or not watched:
        return ""
    try:
        check_program(command)
    except ConfigError as error:
        return str(error)
    return ""


def _webs(config: Config, where: str) -> tuple[tuple[str, str], ...]:
    found = []
    with ExitStack() as stack:
        for name, wanted in (("metrics", config.metrics.listen), ("dashboard", config.dashboard.listen)):
            if not wanted:
                continue
            host, port = address.host_and_port(wanted)
            try:
                stack.enter_context(web.listening(f"{name}.listen", host, port))
            except AddressError as error:
                if not str(_status(where).get(name, "")).endswith(f":{port}"):
                    found.append((f"{name}.listen", str(error)))
    return tuple(found)


def _few_files(config: Config, needed: int) -> tuple[tuple[str, int], ...]:
    said = {name: section.process.open_files for name, section in config.groups.items()}
    return tuple((name, files) for name, files in said.items() if files is not None and files < needed)


def _loading(config: Config, balancers: Mapping[str, Callable[[Members], Balancer]], lanes: int) -> tuple[Loading, int]:
    """What came of the tools, and how many workers a node would have."""
    each = config.node.workers or ground.cores()
    try:
        settings = ground.worker_settings(config)
        loading = load(settings, config.timeouts.start, lanes)
        if loading.error or not balancers:
            return loading, each
        lineup = Lineup(config, each, ground.most_workers(config), balancers, lambda _name, _facts: None)
        groups = lineup.plans(loading.specs)
    except ToolringError as error:
        return Loading.failed(error), each
    return loading, sum(group.workers for group in groups)


def _packages() -> tuple[Package, ...]:
    """Those that toolring can't do without, with the version that it needs."""
    try:
        needs = importlib.metadata.requires("toolring") or []
    except importlib.metadata.PackageNotFoundError:
        return ()  # it runs from its source
    found = [Package("Python", "3.11", platform.python_version())]
    for need in needs:
        parts = re.fullmatch(r"([\w.-]+)>=([\d.]+)", need)
        if parts:  # an extra has a condition behind it
            try:
                version = importlib.metadata.version(parts[1])
            except importlib.metadata.PackageNotFoundError:
                version = ""
            found.append(Package(parts[1], parts[2], version))
    return tuple(found)


def _directory(path: Path) -> Directory:
    try:
        found = path.stat()
    except OSError:
        return Directory(str(path), writable=_may_make(path))
    return Directory(
        str(path),
        found.st_mode,
        found.st_uid,
        path.is_symlink(),
        stat.S_ISDIR(found.st_mode) and os.access(path, os.W_OK | os.X_OK),
    )


def _may_make(path: Path) -> bool:
    nearest = next(parent for parent in path.absolute().parents if os.path.exists(parent))  # False if it may not look
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _listening(path: Path) -> str:
    """Asks by connecting, which a node takes for a client that changed its mind."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "other"
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1.0)
            asking.connect(str(path))
    except ConnectionRefusedError:
        return "stale"
    except FileNotFoundError:
        return "nothing"
    except OSError:
        return "node"  # it is full, or not for us
    return "node"


def _taken(where: str) -> str:
    """What has a TCP address now."""
    host, port = address.host_and_port(where.removeprefix("tcp://").replace(":*", ":0"))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a node does
        try:
            trying.bind((host, port))
        except OSError:
            return "node" if _is_node(where) else "other"
    return "nothing"


def _is_node(where: str) -> bool:
    return bool(_status(where))


def _status(where: str) -> dict[str, Any]:
    """Empty if no node answers there."""
    try:
        with Client(where, connect_timeout=1.0) as client:
            return client.status()
    except ToolringError:
        return {}


def _tasks() -> Room | None:
    """What is nearest to its end: of this user, or of the control group. The kernel doesn't limit root."""
    group = cgroups.processes(cgroups.of_process("pids"))
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return group
    mine = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        mine += (process.info["num_threads"] or 1) if uids is not None and uids.real == os.getuid() else 0
    user = Room(limit, mine)
    return user if group is None or user.limit - user.used < group.limit - group.used else group


def _lanes(config: Config) -> tuple[int, str]:
    """Makes what a node would make, and lets go of it. Untouched, it takes no memory."""
    count = ground.most_workers(config) * ground.SPARE_LANES
    try:
        lanes = Lanes(count)
    except (OSError, ValueError) as error:
        return 0, str(error)
    lanes.close()
    return len(lanes.memory), ""


def _clocks() -> Clocks:
    reads = [time.monotonic() for _ in range(_READS)]
    steps = [later - earlier for earlier, later in pairwise(reads)]
    step = min((step for step in steps if step > 0), default=time.get_clock_info("monotonic").resolution)
    return Clocks(step, min(steps) < 0, time.time())


def _commit() -> Room | None:
    if cgroups.text(Path("/proc/sys/vm/overcommit_memory")).strip() != "2":
        return None
    told = dict(re.findall(r"^(\w+): +(\d+) kB$", cgroups.text(Path("/proc/meminfo")), re.M))
    return Room(int(told["CommitLimit"]) << 10, int(told["Committed_AS"]) << 10)

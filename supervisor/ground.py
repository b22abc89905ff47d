"""What a node stands on before anything else: its address, the shared lanes, and the zygote, which loads the tools.

Made first, and alone: the zygote is forked before zmq is even imported, so that it loads the tools while the
supervisor imports the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from toolring import address
from toolring.config import Config, Loaded, decided, overrides
from toolring.errors import AddressError
from toolring.heap import keep_freed
from toolring.lane import Lanes
from toolring.settings import CacheSettings, ResultSettings, WorkerSettings
from toolring.supervisor.results import Home, home
from toolring.supervisor.zygotes import Zygotes

BUNDLED: Final = "toolring.plugins.tools.code"
LOOKS: Final = ".looks"
"""How the directory's name ends in which workers tell what they do; it lies beside the socket."""
SPARE_LANES: Final = 4
"""Lanes for each worker: its own, and those of predecessors that haven't ended yet."""
LEAST_LANES: Final = 64
"""Workers that there are lanes for in any case: which groups there are is known only once the tools are loaded. A lane
costs memory when it is used."""


class Ground:
    """Holds an address, and a zygote that has begun to load the tools.

    Raises AddressError if the address is refused or taken; nothing was started then.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.config = config = loaded.config
        self.workers = config.node.workers or cores()
        """Processes of each group that doesn't say it."""
        settings = worker_settings(config)
        self.most_workers = most_workers(config)
        self.address = address.check(config.node.bind or address.default_address())
        self._any_port = self.address.endswith((":*", ":0"))
        self._lock_fd = self._lock()
        self.node = secrets.token_hex(4)
        directory = address.private(address.runtime_directory())
        for left in stale(directory):
            left.unlink(missing_ok=True)
            shutil.rmtree(left.with_suffix(LOOKS), ignore_errors=True)
        self.back = f"ipc://{directory}/{os.getpid()}-{self.node}.back"
        self.looks = Path(self.back.removeprefix("ipc://")).with_suffix(LOOKS)
        self.looks.mkdir(0o700)
        self.lanes = Lanes(self.most_workers * SPARE_LANES)
        cache = self._cache_settings(settings.targets)
        self.results = self._results_home()
        settings = settings._replace(cache=cache, node=self.address, address=self.back, lanes=self.lanes.path)
        settings = settings._replace(looks=str(self.looks), results=self._results())
        self._files = settings.cache.directory
        self.zygotes = Zygotes(settings, self.lanes.memory)
        keep_freed()
        self.zygotes.open(1, first=True)

    def close(self) -> None:
        """End the zygote and all its workers, and let go of the address."""
        self.zygotes.close()
        self.lanes.close()
        shutil.rmtree(self.looks, ignore_errors=True)
        if self.results is not None:
            self.results.close()
        if self._any_port:  # nobody will ever come back to this address
            shutil.rmtree(self._files, ignore_errors=True)
        self._unlock()

    def _results_home(self) -> Home | None:
        section = self.config.results
        base = os.path.join(os.path.abspath(section.directory or _files_of_user()), "results")
        return home(base, self.node, bool(section.store_over or section.directory))

    def _results(self) -> ResultSettings:
        section = self.config.results
        return ResultSettings(
            directory="" if self.results is None else self.results.directory,
            life=self.node,
            secret=secrets.token_bytes(32),
            over=section.store_over,
            preview=section.preview,
            max_bytes=section.max_bytes,
        )

    def _cache_settings(self, targets: tuple[str, ...]) -> CacheSettings:
        """What a result may depend on beside its arguments is in the namespace: where the node was started, and what
        it serves."""
        cache = self.config.cache
        return CacheSettings(
            strategy=cache.strategy,
            entries=cache.max_entries,
            bytes=cache.max_bytes,
            layers=cache.layers,
            directory=os.path.join(os.path.abspath(cache.directory or _files_of_user()), self._place()),
            url=cache.url,
            store_bytes=cache.store_bytes,
            timeout=cache.timeout,
            local=cache.local,
            early=cache.early,
            namespace=cache.namespace or "\0".join((os.getcwd(), *targets)),
        )

    def _place(self) -> str:
        """The name of this node's own directory for files. Two nodes that live at once never share one, since what one
        invalidates the other's memory doesn't hear of; and only one at a time can listen at an address."""
        whose = self.node if self._any_port else self.address
        return hashlib.blake2b(whose.encode(errors="surrogateescape"), digest_size=8).hexdigest()

    def _lock(self) -> int | None:
        """A second bind to an ipc path would succeed and steal the traffic, so a lock file stands beside it."""
        if not self.address.startswith("ipc://"):
            return None
        path = Path(self.address.removeprefix("ipc://"))
        if path.parent == address.runtime_directory():
            address.private(path.parent)
        if path.exists() and not path.is_socket():
            raise AddressError(f"{path} is there, and no socket; remove it, or choose another address with --bind")
        try:
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AddressError(f"can't make {path}.lock: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise AddressError(
                f"another node serves {self.address}; stop it, or choose another address with --bind"
            ) from None
        if os.fstat(lock).st_ino != _inode(f"{path}.lock"):  # its owner removed it just before it let go
            os.close(lock)
            return self._lock()
        return lock

    def _unlock(self) -> None:
        """Remove the sockets' files, and only then let go of the address."""
        Path(self.back.removeprefix("ipc://")).unlink(missing_ok=True)
        if self._lock_fd is not None:
            path = self.address.removeprefix("ipc://")
            for name in (path, f"{path}.lock"):
                Path(name).unlink(missing_ok=True)
            os.close(self._lock_fd)


def most_workers(config: Config) -> int:
    """Processes that there may be, over all groups, if there are lanes for as many."""
    each = config.node.workers or cores()
    return max(LEAST_LANES, 4 * (each + sum(section.workers or each for section in config.groups.values())))


def stale(directory: Path) -> Iterator[Path]:
    """Sockets of supervisors that were killed; a live one's begins with its pid."""
    for path in directory.glob("*.back"):
        try:
            os.kill(int(path.name.partition("-")[0]), 0)
        except (ValueError, ProcessLookupError):
            yield path
        except PermissionError:
            pass


def _files_of_user() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "toolring")


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def targets(config: Config) -> tuple[str, ...]:
    """What is served: the bundled tools, if nothing else is named."""
    described = any(service.openapi for service in config.services.values())
    return config.node.tools or (() if described else (BUNDLED,))


def worker_settings(config: Config) -> WorkerSettings:
    """What a process must know to load the tools: all that is known without a node. Raises ConfigError for a tool that
    is in two groups."""
    return WorkerSettings(
        targets=targets(config),
        node="",
        address="",
        lanes="",
        start_method=config.node.start_method,
        overrides=overrides(config),
        cache=CacheSettings(config.cache.strategy, layers=config.cache.layers),
        services=config.services,
        memory=config.memory,
        resources={name: decided(section) for name, section in config.resources.items()},
        processes={name: section.process for name, section in config.groups.items()},
        results=ResultSettings(),
        max_result=config.limits.max_body,
        plugins=config.plugins.load,
        allow=config.plugins.allow,
        block=config.plugins.block,
        log_format=config.log.format,
        log_level=config.log.level,
        watch=config.node.watch,
        output=config.output.max_bytes if config.output.capture else 0,
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

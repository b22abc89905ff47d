"""What the processes of a group may have of the machine, and where they stand in it: plain data, checked when the node
starts, and applied in each worker."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping
from typing import Final, NamedTuple

_CPU_GRACE: Final = 5
LIMITS: Final = {
    "address_space": resource.RLIMIT_AS,
    "cpu_seconds": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "core_bytes": resource.RLIMIT_CORE,
}


class ProcessLimits(NamedTuple):
    """None and empty: as the node itself has it."""

    address_space: int | None = None
    """Bytes of virtual memory; more raises MemoryError in a tool."""
    cpu_seconds: int | None = None
    """Of a worker's whole life; then it gets SIGXCPU, and dies of it."""
    open_files: int | None = None
    core_bytes: int | None = None
    """Of a core dump; 0: none is written."""
    nice: int = 0
    """Added to the node's own."""
    cpus: tuple[int, ...] = ()
    """Cores that it may run on."""
    environment: Mapping[str, str] = {}
    """Variables that are set, or, if they are empty, taken away; also those that the user would bring along."""
    directory: str = ""
    """Where it works."""
    user: str = ""
    """Whose rights it has; needs a node that runs as root."""

    def wrong(self) -> str:
        """What of it this machine or this user can't do; empty if all can be done."""
        for name, number in LIMITS.items():
            value = getattr(self, name)
            hard = resource.getrlimit(number)[1]
            if value is not None and value < (0 if name == "core_bytes" else 1):
                return f"{name} = {value} must be at least 1"
            if value is not None and hard != resource.RLIM_INFINITY and value > hard:
                return f"{name} = {value} is more than the {hard} that the system allows (ulimit -H)"
        if not -20 <= self.nice <= 19:
            return f"nice = {self.nice} is not from -20 to 19"
        if self.nice < 0 and os.geteuid() != 0:
            return f"nice = {self.nice} is more than others have, which only root may ask for"
        if self.cpus and not hasattr(os, "sched_setaffinity"):
            return "cpus can't be chosen on this system"
        if self.cpus and not set(self.cpus) <= os.sched_getaffinity(0):
            known = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            return f"cpus = {list(self.cpus)}: this process may use {known}"
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                return f"environment: {name!r} is no name of a variable, or its value holds a zero byte"
        if self.directory and not os.path.isdir(self.directory):
            return f"directory = {self.directory!r}: there is no such directory"
        return self._wrong_user() if self.user else ""

    def _wrong_user(self) -> str:
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            return f"user = {self.user!r}: there is no such user"
        if os.geteuid() != 0 and self.user != pwd.getpwuid(os.geteuid()).pw_name:
            return f"user = {self.user!r}: only a node that runs as root may have workers of another user"
        return ""

    def apply(self) -> None:
        """Make it so, in this process. Raises OSError or ValueError where the system refuses."""
        for name, number in LIMITS.items():
            value = getattr(self, name)
            if value is not None:
                hard = resource.getrlimit(number)[1]
                more = value + _CPU_GRACE if name == "cpu_seconds" else value  # at the hard one SIGKILL comes, unasked
                resource.setrlimit(number, (value, more if hard == resource.RLIM_INFINITY else min(more, hard)))
        if self.nice:
            os.nice(self.nice)
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        for name, value in self.environment.items():
            if value:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
        if self.directory:
            os.chdir(self.directory)

    def become_user(self) -> bool:
        """Give up the rights of root for those of the user. False if there is nothing to give up."""
        if not self.user or os.geteuid() != 0:
            return False
        found = pwd.getpwnam(self.user)
        own = {"HOME": found.pw_dir, "USER": found.pw_name, "LOGNAME": found.pw_name}
        os.environ.update({name: value for name, value in own.items() if name not in self.environment})
        os.setgroups(os.getgrouplist(found.pw_name, found.pw_gid))
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
        return True

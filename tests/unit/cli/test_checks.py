from __future__ import annotations

import stat
from typing import Any

import msgspec
import pytest

from toolring.cgroups import Room
from toolring.cli.checks import CHECKS, Finding, Status, examine, worst
from toolring.cli.facts import Clocks, Directory, Facts, Package
from toolring.cli.loading import Loading
from toolring.config import CacheSection, Config, Limits, Node
from toolring.errors import ConfigError, LoadError

MB = 1 << 20
OWN = Directory("/run/user/7/toolring", stat.S_IFDIR | 0o700, 7, writable=True)
SOUND: dict[str, Any] = {
    "config": Config(limits=Limits(clients=1000)),
    "config_error": "",
    "packages": (Package("Python", "3.11", "3.11.7"), Package("pyzmq", "26", "27.3.0")),
    "plugins_error": "",
    "layers": (("sqlite", ""),),
    "sinks": (),
    "command_error": "",
    "loading": Loading(),
    "workers": 4,
    "few_files": (),
    "temporary_error": "",
    "address": "ipc:///run/user/7/toolring/node.sock",
    "address_error": "",
    "back": "/run/user/7/toolring/1234567-12345678.back",
    "private": OWN,
    "public": OWN,
    "webs": (),
    "listening": "nothing",
    "left": (),
    "user": 7,
    "files": 65_536,
    "files_at_first": 1024,
    "tasks": Room(10_000, 300),
    "lanes": 64 * MB,
    "lanes_error": "",
    "cores": 4,
    "quota": None,
    "memory": None,
    "total": 16_000 * MB,
    "clocks": Clocks(5e-8, False, 1_800_000_000.0),
    "commit": None,
    "swap": Room(0, 0),
}


def configured(**sections: Any) -> Config:
    return msgspec.structs.replace(SOUND["config"], **sections)


def one(check: str, **changes: Any) -> Finding:
    """The finding of a check; all the others must be content."""
    findings = examine(Facts(**{**SOUND, **changes}))
    assert {finding.check for finding in findings if finding.status is not Status.OK} <= {check}
    return next(finding for finding in findings if finding.check == check)


def test_a_sound_machine_has_no_finding() -> None:
    findings = examine(Facts(**SOUND))
    assert worst(findings) is Status.OK
    assert len({finding.check for finding in findings}) == len(CHECKS)
    assert not any(finding.advice for finding in findings)


FORK = configured(node=Node(start_method="fork"))


@pytest.mark.parametrize(
    ("check", "changes", "said"),
    [
        ("configuration", {"config_error": "unknown key node.worker"}, "unknown key node.worker"),
        ("packages", {"packages": (Package("pyzmq", "26", ""),)}, "pyzmq is missing (needs 26)"),
        ("packages", {"packages": (Package("pyzmq", "26.1", "26.0.9"),)}, "pyzmq 26.0.9 (needs 26.1)"),
        ("plugins", {"plugins_error": "plugin 'x' can't be imported"}, "plugin 'x'"),
        ("plugins", {"layers": (("sqlite", ""), ("redis", "is missing"))}, "cache.layers: redis: is missing"),
        ("plugins", {"sinks": (("metrics.sinks", "no metrics sink 'x'"),)}, "no metrics sink 'x'"),
        ("alerts", {"command_error": "there is no program 'x'"}, "no program 'x'"),
        ("address", {"webs": (("metrics.listen", "can't listen"),)}, "can't listen"),
        (
            "group limits",
            {"loading": Loading(limits={"a": "it is killed by SIGABRT"})},
            "groups.a: a worker can't start",
        ),
        ("group limits", {"few_files": (("a", 20),)}, "open_files = 20: a worker among 4 needs 48"),
        ("temporary files", {"temporary_error": "none found"}, "none found"),
        ("address", {"address": "tcp://127.0.0.1:5", "listening": "other"}, "another program listens at tcp://"),
        ("tools", {"loading": Loading(error="there is no file x.py")}, "there is no file x.py"),
        (
            "start method",
            {"loading": Loading(threads=3), "config": configured(node=Node(start_method="fork"))},
            "2 thr",
        ),
        ("address", {"address_error": "is longer than 107 bytes"}, "longer"),
        ("address", {"back": "/" + 107 * "x"}, "more than 107 bytes"),
        ("address", {"listening": "other"}, "is no socket; a node would delete it"),
        ("directory", {"private": OWN._replace(owner=8)}, "belongs to user 8, not to 7"),
        ("directory", {"private": OWN._replace(mode=stat.S_IFDIR | 0o720)}, "written to by others (mode 720)"),
        ("directory", {"private": OWN._replace(mode=stat.S_IFREG | 0o700)}, "is not a directory"),
        ("directory", {"private": OWN._replace(link=True)}, "is not a directory"),
        ("directory", {"private": Directory("/run/x")}, "is not there and can't be made"),
        ("directory", {"public": Directory("/srv/x", writable=True)}, "/srv/x is not there"),
        ("directory", {"public": Directory("/srv/x", stat.S_IFDIR | 0o755, 0)}, "/srv/x can not be written to"),
        ("directory", {"public": OWN._replace(path="/x", mode=stat.S_IFDIR | 0o777)}, "anybody can write to /x"),
        ("descriptors", {"files_at_first": 40}, "with 4 workers one needs 48"),
        ("descriptors", {"files": 64, "files_at_first": 64}, "room for 28 clients"),
        ("processes", {"tasks": Room(1000, 990)}, "4 workers need 18"),
        ("shared memory", {"lanes_error": "[Errno 27] File too large"}, "File too large"),
        ("memory", {"memory": Room(128 * MB, 0)}, "128 MiB allowed"),
        ("clock", {"clocks": Clocks(1e-7, True, 1.8e9)}, "went back"),
    ],
)
def test_what_a_node_can_not_run_with_is_a_failure(check: str, changes: dict[str, Any], said: str) -> None:
    found = one(check, **changes)
    assert found.status is Status.FAILURE
    assert said in found.found
    assert len(found.advice) > 10


@pytest.mark.parametrize(
    ("check", "changes", "said"),
    [
        ("start method", {"loading": Loading(threads=3)}, "start 2 threads"),
        ("address", {"listening": "stale"}, "left by a node that was killed: /run/user/7/toolring/node.sock"),
        ("address", {"left": ("/run/a.back", "/run/b.back")}, "/run/a.back, /run/b.back"),
        ("directory", {"private": OWN._replace(mode=stat.S_IFDIR | 0o755)}, "others can look into"),
        ("descriptors", {"files": 512}, "room for 476 of 1000 clients"),
        ("processes", {"tasks": Room(1000, 970)}, "970 of 1000"),
        ("cores", {"quota": 1.5}, "time for 1.5 cores"),
        ("cores", {"cores": 1, "workers": 5, "files_at_first": 2000}, "5 workers on 1 cores"),
        ("memory", {"config": configured(cache=CacheSection(max_bytes=4000 * MB))}, "with full caches"),
        ("memory", {"memory": Room(2000 * MB, 1900 * MB)}, "1,900 MiB of 2,000 MiB in use"),
        ("clock", {"clocks": Clocks(1e-7, False, 86_400.0)}, "implausible"),
        ("clock", {"clocks": Clocks(0.016, False, 1.8e9)}, "steps of 16 ms"),
        ("kernel", {"commit": Room(1000 * MB, 900 * MB)}, "only 100 MiB"),
        ("kernel", {"swap": Room(1000, 600)}, "60% of the swap"),
    ],
)
def test_what_will_hurt_is_a_warning(check: str, changes: dict[str, Any], said: str) -> None:
    found = one(check, **changes)
    assert found.status is Status.WARNING
    assert said in found.found
    assert len(found.advice) > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"public": OWN._replace(path="/tmp", mode=stat.S_IFDIR | 0o1777, owner=0)},
        {"public": None, "address": "tcp://127.0.0.1:5555"},
        {"private": Directory("/run/x", writable=True)},
        {"tasks": None},
        {"quota": 0.5, "workers": 1},
        {"commit": Room(10_000 * MB, 900 * MB)},
        {"packages": ()},
        {"listening": "node"},
    ],
)
def test_what_is_unusual_and_good_is_no_finding(changes: dict[str, Any]) -> None:
    assert worst(examine(Facts(**{**SOUND, **changes}))) is Status.OK


def test_tools_that_fail_by_the_configuration_are_not_blamed_on_their_module() -> None:
    def advice(loading: Loading) -> str:
        return next(one.advice for one in examine(Facts(**{**SOUND, "loading": loading})) if one.check == "tools")

    lacks = ConfigError("services.billing.headers: there is no BILLING_TOKEN", key="services.billing.headers")
    assert advice(Loading.failed(lacks)).startswith("correct services.billing.headers in the configuration")
    many = LoadError("min_workers = 3 is more than its 2 workers", key="groups.a.min_workers")
    assert advice(Loading.failed(many)).startswith("correct groups.a.min_workers in the configuration")
    assert advice(Loading.failed(LoadError("there is no file x.py"))).startswith("correct the module")


def test_a_quota_says_how_many_workers_it_is_good_for() -> None:
    assert "node.workers = 2," in one("cores", quota=2.7).advice
    assert "node.workers = 1," in one("cores", quota=0.4).advice


def test_the_worst_counts() -> None:
    assert worst([]) is Status.OK
    order = [Finding("x", status, "") for status in Status]
    assert worst(order) is worst(order[::-1]) is Status.FAILURE
    assert worst(order[:2]) is Status.WARNING

"""The house keeps its own rules, and each rule is shown to be able to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house import rules
from tests.house.rules import EXCEPTIONS, LINKED, OWNERS, RULES, House, Violation

ROOT = Path(__file__).parents[2]

Rule = Callable[[House], Iterator[Violation]]


@pytest.fixture(scope="module")
def house() -> House:
    return House.read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule, house: House) -> None:
    broken = [str(violation) for violation in rule(house)]
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


def test_every_room_is_read_once_under_its_one_name(house: House) -> None:
    assert {"toolring", "toolring.supervisor", "toolring.workers", "toolring.plugins"} <= set(house.sources)
    paths = [source.path for source in house.sources.values()]
    assert len(paths) == len(set(paths))
    assert not any(path.parts[0] == "toolring" and path.parts[1] in LINKED for path in paths)


def test_exceptions_and_owners_are_as_the_house_page_says() -> None:
    """A new exception is a decision about the house: change this line and the page together."""
    assert set() == EXCEPTIONS
    assert OWNERS == {
        "zmq": ("toolring.supervisor.loop", "toolring.workers.loop", "toolring.client"),
        "multiprocess": ("toolring.supervisor.spawner", "toolring.workers.zygote"),
    }


# --- the checker itself ---


@pytest.fixture
def build(tmp_path: Path) -> Callable[[dict[str, str]], House]:
    """A small house: the four rooms, linked, plus the files given."""

    def build(files: dict[str, str]) -> House:
        for room in ("toolring", *LINKED):
            (tmp_path / room).mkdir()
            (tmp_path / room / "__init__.py").touch()
        for room in LINKED:
            (tmp_path / "toolring" / room).symlink_to(f"../{room}")
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return House.read(tmp_path)

    return build


Build = Callable[[dict[str, str]], House]

# rule, the file at fault, its text, a part of the message; the rest of each small house is in NEIGHBOURS
BAD = [
    (rules.parses, "workers/a.py", "def broken(:\n", "doesn't parse"),
    (rules.one_name, "supervisor/core.py", "import supervisor.ledger\n", "toolring.supervisor.ledger"),
    (rules.one_name, "supervisor/core.py", "from workers import loop\n", "not workers"),
    (rules.one_name, "toolring/config.py", "def f():\n    import plugins\n", "not plugins"),
    (rules.one_name, "supervisor/core.py", "from . import ledger\n", "relative"),
    (rules.one_name, "supervisor/core.py", "from .ledger import Job\n", "relative"),
    (
        rules.one_name,
        "tests/unit/test_errors.py",
        "from supervisor.core import x\n",
        "toolring.supervisor.core",
    ),
    (rules.one_name, "benchmarks/run.py", "import workers\n", "not workers"),
    (rules.directions, "supervisor/core.py", "from toolring.workers import loop\n", "import workers"),
    (rules.directions, "supervisor/core.py", "from toolring.workers.zygote import main\n", "import workers"),
    (rules.directions, "supervisor/spawner.py", "import toolring.workers.runner\n", "import workers"),
    (rules.directions, "workers/runner.py", "from toolring.supervisor.core import x\n", "import supervisor"),
    (rules.directions, "workers/runner.py", "from ..supervisor import core\n", "import supervisor"),
    (rules.directions, "workers/runner.py", "from toolring.client.sync import Client\n", "import client"),
    (rules.directions, "workers/cache/base.py", "from toolring.workers import loop\n", "cache must not"),
    (rules.directions, "workers/cache/base.py", "from toolring.workers.pools import pool\n", "import pools"),
    (rules.directions, "workers/pools/pool.py", "from toolring.workers.runner import x\n", "pools must not"),
    (
        rules.directions,
        "plugins/caches/lru.py",
        "from toolring.workers.cache.base import C\n",
        "import cache",
    ),
    (rules.directions, "plugins/registry.py", "import toolring.supervisor.core\n", "import supervisor"),
    (rules.directions, "plugins/registry.py", "from toolring import Client\n", "import client"),
    (rules.directions, "plugins/registry.py", "from toolring import testing\n", "import testing"),
    (rules.directions, "toolring/policy/ring.py", "from toolring.plugins import specs\n", "shared must not"),
    (rules.directions, "toolring/config.py", "from toolring.cli.main import main\n", "import cli"),
    (
        rules.directions,
        "toolring/testing/__init__.py",
        "from toolring.workers import runner\n",
        "testing must not",
    ),
    (rules.directions, "toolring/client/sync.py", "import toolring.supervisor.core\n", "client must not"),
    (rules.directions, "workers/runner.py", "def f():\n    import toolring.cli.main\n", "import cli"),
    (rules.directions, "toolring/__init__.py", "import toolring.workers.loop\n", "face must not"),
    (
        rules.directions,
        "workers/runner.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toolring.supervisor.core import x\n",
        "import supervisor",
    ),
    (rules.owners, "toolring/protocol.py", "import zmq\n", "zmq is imported by"),
    (rules.owners, "supervisor/core.py", "from zmq import ROUTER\n", "zmq is imported by"),
    (rules.owners, "workers/loopy.py", "import zmq.asyncio\n", "zmq is imported by"),
    (rules.owners, "workers/loop.py", "import multiprocess\n", "multiprocess is imported by"),
    (
        rules.owners,
        "toolring/cli/main.py",
        "def f():\n    from multiprocess import Process\n",
        "multiprocess is",
    ),
    (rules.hidden_imports, "workers/runner.py", "def f():\n    import json\n", "inside a function"),
    (
        rules.hidden_imports,
        "workers/runner.py",
        "class C:\n    async def f(self):\n        import json\n",
        "json",
    ),
    (rules.hidden_imports, "workers/runner.py", "def f():\n    import redis  # optional:\n", "redis"),
    (
        rules.hidden_imports,
        "workers/runner.py",
        "def f():\n    # optional: redis\n    import redis\n",
        "redis",
    ),
    (
        rules.cycles,
        "supervisor/core.py",
        "from toolring.supervisor import core\n",
        "core -> toolring.supervisor.core",
    ),
    (
        rules.cycles,
        "toolring/errors.py",
        "from toolring.config import x\n",
        "toolring.config -> toolring.errors ->",
    ),
    (
        rules.cycles,
        "toolring/policy/__init__.py",
        "try:\n    from toolring.policy.ring import x\nexcept ImportError:\n    pass\n",
        "toolring.policy -> toolring.policy.ring -> toolring.policy",
    ),
    (rules.unit_tests_mirror, "tests/unit/test_nowhere.py", "", "there is no nowhere"),
    (rules.unit_tests_mirror, "tests/unit/workers/test_core.py", "", "there is no workers.core"),
    (rules.unit_tests_mirror, "tests/unit/test_ore.py", "", "there is no ore"),
]

NEIGHBOURS = {
    "toolring/__init__.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from toolring.client.sync import Client as Client\n"
        "    from toolring.errors import ToolringError as ToolringError\n"
        "__version__ = '0'\n"
    ),
    "toolring/errors.py": "",
    "toolring/config.py": "from toolring.errors import x\n",
    "toolring/testing/__init__.py": "from toolring.plugins import specs\n",
    "toolring/policy/__init__.py": "",
    "toolring/policy/ring.py": "from toolring.policy import y\n",
    "toolring/client/sync.py": "import zmq\nfrom toolring import config\n",
    "toolring/cli/main.py": "def main():\n    import toolring.supervisor.loop\n",
    "plugins/specs.py": "from toolring import ToolringError, __version__\n",
    "supervisor/core.py": "import toolring.policy.ring\nfrom toolring.workers.cache import base\n",
    "supervisor/loop.py": "import zmq\n",
    "supervisor/spawner.py": "import multiprocess\n",
    "workers/loop.py": "from zmq import DEALER\n",
    "workers/runner.py": (
        "from toolring.plugins import specs\n"
        "from toolring.workers.cache import base\n"
        "def f():\n    import redis  # optional: the redis extra\n"
    ),
    "workers/zygote.py": "import multiprocess.process\n",
    "workers/cache/__init__.py": "",
    "workers/cache/base.py": "from toolring.plugins import specs\n",
    "workers/pools/pool.py": "from toolring.errors import x\n",
    "tests/unit/test_loop.py": "from toolring.supervisor import loop\n",
    "tests/unit/supervisor/test_core.py": "def test_it():\n    import plugins_of_others, toolring.plugins\n",
    "tests/unit/policy/test_ring.py": "",
    "tests/unit/test_cache.py": "",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_house_breaks_no_rule(rule: Rule, build: Build) -> None:
    assert list(rule(build(NEIGHBOURS))) == []


@pytest.mark.parametrize(("rule", "path", "text", "message"), BAD)
def test_a_rule_finds_what_breaks_it(rule: Rule, path: str, text: str, message: str, build: Build) -> None:
    house = build(NEIGHBOURS | {path: text})
    found = list(rule(house))
    assert len(found) == 1, found
    assert message in str(found[0])
    if rule is not rules.cycles:
        assert str(found[0].path) == path


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    assert {rule for rule, *_ in BAD} | {rules.links} == set(RULES)


@pytest.mark.parametrize("room", LINKED)
def test_a_room_without_its_link_is_found(room: str, build: Build, tmp_path: Path) -> None:
    build(NEIGHBOURS)
    link = tmp_path / "toolring" / room
    link.unlink()
    assert [str(v.path) for v in rules.links(House.read(tmp_path))] == [f"toolring/{room}"]
    link.symlink_to(tmp_path / room)  # absolute: right here, wrong in the next checkout
    assert [str(v.path) for v in rules.links(House.read(tmp_path))] == [f"toolring/{room}"]


def test_a_cycle_behind_type_checking_or_in_a_function_is_none(build: Build) -> None:
    guarded = "import typing\nif typing.TYPE_CHECKING:\n    from toolring.config import x\nelse:\n    import json\n"
    house = build(NEIGHBOURS | {"toolring/errors.py": guarded + "def f():\n    import toolring.config\n"})
    assert list(rules.cycles(house)) == []


def test_the_else_of_type_checking_does_load(build: Build) -> None:
    swapped = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import toolring.config\n"
    assert len(list(rules.cycles(build(NEIGHBOURS | {"toolring/errors.py": swapped})))) == 1


def test_two_cycles_that_share_nothing_are_both_reported(build: Build) -> None:
    pairs = {f"toolring/{a}.py": f"import toolring.{b}\n" for a, b in ("pq", "qp", "rs", "st", "tr")}
    assert sorted(v.text for v in rules.cycles(build(pairs))) == [
        "import cycle: toolring.p -> toolring.q -> toolring.p",
        "import cycle: toolring.r -> toolring.s -> toolring.t -> toolring.r",
    ]

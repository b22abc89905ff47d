"""What is loaded, what is refused and in which words. Entry points are real ones, of a package made in tmp_path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolring.errors import PluginError
from toolring.plugins.caches.lru import LRU
from toolring.plugins.registry import Registry, load_plugins
from toolring.plugins.specs import NodeEvent

Write = Callable[[str, str], None]
HEAD = "from toolring import hookimpl, tool\n"
STRATEGY = """
class Fifo:
    def __init__(self, max_entries): self.keys = {}
    def added(self, key): self.keys[key] = None
    def touched(self, key): pass
    def removed(self, key): del self.keys[key]
    def victim(self): return next(iter(self.keys))
@hookimpl
def toolring_cache_strategies(): return {"myfifo": Fifo}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    known, path = set(sys.modules), list(sys.path)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(HEAD + text)

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path


def install(directory: Path, package: str, entries: str) -> None:
    """An installed package as far as importlib.metadata can see."""
    info = directory / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[toolring]\n{entries}\n")


def names(registry: Registry) -> list[str]:
    return [plugin.name for plugin in registry.plugins]


def test_toolring_brings_its_own_by_the_same_hooks() -> None:
    registry = load_plugins()
    own = registry.plugins[0]
    assert (own.name, own.source) == ("toolring", "toolring itself")
    assert own.hooks == (
        "toolring_balancers",
        "toolring_cache_stores",
        "toolring_cache_strategies",
        "toolring_metrics_sinks",
        "toolring_span_sinks",
    )
    assert registry.cache_strategies["lru"] is LRU
    assert set(registry.metrics_sinks) >= {"structlog"}
    assert set(registry.span_sinks) >= {"otlp"}


def test_a_named_module_is_loaded(write: Write) -> None:
    write("plug_a", STRATEGY)
    registry = load_plugins(["plug_a"])
    assert registry.plugins[-1].source == "configuration"
    assert set(registry.cache_strategies) >= {"lru", "myfifo"}


def test_a_part_of_a_module_may_be_named(write: Write) -> None:
    hook = "@staticmethod\n        @hookimpl\n        def toolring_metrics_sinks(): return {'x': dict}\n"
    write("plug_b", f"class Box:\n    class Inner:\n        {hook}")
    assert "x" in load_plugins(["plug_b:Box.Inner"]).metrics_sinks


def test_naming_one_twice_is_once(write: Write) -> None:
    write("plug_c", STRATEGY)
    assert names(load_plugins(["plug_c", "plug_c"])).count("plug_c") == 1


def test_entry_points_are_found_allowed_and_blocked(write: Write, tmp_path: Path) -> None:
    write("plug_d", STRATEGY)
    write("plug_e", "@hookimpl\ndef toolring_metrics_sinks(): return {'e': dict}\n")
    install(tmp_path, "plugpack", "myfifo = plug_d\nsink = plug_e")
    registry = load_plugins()
    assert {"myfifo", "sink"} <= set(names(registry))
    assert "package plugpack" in {plugin.source for plugin in registry.plugins}
    assert "sink" not in names(load_plugins(allow=["myfifo"]))
    assert "myfifo" not in names(load_plugins(block=["myfifo"]))
    assert "myfifo" not in load_plugins(allow=["myfifo"], block=["myfifo"]).cache_strategies, "blocking wins"


def test_a_blocked_plugin_is_not_even_imported(write: Write, tmp_path: Path) -> None:
    write("plug_f", "raise RuntimeError('imported')\n")
    install(tmp_path, "plugpack", "bad = plug_f")
    with pytest.raises(PluginError, match=r"'bad' of package 'plugpack' can't be imported: RuntimeError: imported"):
        load_plugins()
    load_plugins(block=["bad"])
    load_plugins(allow=["other"])


def test_asked_for_and_blocked_is_a_contradiction(write: Write) -> None:
    write("plug_g", STRATEGY)
    with pytest.raises(PluginError, match="'plug_g' is both asked for and blocked"):
        load_plugins(["plug_g"], block=["plug_g"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0\n", "can't be imported: ZeroDivisionError"),
        ("raise SystemExit(1)\n", "can't be imported: SystemExit"),
        ("x = 1\n", "implements no hook"),
        ("def toolring_cache_strategies(): return {}\n", "implements no hook"),
        ("@hookimpl\ndef toolring_cache_strategy(): return {}\n", "doesn't fit: .*toolring_cache_strategy"),
        ("@hookimpl\ndef toolring_node_started(evnt): pass\n", "doesn't fit: .*evnt|doesn't fit"),
        ("@hookimpl\ndef toolring_cache_strategies(extra): return {}\n", "doesn't fit"),
        ("@hookimpl\ndef toolring_cache_strategies(): return ['lru']\n", "must return a mapping"),
        ("@hookimpl\ndef toolring_cache_strategies(): return None\n", "must return a mapping"),
        ("@hookimpl\ndef toolring_metrics_sinks(): return 5\n", "must return a mapping"),
        ("@hookimpl\ndef toolring_cache_strategies(): return {5: dict}\n", "not a name and a factory"),
        ("@hookimpl\ndef toolring_cache_strategies(): return {'': dict}\n", "not a name and a factory"),
        ("@hookimpl\ndef toolring_metrics_sinks(): return {'x': 5}\n", "not a name and a factory"),
        (
            "@hookimpl\ndef toolring_cache_strategies(): return {'lru': dict}\n",
            "offers 'lru', which 'toolring' offers already",
        ),
        (
            "@hookimpl\ndef toolring_cache_strategies(): raise KeyError('x')\n",
            "toolring_cache_strategies raised KeyError",
        ),
        ("@hookimpl\ndef toolring_cache_strategies(): return {'x': dict}\n", "strategy 'x' doesn't work: TypeError"),
        (STRATEGY.replace("next(iter(self.keys))", "b'gone'"), "strategy 'myfifo' doesn't work"),
        (STRATEGY.replace("del self.keys[key]", "del self.keys[b'?']"), "strategy 'myfifo' doesn't work: KeyError"),
        (STRATEGY.replace("def victim", "def victm"), "strategy 'myfifo' doesn't work: AttributeError"),
    ],
)
def test_a_bad_plugin_is_refused_by_name_with_the_reason(write: Write, text: str, says: str) -> None:
    write("plug_bad", text)
    with pytest.raises(PluginError, match=says) as caught:
        load_plugins(["plug_bad"])
    assert "'plug_bad'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_plugins_that_offer_one_name_are_both_named(write: Write) -> None:
    write("plug_h", STRATEGY)
    write("plug_i", STRATEGY)
    with pytest.raises(PluginError, match=r"'plug_i'.*'myfifo', which 'plug_h' offers already"):
        load_plugins(["plug_h", "plug_i"])


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(PluginError, match=r"'no_such_plugin' can't be imported: ModuleNotFoundError"):
        load_plugins(["no_such_plugin"])
    with pytest.raises(PluginError, match="AttributeError"):
        load_plugins(["json:nothing"])


def test_tools_of_plugins(write: Write) -> None:
    write("plug_j", "@tool\ndef extra(): pass\n@hookimpl\ndef toolring_tools(): return [extra]\n")
    assert [found.spec.name for found in load_plugins(["plug_j"]).tools()] == ["extra"]


@pytest.mark.parametrize("offer", ["None", "[1]", "extra", "{'extra': extra}"])
def test_what_is_no_list_of_tools_is_refused(write: Write, offer: str) -> None:
    write("plug_k", f"@tool\ndef extra(): pass\n@hookimpl\ndef toolring_tools(): return {offer}\n")
    with pytest.raises(PluginError, match="'plug_k': toolring_tools must return a list"):
        load_plugins(["plug_k"]).tools()


def test_events_go_to_those_who_listen_each_by_itself_and_cost_nothing_else(write: Write) -> None:
    assert load_plugins().event("toolring_node_started") == ()
    for name, then in (("plug_l", ""), ("plug_n", "; raise ValueError('no')")):
        write(name, f"heard = []\n@hookimpl\ndef toolring_node_started(event): heard.append(event){then}\n")
    (last, first) = load_plugins(["plug_l", "plug_n"]).event("toolring_node_started")
    event = NodeEvent("ipc:///x", 2, ("a",))
    assert (last.plugin, first.plugin) == ("plug_n", "plug_l")
    with pytest.raises(ValueError, match="no"):
        last.tell(event)
    assert (sys.modules["plug_n"].heard, sys.modules["plug_l"].heard) == ([event], [])
    first.tell(event)
    assert sys.modules["plug_l"].heard == [event]


def test_a_hook_may_leave_out_the_event(write: Write) -> None:
    write("plug_m", "heard = []\n@hookimpl\ndef toolring_node_started(): heard.append(1)\n")
    ((_, tell),) = load_plugins(["plug_m"]).event("toolring_node_started")
    tell(NodeEvent("ipc:///x", 2, ()))
    assert sys.modules["plug_m"].heard == [1]

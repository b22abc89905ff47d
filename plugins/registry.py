"""Finds plugins, checks what they offer, and holds it by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from toolring.errors import PluginError
from toolring.plugins import builtin, specs
from toolring.policy.balance import REQUESTS, SECONDS, Balancer, Members
from toolring.policy.ring import hash64

if TYPE_CHECKING:
    from toolring.declare import Tool

GROUP = "toolring"
BUILTIN = "toolring"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded plugin: its name, where it came from, and the hooks that it implements."""

    name: str
    source: str
    hooks: tuple[str, ...]


class Listener(NamedTuple):
    """A plugin that implements an event, and what tells it."""

    plugin: str
    tell: Callable[[Any], object]


class Registry:
    """What the loaded plugins offer."""

    def __init__(self, manager: pluggy.PluginManager, plugins: list[Plugin]) -> None:
        self.manager = manager
        self.plugins = plugins
        self.cache_strategies = _offers(manager, "toolring_cache_strategies", _check_strategy)
        self.cache_stores = _offers(manager, "toolring_cache_stores", lambda _name, _plugin, _factory: None)
        self.balancers = _offers(manager, "toolring_balancers", _check_balancer)
        self.metrics_sinks = _offers(manager, "toolring_metrics_sinks", lambda _name, _plugin, _factory: None)
        self.span_sinks = _offers(manager, "toolring_span_sinks", lambda _name, _plugin, _factory: None)

    def tools(self) -> list[Tool[..., Any]]:
        """The tools that plugins bring. Imports their code: for the workers' side only."""
        found: list[Tool[..., Any]] = []
        for implementation in self.manager.hook.toolring_tools.get_hookimpls():
            offered = _call(implementation)
            if not isinstance(offered, list | tuple) or not all(hasattr(tool, "spec") for tool in offered):
                raise PluginError(f"plugin {implementation.plugin_name!r}: toolring_tools must return a list of tools")
            found += offered
        return found

    def event(self, name: str) -> tuple[Listener, ...]:
        """Who listens to an event, each by itself: what one raises is nothing to the others."""
        implementations = getattr(self.manager.hook, name).get_hookimpls()
        plugins = [one.plugin for one in reversed(implementations)]  # the order in which pluggy calls them
        return tuple(self._listener(name, plugin, plugins) for plugin in plugins)

    def _listener(self, name: str, plugin: object, plugins: Sequence[object]) -> Listener:
        hook = self.manager.subset_hook_caller(name, [other for other in plugins if other is not plugin])
        return Listener(self.manager.get_name(plugin) or "?", lambda event: hook(event=event))


def load_plugins(names: Iterable[str] = (), allow: Iterable[str] = (), block: Iterable[str] = ()) -> Registry:
    """Load toolring's own plugin, those of the entry point group ``toolring`` and those that are named.

    Args:
        names: modules (``package.module`` or ``package.module:attribute``).
        allow: if not empty, entry points that are not in it are passed over.
        block: names that are never loaded.

    Raises:
        PluginError: one can't be imported, doesn't fit the hook specifications, or offers something invalid.
    """
    manager = pluggy.PluginManager("toolring")
    manager.add_hookspecs(specs)
    allowed, blocked = set(allow), set(block)
    plugins = [_register(manager, builtin, BUILTIN, "toolring itself")]
    for entry in _entry_points():
        if entry.name in blocked or (allowed and entry.name not in allowed):
            continue
        package = entry.dist.name if entry.dist is not None else "?"
        try:
            found = entry.load()
        except BaseException as error:
            raise PluginError(
                f"plugin {entry.name!r} of package {package!r} can't be imported: {_line(error)}"
            ) from error
        plugins.append(_register(manager, found, entry.name, f"package {package}"))
    for name in names:
        if name in blocked:
            raise PluginError(f"plugin {name!r} is both asked for and blocked")
        if not any(plugin.name == name for plugin in plugins):
            plugins.append(_register(manager, _import(name), name, "configuration"))
    return Registry(manager, plugins)


def _entry_points() -> Iterable[Any]:
    metadata = importlib.import_module("importlib.metadata")
    return sorted(metadata.entry_points(group=GROUP), key=lambda entry: str(entry.name))


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as for tools: a plugin may lie in the working directory
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
    except BaseException as error:
        raise PluginError(f"plugin {name!r} can't be imported: {_line(error)}") from error
    return found


def _register(manager: pluggy.PluginManager, plugin: Any, name: str, source: str) -> Plugin:
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {name!r} doesn't fit: {_line(error)}") from error
    except ValueError as error:
        raise PluginError(f"plugin {name!r} is registered twice: {_line(error)}") from error
    hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or ())
    if not hooks:
        raise PluginError(f"plugin {name!r} implements no hook; mark its functions with toolring.hookimpl")
    return Plugin(name, source, tuple(hooks))


def _call(implementation: Any) -> Any:
    try:
        return implementation.function()
    except BaseException as error:
        where = f"plugin {implementation.plugin_name!r}: {implementation.function.__name__}"
        raise PluginError(f"{where} raised {_line(error)}") from error


def _offers(manager: pluggy.PluginManager, hook: str, check: Callable[[str, str, Any], None]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        plugin = implementation.plugin_name
        offered = _call(implementation)
        if not isinstance(offered, Mapping):
            raise PluginError(f"plugin {plugin!r}: {hook} must return a mapping of names to factories, not {offered!r}")
        for name, factory in offered.items():
            if not isinstance(name, str) or not name or not callable(factory):
                raise PluginError(f"plugin {plugin!r}: {hook} offers {name!r}: {factory!r}, not a name and a factory")
            if name in found:
                raise PluginError(f"plugin {plugin!r}: {hook} offers {name!r}, which {owner[name]!r} offers already")
            check(name, plugin, factory)
            found[name] = factory
            owner[name] = plugin
    return found


def _check_strategy(name: str, plugin: str, factory: Callable[[int], specs.CacheStrategy]) -> None:
    """Put a strategy through its paces before a worker relies on it."""
    keys = [b"a", b"b", b"c"]
    try:
        strategy = factory(4)
        for key in keys:
            strategy.added(key)
        strategy.touched(b"a")
        for _ in keys:
            victim = strategy.victim()
            keys.remove(victim)
            strategy.removed(victim)
    except Exception as error:
        raise PluginError(f"plugin {plugin!r}: the cache strategy {name!r} doesn't work: {_line(error)}") from error


def _check_balancer(name: str, plugin: str, factory: Callable[[Members], Balancer]) -> None:
    """Have it place some jobs before anybody's depend on it."""
    missing = [part for part in ("keyed", "place") if not hasattr(factory, part) and isinstance(factory, type)]
    if missing:
        what = "keyed (True or False), place(point, loads)"
        raise PluginError(f"plugin {plugin!r}: the balancer {name!r} lacks {', '.join(missing)}; one has {what}")
    loads: list[list[float | None]] = [[0.0, 0.0, 0.0], [None, 2.0, 1.0], [None, None, 0.5]]
    try:
        for unit, floor in ((SECONDS, 0.05), (REQUESTS, 1.0)):
            balancer = factory(Members(("a", "b", "c"), unit=unit, floor=floor))
            for known in loads:
                at = balancer.place(hash64(b"key") if balancer.keyed else 0, known)
                if known[at] is None:
                    raise ValueError(f"it placed a job with member {at}, which can't take any")
                if hasattr(balancer, "took"):
                    balancer.took(at, 0.01)
    except Exception as error:
        raise PluginError(f"plugin {plugin!r}: the balancer {name!r} doesn't work: {_line(error)}") from error


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__

"""Is a configuration sound, whose values are each of the right type? Ranges, choices, and what doesn't go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from toolring import logs
from toolring.address import host_and_port, is_loopback
from toolring.errors import AddressError, ConfigError
from toolring.policy.alerts import FIGURES
from toolring.policy.service import MOST_ENDPOINTS
from toolring.process import ProcessLimits

if TYPE_CHECKING:
    from toolring.config import Config

MOST_WORKERS: Final = 1024
LEAST_TOKEN: Final = 16

Wrong = Iterator[tuple[str, str]]
"""Keys, and what is wrong with each."""

_AS_A_WHOLE: Final = ("tools.", "services.", "resources.", "memory.", "alerts.")
_OF_PROCESSES: Final = tuple(f".{name}" for name in ProcessLimits._fields)
"""Checked elsewhere, as these are."""
_LEAST: Final[Mapping[str, float]] = {
    "node.workers": 0,
    "cache.max_entries": 1,
    "cache.max_bytes": 1,
    "cache.hot_bytes": 0,
    "cache.early": 0,
    "results.store_over": 0,
    "results.preview": 0,
    "jobs.keep": 0,
    "jobs.failures": 0,
    "restarts.intensity": 0,
    "timeouts.cooperate": 0,
    "timeouts.shield": 0,
    "timeouts.neighbours": 0,
    "tracing.sample": 0,
}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "node.start_method": ("auto", "fork", "spawn"),
    "log.format": logs.FORMATS,
    "log.level": logs.LEVELS,
}
_ADDRESSES: Final = ("metrics.listen", "metrics.statsd", "dashboard.listen")


def check(config: Config, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """``values`` are those of the configuration by their full names. Raises ConfigError for the first that is wrong."""
    for look in _LOOKS:
        for key, what in look(config, values):
            raise ConfigError(f"{sources.get(key, 'the file')}: {what}", key=key)


def _numbers(_config: Config, values: Mapping[str, Any]) -> Wrong:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or name.startswith(_AS_A_WHOLE):
            continue
        named = name.startswith(("callers.", "groups.")) and not name.endswith(".weight")
        if named and name.endswith(_OF_PROCESSES):
            continue
        least = 0 if named else _LEAST.get(name)
        if least is None and not 0 < value < float("inf"):
            yield name, f"{name} = {value!r} must be greater than 0"
        elif least is not None and not least <= value < float("inf"):
            yield name, f"{name} = {value!r} must be at least {least:g}"
        elif name == "tracing.sample" and value > 1:
            yield name, f"{name} = {value!r} is a share: at most 1"


def _choices(_config: Config, values: Mapping[str, Any]) -> Wrong:
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            yield name, f"{name} = {values[name]!r} must be one of {', '.join(choices)}"


def _addresses(_config: Config, values: Mapping[str, Any]) -> Wrong:
    for name in _ADDRESSES:
        try:
            host_and_port(values[name] or "127.0.0.1:0")
        except AddressError as error:
            yield name, f"{name}: {error}"


def _alerts(config: Config, _values: Mapping[str, Any]) -> Wrong:
    for name, rule in config.alerts.items():
        if FIGURES[rule.figure].counted and not config.metrics.figures:
            why = f"alerts.{name}: {rule.figure} is not known, since metrics.figures is false"
            yield f"alerts.{name}.figure", why


def _dashboard(config: Config, _values: Mapping[str, Any]) -> Wrong:
    listen, token = config.dashboard.listen, config.dashboard.token
    if token and not (len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable() and " " not in token):
        what = f"a token has at least {LEAST_TOKEN} characters, all ASCII and no space; try: openssl rand -hex 16"
        yield "dashboard.token", f"dashboard.token: {what}"
    key = "dashboard.listen"
    if listen and not token and not is_loopback(host_and_port(listen)[0]):
        what = f"{listen!r} is not on loopback: set a dashboard.token (TOOLRING_DASHBOARD_TOKEN), or use 127.0.0.1"
        yield key, f"{key}: {what}"
    if listen and not config.metrics.figures:
        yield key, f"{key}: it shows what is counted, and metrics.figures is false"
    if listen and listen == config.metrics.listen and host_and_port(listen)[1]:
        yield key, f"{key}: {listen!r} is that of metrics.listen; each needs a port of its own"


def _processes(config: Config, _values: Mapping[str, Any]) -> Wrong:
    for group, section in config.groups.items():
        if wrong := section.process.wrong():
            yield f"groups.{group}.{wrong.split()[0].rstrip(':')}", f"groups.{group}: {wrong}"


def _callers(config: Config, _values: Mapping[str, Any]) -> Wrong:
    for caller, account in config.callers.items():
        if account.burst and not account.rate:
            name = f"callers.{caller}.burst"
            yield name, f"{name} = {account.burst}: burst= does nothing without rate="


def _sizes(config: Config, _values: Mapping[str, Any]) -> Wrong:
    count = sum(len(service.endpoints) for service in config.services.values())
    if count > MOST_ENDPOINTS:
        yield "services", f"services: {count} endpoints in all; a node may have {MOST_ENDPOINTS}"
    sizes = {"node.workers": config.node.workers}
    sizes.update({f"groups.{name}.workers": section.workers for name, section in config.groups.items()})
    for name, workers in sizes.items():
        if workers > MOST_WORKERS:
            yield name, f"{name} = {workers} must be at most {MOST_WORKERS}"


_LOOKS: Final[tuple[Callable[[Config, Mapping[str, Any]], Wrong], ...]] = (
    _numbers,
    _choices,
    _addresses,
    _alerts,
    _dashboard,
    _processes,
    _callers,
    _sizes,
)

"""Who watches a node: sinks of figures and spans, alerts, and pages. It is put together here, as the configuration
says; nothing of it decides about jobs or workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from toolring import __version__
from toolring.address import host_and_port
from toolring.config import Config
from toolring.errors import ConfigError
from toolring.plugins.registry import Registry
from toolring.plugins.specs import MetricFamily, SinkSettings
from toolring.policy.series import Window
from toolring.supervisor.admin import Admin
from toolring.supervisor.alerts import Alerts, rules
from toolring.supervisor.collector import About, Collector
from toolring.supervisor.dashboard.guard import Guard
from toolring.supervisor.dashboard.timeline import Timeline
from toolring.supervisor.dashboard.views import Views
from toolring.supervisor.desk import Desk
from toolring.supervisor.exposition import as_data
from toolring.supervisor.loop import Loop
from toolring.supervisor.metrics import STUCK_SECONDS, exporters
from toolring.supervisor.notifier import Notifier
from toolring.supervisor.observer import Observer
from toolring.supervisor.readings import Readings
from toolring.supervisor.spans import Spans
from toolring.supervisor.summary import MOST_TOOLS, counts, in_window
from toolring.supervisor.usage import Usage, traffic, used_by
from toolring.supervisor.web import Monitored, Web


class Outlook:
    """That of one node. Raises PluginError for a sink that is unknown or can't be made, and ConfigError for one that
    would have nothing to send."""

    def __init__(
        self, config: Config, registry: Registry, observer: Observer, loop: Loop, admin: Admin, node: str
    ) -> None:
        self._config = config
        self._observer = observer
        self._loop = loop
        self._admin = admin
        core, watch, metrics = loop.core, loop.watch, config.metrics
        settings = SinkSettings(metrics.interval, metrics.file, metrics.statsd, node)
        offered, spans = (
            {name: partial(factory, settings) for name, factory in sinks.items()}
            for sinks in (registry.metrics_sinks, registry.span_sinks)
        )
        patience = max(STUCK_SECONDS, 3 * metrics.interval)
        self._sinks = exporters("metrics", metrics.sinks, offered, self._sink_failed, patience=patience)
        self._due = time.monotonic() + metrics.interval
        self._feeding = False
        """The last set of figures is still being made."""
        admin.present.exporters = self._sinks
        if config.tracing.sinks:
            traced = exporters("span", config.tracing.sinks, spans, self._sink_failed, len)
            core.spans = Spans(traced, config.tracing.sample)
        if core.figures is not None:
            loop.usage = Usage(used_by, traffic)
            known = About(__version__, time.time(), ("supervisor", "memory", *config.cache.layers))
            renewed = partial(getattr, watch.renewals, "count")
            admin.collector = Collector(
                known, core, core.figures, loop.usage, admin.present.reports, admin.services, renewed, self._sinks
            )
        for sink in self._sinks:
            if sink.wants_families and admin.collector is None:
                text = f"metrics.sinks: {sink.name} needs what the node counts, but metrics.figures is false"
                raise ConfigError(text, key="metrics.sinks")

    def _sink_failed(self, name: str, why: str) -> None:
        self._observer.note("sink_failed", {"sink": name, "reason": why})

    def open(self, node: str, about: dict[str, Any], wake: Callable[[], None]) -> None:
        """Watch for alerts, and listen for those who look by HTTP; ``about`` gets their addresses. ``wake`` makes the
        loop turn, from any thread. Raises AddressError."""
        loop, admin, config = self._loop, self._admin, self._config
        admin.present.alerts = loop.alerts = self._alerts({"node": node, "address": about["address"]})
        collector = admin.collector
        if collector is not None:
            collector.alerts = loop.alerts
        if config.metrics.listen:
            address = host_and_port(config.metrics.listen)
            web = Web("metrics.listen", address, Monitored(address[0]), wake)
            loop.webs.append((web, Desk(loop.core, collector, loop.errands)))
            about["metrics"] = web.url
        if config.dashboard.listen and collector is not None:
            address = host_and_port(config.dashboard.listen)
            web = Web("dashboard.listen", address, Guard(address[0], config.dashboard.token), wake)
            loop.timeline = Timeline(loop.core, collector.figures, collector.usage, time.time)
            loop.webs.append((web, Views(loop.core, admin.present, admin.jobs, collector, loop.timeline, loop.errands)))
            about["dashboard"] = web.url

    def _alerts(self, about: dict[str, str]) -> Alerts | None:
        config, core, observer = self._config.alerting, self._loop.core, self._observer
        watched = rules(self._config.alerts, config.defaults, core.figures is not None, bool(self._config.services))
        if not watched:
            return None
        notifier = Notifier(config.command, config.timeout, about, observer.note) if config.command else None
        tell = (observer.alert, *(sink.alert for sink in self._sinks))
        standing = partial(self._admin.services.standing, self._admin.present.reports)
        readings = Readings(core, self._loop.usage, standing)
        return Alerts(watched, self._config.alerts, config.interval, readings, tell, notifier)

    def look(self, now: float) -> None:
        """Give the sinks what there is, when it is time to."""
        if self._sinks and now >= self._due and not self._feeding:
            self._due = now + self._config.metrics.interval
            self._feeding = True
            self._loop.errands.add(self._feed(now))

    def _feed(self, now: float) -> Iterator[None]:
        """What sinks get: the status, the last minute, counts by tool since the start; all metrics, if they want."""
        try:
            collector = self._admin.collector
            found = self._admin.present.status(now)
            yield
            families: list[MetricFamily] = []
            if collector is not None:
                found["metrics"] = yield from in_window(collector, Window.MINUTE, MOST_TOOLS, now)
                found["counts"] = yield from counts(collector.figures)
                if any(sink.wants_families for sink in self._sinks):
                    yield from collector.figures.folding()
                    families = yield from as_data(collector.families(now))
            for sink in self._sinks:
                sink.offer({**found, "families": families} if sink.wants_families else found)
        finally:
            self._feeding = False

    def stop_listening(self) -> None:
        for web, _ in self._loop.webs:
            web.close()

    def close(self) -> None:
        """Let them finish what they have, for a moment."""
        if self._loop.alerts is not None:
            self._loop.alerts.close()
        for sink in self._sinks:
            sink.close()
        if self._loop.core.spans is not None:
            self._loop.core.spans.close()

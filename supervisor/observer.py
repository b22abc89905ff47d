"""Log lines and plugin events: what a node tells the world of rare things. Off the hot path."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from toolring import logs, protocol
from toolring.plugins.registry import Listener, Registry
from toolring.plugins.specs import AlertEvent, JobEvent, MemoryEvent, NodeEvent, WorkerEvent
from toolring.protocol import CACHED, ERROR, Answer
from toolring.supervisor.fleet import Worker
from toolring.supervisor.ledger import Entry

BURST: Final = 20
"""Lines of one kind within a second; further ones are counted and told of once it is over, so that no fault floods the
log."""

BURSTS: Final = {"tool_output": 200}
"""Of those kinds of which there may be more."""

LEVELS: Final = {
    "alert_command": "info",
    "alert_command_failed": "warning",
    "alert_firing": "warning",
    "alert_resolved": "info",
    "circuit_changed": "info",
    "client_lost": "warning",
    "errand_failed": "error",
    "event_failed": "warning",
    "group_failing": "warning",
    "group_recovered": "info",
    "group_scaled": "info",
    "job_failed": "warning",
    "lines_left_out": "warning",
    "logged": "warning",
    "memory_alert": "warning",
    "memory_too_small": "warning",
    "node_draining": "info",
    "node_healthy": "info",
    "node_stopped": "info",
    "node_unhealthy": "error",
    "question_failed": "error",
    "reload_failed": "warning",
    "reloaded": "info",
    "removed_tool_called": "warning",
    "renewal_failed": "warning",
    "sink_failed": "error",
    "start_failed": "error",
    "tool_output": "info",
    "worker_evicted": "warning",
    "worker_exited": "warning",
    "worker_given_up": "warning",
    "worker_ready": "info",
    "worker_renewed": "info",
    "zygote_given_up": "warning",
    "zygote_lost": "warning",
}
"""Of each line. A warning: something went wrong, and the node has done what it can. An error: that wasn't enough."""


def level_of(name: str, facts: dict[str, Any]) -> str:
    """What some facts make of a name: an exit that was wanted, a circuit that lets nothing through any more."""
    if name == "lines_left_out":
        name = str(facts.get("kind"))
    if name == "worker_exited" and (facts.get("reason") or facts.get("cause") == "exited with status 0"):
        return "info"
    if name == "logged" and facts.get("severity") in ("error", "critical"):
        return "error"
    if name == "alert_firing" and facts.get("severity") == "critical":
        return "error"
    if name == "circuit_changed" and facts.get("state") in ("open", "forced_open"):
        return "warning"
    return LEVELS.get(name, "warning")


class Logged(logging.Handler):
    """Makes lines of the log out of what libraries say by ``logging``, from any thread."""

    def __init__(self, note: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:
            text = f"{record.msg!r:.500} ({type(error).__name__}: {error})"
        facts = {"logger": record.name, "text": text, "severity": record.levelname.lower()}
        if record.exc_info is not None and record.exc_info[1] is not None:
            facts["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._note("logged", facts)


class Observer:
    """Writes notes as log lines and calls the hooks that somebody implements."""

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = logs.bound()
        self._clock = clock
        self._second = 0
        self._counts: dict[str, int] = {}
        """Lines of each kind in that second."""
        self._lock = threading.Lock()
        self._node_started = registry.event("toolring_node_started")
        self._node_stopping = registry.event("toolring_node_stopping")
        self._worker_ready = registry.event("toolring_worker_ready")
        self._worker_exited = registry.event("toolring_worker_exited")
        self._memory_alert = registry.event("toolring_memory_alert")
        self._alert = registry.event("toolring_alert")
        self._job_finished = registry.event("toolring_job_finished")

    def note(self, name: str, facts: dict[str, Any]) -> None:
        """One line, at the level that its name has."""
        self.look()
        with self._lock:
            count = self._counts[name] = self._counts.get(name, 0) + 1
        if count <= BURSTS.get(name, BURST):
            self._write(name, facts)

    def look(self, now: float | None = None) -> None:
        """Tell what was left out of the log in the second that is over by now."""
        second = int(self._clock() if now is None else now)
        if second <= self._second:
            return
        with self._lock:
            if second <= self._second:
                return
            self._second = second
            over, self._counts = self._counts, {}
        for name, count in over.items():
            if count > BURSTS.get(name, BURST):
                self._write("lines_left_out", {"kind": name, "count": count - BURSTS.get(name, BURST)})

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        try:
            getattr(self._log, level_of(name, facts))(name, **facts)
        except OSError:
            pass  # whoever read the log is gone; that is no reason to stop serving

    def hear_libraries(self) -> None:
        """From now on, what they log or warn of are lines of the log, too."""
        logging.getLogger().addHandler(Logged(self.note))
        logging.captureWarnings(True)

    def node_started(self, event: NodeEvent) -> None:
        self._tell(self._node_started, event)

    def node_stopping(self, event: NodeEvent) -> None:
        self._tell(self._node_stopping, event)

    def worker_ready(self, worker: Worker) -> None:
        slot, took = worker.slot, worker.ready_since - worker.started
        facts = {"worker": worker.pid, "slot": slot.index, "generation": worker.generation, "took": round(took, 4)}
        self.note("worker_ready", facts)
        if self._worker_ready:
            self._tell(self._worker_ready, WorkerEvent(worker.slot.index, worker.pid, worker.generation))

    def worker_exited(self, worker: Worker, cause: str) -> None:
        if self._worker_exited:
            self._tell(self._worker_exited, WorkerEvent(worker.slot.index, worker.pid, worker.generation, cause))

    def memory_alert(self, event: MemoryEvent) -> None:
        self._tell(self._memory_alert, event)

    def alert(self, event: AlertEvent) -> None:
        facts = {name: getattr(event, name) for name in event.__slots__ if getattr(event, name) not in ("", None)}
        self.note(f"alert_{facts.pop('state')}", facts)
        self._tell(self._alert, event)

    def on_finished(self) -> Callable[[Entry, Answer], None] | None:
        """What the core is to call for each answered job; None while nobody listens."""
        listeners = self._job_finished
        if not listeners:
            return None

        def finished(entry: Entry, answer: Answer) -> None:
            code = str(protocol.decode_value(answer.value).get("code", "")) if answer.status == ERROR else ""
            total = self._clock() - entry.accepted
            cached = bool(answer.flags & CACHED)
            self._tell(
                listeners,
                JobEvent(entry.name, entry.tool.name, entry.attempt, code, cached, answer.run_us * 1e-6, total),
            )

        return finished

    def _tell(self, listeners: tuple[Listener, ...], event: Any) -> None:
        for plugin, tell in listeners:
            try:
                tell(event)
            except BaseException as error:  # sys.exit() in a plugin ends no node
                reason = f"{type(error).__name__}: {error}"
                self.note("event_failed", {"kind": type(event).__name__, "plugin": plugin, "reason": reason})

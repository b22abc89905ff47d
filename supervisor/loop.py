"""The supervisor's loop: two ROUTER sockets, the zygote's pipe, a signal. It performs what the core decides.

Each turn drains what has arrived, lets the core decide, and sends what came of it: whatever waits for the same
peer leaves in one message. The loop blocks in one place only, unless the zygote is lost.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from math import inf
from typing import Any, Final, cast

import msgspec
import zmq
from msgspec import Raw

from toolring import protocol
from toolring.errors import AddressError, LoadError, ProtocolError
from toolring.lane import ACK, INTERRUPT
from toolring.protocol import (
    INLINE,
    Batch,
    Counted,
    Done,
    Leaving,
    Loads,
    Parts,
    Ready,
    Stop,
)
from toolring.spec import ToolSpec
from toolring.supervisor.admin import Admin
from toolring.supervisor.alerts import Alerts
from toolring.supervisor.clients import GONE_SECONDS_TCP, Clients
from toolring.supervisor.core import Core
from toolring.supervisor.dashboard.timeline import Timeline
from toolring.supervisor.endings import ZYGOTE_LOST
from toolring.supervisor.errands import Errands
from toolring.supervisor.fleet import IllegalChange, Slot, Worker
from toolring.supervisor.ground import cores
from toolring.supervisor.observer import Observer
from toolring.supervisor.placing import Send
from toolring.supervisor.reloads import Stage
from toolring.supervisor.sources import Sources
from toolring.supervisor.spawner import Exited, Failed, Loaded, Started, end_now, signal_to
from toolring.supervisor.usage import Usage
from toolring.supervisor.watch import Watch, describe
from toolring.supervisor.web import Answers, Web
from toolring.supervisor.zygotes import Zygotes

_encode = protocol.encode
_send = zmq.backend.Socket.send  # without the sugar: two thirds of the price
_get: Any = zmq.backend.Socket.get
_RCVMORE: Final = int(zmq.RCVMORE)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_SNDMORE: Final = int(zmq.SNDMORE)
_DONTWAIT: Final = int(zmq.DONTWAIT)
_BURST: Final = 64
"""Messages taken from one socket before the other has its turn."""


SPIN_SECONDS: Final = 300e-6
"""To be woken takes up to about so long, in a virtual machine."""


class Loop:
    """One node's sockets and its turn of events."""

    def __init__(
        self,
        core: Core,
        watch: Watch,
        zygotes: Zygotes,
        sources: Sources,
        admin: Admin,
        observer: Observer,
        node: str,
        wake_fd: int,
        watch_files: bool = False,
    ) -> None:
        self._context = context = zmq.Context()  # only after the zygote was forked
        self.core = core
        self.watch = watch
        self.zygotes = zygotes
        self.sources = sources
        self._watch_files = watch_files
        self.admin = admin
        self.observer = observer
        self.front = _router(context, core.limits.max_body)
        self.errands = Errands(lambda why: observer.note("errand_failed", {"reason": why}))
        self.clients = Clients(core, watch.endings, admin, self.errands, node, partial(self._post, self.front))
        self.back = _router(context, -1)
        self._wake_fd = wake_fd
        self.webs: list[tuple[Web, Answers]] = []
        """Where somebody may ask over HTTP, and who answers there."""
        self.timeline: Timeline | None = None
        """Kept if somebody may look at it."""
        self.usage: Usage | None = None
        self.alerts: Alerts | None = None
        """None: there is no rule."""
        self._next_tick = 0.0
        self._mean_wait = 1.0
        self._cores = cores()

    # ---- one turn

    def turn(self) -> None:
        """Wait for something, handle all of it."""
        wait = max(0, int((self._next_tick - time.monotonic()) * 1000 + 0.999))
        sources: list[Any] = [(self.back, 1), (self.front, 1), (self._wake_fd, 1)]
        zygotes = dict(self.zygotes.fds())
        sources += [(fd, 1) for fd in zygotes]
        ready = zmq.zmq_poll(sources, 0) if self.errands else self._wait_for(sources, wait)
        now = time.monotonic()
        woken = False
        for source, _ in ready:
            if source is self.back:
                self._drain_back(now)
            elif source is self.front:
                self._drain_front(now)
            elif source in zygotes:
                self._hear_zygote(zygotes[source], now)
            else:
                self._drain_wake()  # before what somebody was woken for is looked at, so that nothing is left behind
                woken = True
        self.core.placing.dispatch(now)
        if now >= self._next_tick:
            self._tick(now)
        self._next_tick = min(self._next_tick, self.core.gathering.due(now))
        self.perform(now)
        if woken:
            for web, answers in self.webs:
                while web.asked:
                    answers.answer(web.asked.popleft(), now)
        if self.errands:
            self.errands.go_on()

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake_fd, 512)
        except BlockingIOError:
            pass

    def _wait_for(self, sources: list[Any], wait: int) -> list[tuple[Any, int]]:
        """Block until something is ready, or for ``wait`` milliseconds.

        While the next event has lately come within SPIN_SECONDS, look for it that long before blocking: to be woken
        costs more than that. Only while a core is left to do so: with slower jobs, busy workers or nothing to do, the
        supervisor blocks at once.
        """
        began = time.monotonic()
        if self._mean_wait < SPIN_SECONDS and self._busy_workers() < self._cores:
            end = began + SPIN_SECONDS
            while time.monotonic() < end:
                if ready := zmq.zmq_poll(sources, 0):
                    break
            else:
                ready = zmq.zmq_poll(sources, wait)
        else:
            ready = zmq.zmq_poll(sources, wait)
        waited = min(time.monotonic() - began, 10 * SPIN_SECONDS)
        self._mean_wait += 0.1 * (waited - self._mean_wait)
        return cast(list[tuple[Any, int]], ready)

    def _busy_workers(self) -> int:
        return sum(1 for worker in self.core.fleet.ready if not (worker.idle or worker.many))

    def perform(self, now: float) -> None:
        """Carry out what was decided."""
        core = self.core
        if core.sends:
            for send in core.sends:
                self._send_work(send)
            core.sends.clear()
        if core.dirty:
            for session in core.dirty:
                self.clients.deliver(session)
            core.dirty.clear()
        if core.says:
            for worker, message in core.says:
                self._post(self.back, worker.identity, _encode(message), b"")
            core.says.clear()
        if core.signals:
            for worker in core.signals:
                if worker.endings <= 1:  # for when the job ends by itself before the signal meets it
                    self._post(self.back, worker.identity, _encode(Stop()), b"")
                if worker.pid:
                    signal_to(worker.pid, INTERRUPT, group=False)
            core.signals.clear()
            self._next_tick = now
        if core.notes:
            for name, facts in core.notes:
                self.observer.note(name, facts)
            core.notes.clear()

    def _tick(self, now: float) -> None:
        watch, fleet = self.watch, self.core.fleet
        code = fleet.code
        wait = watch.tick(now)
        if fleet.code != code:
            if self._watch_files:
                self.core.joining.sharing.doubt()  # a tool's version tells of its own module only
            self.clients.announce()
            if self.core.figures is not None:
                self.core.figures.forget_workers(slot.index for slot in fleet.slots)
        self.admin.memory.look(now)
        self.core.outputs.look(now)
        if self.core.history is not None:
            self.core.history.look(now)
        if self.core.figures is not None:
            self.core.figures.fold_due(now)
        if self.core.spans is not None:
            self.core.spans.flush(now)
        if self.usage is not None and (steps := self.usage.due(self._processes, now)) is not None:
            self.errands.add(steps)
        if self.alerts is not None and not self.core.draining:
            self.alerts.look(self.errands, now)
        if self.timeline is not None and (steps := self.timeline.due(now)) is not None:
            self.errands.add(steps)
        self.admin.results.look(now)
        self.observer.look(now)
        for kill in watch.kills:
            if kill.worker.pid:
                signal_to(kill.worker.pid, kill.signal, kill.group)
        watch.kills.clear()
        self._tend_zygotes(now)
        for code, why in self.zygotes.silent(fleet.workers.values(), now, watch.grace.start).items():
            if pid := self.zygotes[code].pid:
                self.observer.note("zygote_given_up", {"pid": pid, "why": why})
                signal_to(pid, signal.SIGKILL, group=True)  # its end is noticed as that of any other
        for slot, code in watch.due(now):
            if not self._start(slot, code, now):
                break  # it may be another code by now that is to come
        for slot in fleet.vacant():
            if slot.start_at is not None:
                wait = min(wait, max(0.005, slot.start_at - now))
        self.clients.probe(now)
        self.core.placing.dispatch(now)
        self._next_tick = now + wait

    def _processes(self) -> dict[str, int]:
        """Those whose use of the machine is counted: their pids, 0 where nobody is now."""
        slots = {str(slot.index): slot.worker.pid if slot.worker is not None else 0 for slot in self.core.fleet.slots}
        code = self.core.fleet.code
        zygote = (self.zygotes[code].pid if code in self.zygotes else None) or 0
        return {"supervisor": os.getpid(), "zygote": zygote, **slots}

    def _start(self, slot: Slot, code: int, now: float) -> bool:
        """Have a worker of that code started in a slot. False if there is no room for one, or nobody to start it."""
        group = slot.group
        worker = self.core.fleet.hire(slot, now, code)
        if worker is None:
            return False
        lane, many = worker.lane.index, bool(group.many)
        processes = self.watch.reloads.processes(code)
        if not self.zygotes[code].start(lane, worker.identity, many, group.name, processes):
            self.watch.exited(worker, 71, now)
            return False
        return True

    def _tend_zygotes(self, now: float) -> None:
        """Start the one that is to load code anew, and let those go that nobody needs any more."""
        reloads, fleet = self.watch.reloads, self.core.fleet
        watching = self._watch_files and reloads.stage is Stage.IDLE and not self.core.draining
        if watching and (changed := self.sources.look(now)):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            reloads.ask(f"{changed[0]}{more} changed", now)
        if now >= reloads.opens_at:
            reloads.opens_at = inf
            self.sources.settle()
            try:
                self.zygotes.open(reloads.code)
            except OSError as error:
                reloads.failed(LoadError(f"no process can be started to load the tools: {error}"), now)
        coming = () if reloads.stage is Stage.IDLE else (reloads.code,)
        self.zygotes.sweep({fleet.code, *coming, *(worker.code for worker in fleet.workers.values())}, now)

    # ---- workers

    def _drain_back(self, now: float) -> None:
        core, workers = self.core, self.core.fleet.workers
        back = self.back
        receive = back.recv
        decode = protocol.decode_from_worker
        for _ in range(_BURST):
            if not _get(back, _EVENTS) & _POLLIN:
                break
            identity = receive(_DONTWAIT)
            head = receive()
            body = receive(copy=False)
            worker = workers.get(identity)
            if body.more:
                while receive(copy=False).more:
                    pass
                if worker is not None:
                    self.watch.give_up(worker, now, "broke the protocol: a message of more than two frames")
                continue
            if worker is None:
                continue  # a late message of a worker that was replaced
            try:
                message = decode(head)
                if type(message) is Done:
                    if len(body):
                        message.answers[0].value = cast(Raw, body)  # passed on as it is, without a copy
                    core.returns.answers(worker, message.answers, now)
                    if message.count:
                        worker.lane.words[ACK] = message.count
                elif type(message) is Parts:
                    if len(body):
                        message.parts[0].value = cast(Raw, body)
                    core.streams.told(worker, message.parts, now)
                elif type(message) is Loads:
                    self._hear_of_figures(worker, message.figures, now)
                elif type(message) is Counted:
                    if core.figures is not None:
                        core.figures.measured.heard(worker.slot.index, message, worker.generation)
                else:
                    self._life_of(worker, message, now)
            except (ValueError, RecursionError, ProtocolError, IllegalChange) as error:
                self.watch.give_up(worker, now, f"broke the protocol: {error}")
        self._next_tick = min(self._next_tick, now + 0.01)

    def _hear_of_figures(self, worker: Worker, figures: dict[str, Any], now: float) -> None:
        try:
            self.sources.follow(figures.pop("files", ()))
            self.admin.present.reports.heard(worker.identity, figures)
            self.admin.memory.heard(worker, figures.get("memory", {}), now)
        except (AttributeError, KeyError, TypeError) as error:
            raise ProtocolError(f"figures of another form: {error}") from None

    def _life_of(self, worker: Worker, message: Any, now: float) -> None:
        if type(message) is Ready:
            self.watch.ready(worker, message.pid, now)
            self.observer.worker_ready(worker)
        elif type(message) is Leaving:
            self.watch.leaving(worker, now)

    def _send_work(self, send: Send) -> None:
        body = b"" if send.body is None else send.body
        self._post(self.back, send.worker.identity, _encode(Batch(send.first, send.work)), body)

    def _hear_zygote(self, code: int, now: float) -> None:
        spawner, reloads, workers = self.zygotes[code], self.watch.reloads, self.core.fleet.workers
        self._next_tick = now
        news = spawner.news()
        if news is None:
            self._lost_zygote(code, now)
            return
        for item in news:
            if isinstance(item, Loaded | Failed):
                self.sources.follow(item.files)
                if code != reloads.code or reloads.stage is not Stage.LOADING:
                    continue
                if isinstance(item, Failed):
                    reloads.failed(item.error, now)
                else:
                    reloads.loaded([msgspec.convert(data, ToolSpec) for data in item.specs], now)
                continue
            found = workers.get(item.identity)
            if found is None:
                continue
            if isinstance(item, Started):
                found.pid = item.pid
            elif isinstance(item, Exited):
                if item.why:
                    self.observer.note("start_failed", {"slot": found.slot.index, "reason": item.why})
                self.watch.exited(found, item.status, now)
                self.admin.present.reports.forget(item.identity)

    def _lost_zygote(self, code: int, now: float) -> None:
        """Its workers have died with it. Others go on, or will, once the code is loaded again."""
        reloads = self.watch.reloads
        spawner = self.zygotes[code]
        lost = [worker for worker in self.core.fleet.workers.values() if worker.code == code]
        end_now([worker.pid for worker in lost if worker.pid])
        self.zygotes.let_go(code, now)
        if code == self.core.fleet.code:
            self.observer.note("zygote_lost", {"pid": spawner.pid})
            reloads.replace(now, self.watch.restarts.load_delay)
        elif code == reloads.code and reloads.stage is not Stage.IDLE:
            when = "while it imported the tools' modules" if reloads.stage is Stage.LOADING else "before it could serve"
            reloads.failed(LoadError(f"the process of the new code {describe(spawner.exitcode)} {when}"), now)
        for worker in lost:
            worker.reason = worker.reason or ZYGOTE_LOST
            self.watch.exited(worker, -9, now)
            self.admin.present.reports.forget(worker.identity)

    # ---- clients

    def _drain_front(self, now: float) -> None:
        front = self.front
        receive, handle, refuse = front.recv, self.clients.handle, self.clients.refuse
        for _ in range(_BURST):
            if not _get(front, _EVENTS) & _POLLIN:
                break
            route = receive(_DONTWAIT)
            head = receive()
            body = None
            if _get(front, _RCVMORE):
                body = receive(copy=False)
                if body.more:
                    while receive(copy=False).more:
                        pass
                    refuse(route, ProtocolError(f"a message has at most {protocol.MAX_FRAMES} frames"))
                    continue
            handle(route, head, body, now)
        self._next_tick = min(self._next_tick, now + 0.01)

    # ---- the sockets

    def _post(self, socket: zmq.Socket[bytes], route: bytes, head: bytes, body: Any) -> bool:
        """Send without waiting. False if the peer can't take it now, or is gone (which is written down)."""
        try:
            _send(socket, route, _SNDMORE | _DONTWAIT)
            if body is None:
                _send(socket, head, _DONTWAIT)
            else:
                _send(socket, head, _SNDMORE | _DONTWAIT)
                if len(body) > INLINE:
                    socket.send(body if isinstance(body, zmq.Frame) else memoryview(body), copy=False, flags=_DONTWAIT)
                else:
                    _send(socket, body, _DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if socket is self.front:
                self.clients.unreachable(route, time.monotonic())
            return False
        return True

    def bind(self, front: str, back: str) -> str:
        """Listen; returns the address that clients use. Raises AddressError if it is taken."""
        try:
            self.back.bind(back)
            self.front.bind(front)
        except zmq.ZMQError as error:
            raise AddressError(f"can't listen on {front}: {error.strerror}") from None
        if front.startswith("tcp://"):
            self.clients.gone_seconds = GONE_SECONDS_TCP
        return str(self.front.getsockopt_string(zmq.LAST_ENDPOINT)).rstrip("\0")

    def close(self) -> None:
        """Close the sockets once what was sent has left, for at most a second."""
        self.front.close(linger=1000)
        self.back.close(linger=200)
        self._context.term()


def _router(context: zmq.Context[Any], max_message: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.router_mandatory = 1  # or it drops silently what it can't deliver
    socket.maxmsgsize = max_message
    socket.handshake_ivl = 3000
    socket.sndhwm = 4000 if max_message > 0 else 0
    socket.rcvhwm = 4000 if max_message > 0 else 0
    if max_message > 0:
        socket.heartbeat_ivl = 2000
        socket.heartbeat_timeout = 6000
    return socket

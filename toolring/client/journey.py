"""A job's way through a cluster, from node to node: the next takes over what one has lost or refused.

Nothing of it waits. Its subclasses do, each in its own way, and have it move on when its node has settled it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import isfinite
from typing import Any, Generic, TypeVar

from toolring.client.arguments import seconds
from toolring.client.nodes import C, Node, Nodes
from toolring.client.session import Pending
from toolring.errors import Busy, Cancelled, Draining, Expired, OutcomeUnknown, ToolringError, Unreachable

H = TypeVar("H", bound=Pending)


def due(tool: str, timeout: float | None) -> float | None:
    """When a job's time is up, in seconds of ``time.monotonic()``. Raises InvalidArguments."""
    return None if timeout is None else time.monotonic() + seconds(tool, timeout)


class Journey(Generic[C, H]):
    """One job's.

    Args:
        nodes: those of the cluster.
        tool: its name.
        point: where among all keys it stands.
        until: when its time is up; None: the first node's default decides.
        submit: submits it by a node's client, with what is left of its time.
        measured: does it say how well and how fast a node is, by whether and when it ends?
    """

    def __init__(
        self,
        nodes: Nodes[C],
        tool: str,
        point: int,
        until: float | None,
        submit: Callable[[C, float | None], H],
        clock: Callable[[], float] = time.monotonic,
        measured: bool = True,
    ) -> None:
        self._nodes = nodes
        self._tool = tool
        self._point = point
        self._until = until
        self._submit = submit
        self._clock = clock
        self._measured = measured
        self._moving = threading.RLock()
        self._tried: list[str] = []
        self._lost: list[str] = []
        """Those of them that were lost with it: once they are back they may have it again."""
        self._patient_until: float | None = None
        self._began = 0.0
        self._node: Node[C] | None = None
        self._job: H | None = None
        self._error: Exception | None = None
        self._cancelled = False
        self.under_way = False
        """It is with a node whose answer may not be the last, or waits for one that may have it."""

    @property
    def node(self) -> str:
        """The address of the node that has it."""
        assert self._node is not None
        return self._node.address

    @property
    def tried(self) -> list[str]:
        """The nodes that had it before, and were lost or refused it."""
        return list(dict.fromkeys(self._tried))

    @property
    def id(self) -> str:
        """The job's id at the node that has it."""
        return self.job.id

    def cancel(self) -> None:
        """Ask its node to end the job; ``result`` then raises Cancelled (or had come before)."""
        with self._moving:
            self._cancelled = True
            self.job.cancel()

    # ---- as a pending job is looked at

    @property
    def job(self) -> H:
        """As the node that has it knows it."""
        assert self._job is not None
        return self._job

    @property
    def settled(self) -> bool:
        """Is there an answer? What its node has lost or refused moves on here."""
        job = self.job
        return job.settled and not self.goes_on(job)

    @property
    def adrift(self) -> bool:
        """Was its node lost, and no other is there? Whoever looks at it lets it go on as soon as one is."""
        return self.under_way and self._patient_until is not None

    @property
    def over(self) -> bool:
        """Is its last answer known? Waits for whoever has it move on just now."""
        with self._moving:
            return not self.under_way

    @property
    def deadline(self) -> float:
        return self.job.deadline

    @property
    def refusal(self) -> Busy | None:
        return None if self._error is not None else self.job.refusal

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self.job.outcome()

    # ---- from node to node

    def start(self) -> None:
        """Send it to the next node of its list that takes it; what was lost with its node waits for one. Raises
        Unreachable, or what its arguments are refused for."""
        nodes, closed = self._nodes, list[str]()
        while not self.under_way:
            if self._cancelled:
                raise Cancelled(f"{self._tool}: cancelled by its caller", tool=self._tool)
            now, tried = self._clock(), ", ".join(dict.fromkeys(self._tried)) or "none"
            left = None if self._until is None else self._until - now
            if left is not None and left <= 0:
                text = f"{self._tool}: the deadline passed before a node answered it (tried: {tried})"
                raise Expired(text, tool=self._tool, tried=self.tried)
            node = self._next(closed)
            if node is None and self._may_wait(now):
                self.under_way = True
                return
            if node is None:
                raise Unreachable(f"{self._tool}: no node takes it (tried: {tried})", tool=self._tool, tried=self.tried)
            try:
                self._job = self._submit(node.client, left)
            except Unreachable:
                nodes.ended(node, 0.0, True)
                closed.append(node.address)
            except BaseException:
                nodes.ended(node, 0.0, None)
                raise
            else:
                self._node, self._began, self.under_way, self._patient_until = node, now, True, None
                if not self._measured:
                    nodes.ended(node, 0.0, None)
                if self._until is None and isfinite(self._job.deadline):
                    self._until = self._job.deadline

    def _next(self, closed: list[str]) -> Node[C] | None:
        """One that hasn't had it, as long as its list has some; else one that has lost it, and is back."""
        nodes, tried = self._nodes, self._tried
        node = None
        if len(set(tried)) < nodes.replication:
            node = nodes.choose(self._point, [*tried, *closed])
        if node is None and self._lost:
            node = nodes.choose(self._point, closed, self._lost)
        return node

    def _may_wait(self, now: float) -> bool:
        """Only what had a node, and has lost it: until that was long enough."""
        if self._job is None or not isinstance(self._job.error, Unreachable):
            return False
        if self._patient_until is None:
            self._patient_until = now + self._nodes.patience
        return now < self._patient_until

    def stay(self) -> None:
        """It doesn't leave its node any more, whatever becomes of it there."""
        with self._moving:
            self.under_way = False

    def has_begun(self, job: H) -> bool:
        """Has anything of a stream come, so that no other node may begin it anew?"""
        feed = job.feed
        return feed is not None and (bool(feed.number) or feed.has_told)

    def goes_on(self, job: H, took: float | None = None) -> bool:
        """It is settled at one node: has another taken it over, or does one now? False: that is its answer. ``took``:
        what that was, if nobody waited for it."""
        with self._moving:
            if self._job is not job:
                return True
            if not self.under_way:
                return False
            adrift, self.under_way = self.adrift, False
            lost = isinstance(job.error, Unreachable)
            try:
                if not adrift and not self._may_go_on(job, lost, self._clock() - self._began if took is None else took):
                    return False
                self.start()
            except Exception as error:  # whatever it is: nobody else would answer
                if lost or not isinstance(error, Unreachable):  # else the refusal says more
                    self._error = error
            return self.under_way

    def _may_go_on(self, job: H, lost: bool, spent: float) -> bool:
        """Tell what is learnt of its node. May another have it?"""
        nodes, node, refused = self._nodes, self._node, job.refusal
        assert node is not None
        if isinstance(refused, Draining):
            nodes.drains(node)
        if self._measured:
            nodes.ended(node, spent, None if refused else lost)
        if nodes.closed or not (lost or refused):
            return False
        if lost and _was_sent(job.error) and not nodes.repeatable(self._tool):
            text = f"{self._tool}: the node {node.address} was lost while it had it, and it may not be repeated"
            self._error = OutcomeUnknown(text, tool=self._tool, node=node.address, job=job.id, cause="node lost")
            return False
        self._tried.append(node.address)
        if lost:
            self._lost.append(node.address)
        return lost or len(set(self._tried)) < nodes.replication


def _was_sent(error: ToolringError | None) -> bool:
    return error is None or bool(error.facts.get("sent", True))

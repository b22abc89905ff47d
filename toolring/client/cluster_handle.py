"""A job of a cluster, on its way from node to node: the next takes over what one has lost or refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from toolring.client.arguments import seconds
from toolring.client.handles import Handle
from toolring.client.nodes import Node, Nodes
from toolring.client.session import refusal
from toolring.errors import Draining, Expired, OutcomeUnknown, ToolringError, Unreachable


class ClusterHandle:
    """A job that was submitted to a cluster, wherever it is now."""

    def __init__(self, nodes: Nodes, tool: str, arguments: Mapping[str, Any] | None, point: int, **how: Any) -> None:
        self._nodes = nodes
        self._tool = tool
        self._arguments = arguments
        self._point = point
        self._how = how
        timeout = how.pop("timeout")
        self._until = None if timeout is None else time.monotonic() + seconds(tool, timeout)
        self._moving = threading.RLock()
        self._tried: list[str] = []
        self._began = 0.0
        self._node: Node | None = None
        self._handle: Handle | None = None
        self._error: ToolringError | None = None
        self._over = False

    @property
    def node(self) -> str:
        """The address of the node that has it."""
        assert self._node is not None
        return self._node.address

    @property
    def tried(self) -> list[str]:
        """The nodes that had it before, and were lost or refused it."""
        return list(self._tried)

    @property
    def id(self) -> str:
        """The job's id at the node that has it."""
        return self.job.id

    @property
    def job(self) -> Handle:
        """As the node that has it knows it."""
        assert self._handle is not None
        return self._handle

    @property
    def over(self) -> bool:
        """Is its answer known to be the last?"""
        return self._over

    def done(self) -> bool:
        """Is there an answer? Never waits."""
        return self._error is not None or (self.job.done() and not self.goes_on(self.job))

    def cancel(self) -> None:
        """Ask its node to end the job; ``result`` then raises Cancelled (or had come before)."""
        self.job.cancel()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises the job's error, or TimeoutError after ``timeout`` seconds (the job goes on)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            handle = self.job
            if not handle.settled:
                handle._owner._wait(handle, None if end is None else max(0.0, end - time.monotonic()))
            if self.goes_on(handle):
                continue
            if self._error is not None:
                raise self._error
            return handle.outcome()

    def exception(self, timeout: float | None = None) -> ToolringError | None:
        """Wait, and return the job's error; None if it succeeded."""
        try:
            self.result(timeout)
        except ToolringError as error:
            return error
        return None

    # ---- from node to node

    def start(self) -> None:
        """Send it to the next node of its list that takes it. Raises Unreachable, or what its arguments are refused
        for."""
        nodes = self._nodes
        while True:
            node = nodes.choose(self._point, self._tried)
            if node is None:
                tried = ", ".join(self._tried) or "none"
                raise Unreachable(f"{self._tool}: no node takes it (tried: {tried})", tool=self._tool, tried=self.tried)
            self._began = time.monotonic()
            timeout = None if self._until is None else self._until - self._began
            if timeout is not None and timeout <= 0:
                nodes.ended(node, 0.0, None)
                tried = ", ".join(self._tried) or "none"
                text = f"{self._tool}: the deadline passed before a node answered it (tried: {tried})"
                raise Expired(text, tool=self._tool, tried=self.tried)
            try:
                self._handle = node.client._submit(self._tool, self._arguments, timeout, **self._how)
            except Unreachable:
                nodes.ended(node, 0.0, True)
                self._tried.append(node.address)
                continue
            except BaseException:
                nodes.ended(node, 0.0, None)
                raise
            self._node = node
            return

    def goes_on(self, handle: Handle, took: float | None = None) -> bool:
        """It is settled at one node: has another taken it over, or does one now? False: that is its answer. ``took``:
        what that was, if nobody waited for it."""
        nodes = self._nodes
        with self._moving:
            if self._handle is not handle:
                return True
            if self._over or self._node is None:
                return False
            self._over = True
            node, lost = self._node, isinstance(handle.error, Unreachable)
            refused = refusal(handle)
            if isinstance(refused, Draining):
                nodes.drains(node)
            spent = time.monotonic() - self._began if took is None else took
            nodes.ended(node, spent, None if refused else lost)
            if nodes.closed or not (lost or refused):
                return False
            if lost and _was_sent(handle) and not nodes.repeatable(self._tool):
                text = f"{self._tool}: the node {node.address} was lost while it had it, and it may not be repeated"
                self._error = OutcomeUnknown(text, tool=self._tool, node=node.address, job=handle.id)
                return False
            self._tried.append(node.address)
            if len(self._tried) >= nodes.replication:
                return False
            try:
                self.start()
            except ToolringError as error:
                self._error = error if lost or isinstance(error, Expired) else None  # else the refusal says more
                return False
            self._over = False
            return True


def _was_sent(handle: Handle) -> bool:
    return handle.error is None or bool(handle.error.facts.get("sent", True))

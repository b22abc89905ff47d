"""One tree of errors. Each class has a stable wire code and the exit status of the command line.

Errors travel as data (code, message, facts), never as classes to rebuild: an unknown code becomes a plain
``ToolringError`` that keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ToolringError(Exception):
    """Base of every error that toolring raises.

    ``code`` is stable and may be scripted against, ``facts`` holds what is known (tool, job, attempt, worker,
    cause, retry_after in seconds, ...), ``retryable`` says whether the same call may succeed later.
    """

    code: str = "ERROR"
    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, Any] = facts

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.code, self.message, self.facts)

    def to_wire(self) -> dict[str, Any]:
        return {**self.facts, "code": self.code, "message": str(self.message)}


class ConfigError(ToolringError):
    """A configuration file, environment variable or flag is wrong; nothing was started."""

    code = "CONFIG"
    exit_status = 3


class LoadError(ToolringError):
    """A tool module could not be loaded. ``facts["traceback"]`` holds the traceback, if there is one."""

    code = "LOAD"
    exit_status = 3


class PluginError(ToolringError):
    """A plugin could not be loaded or registered something invalid; named, before anything runs."""

    code = "PLUGIN"
    exit_status = 3


class AddressError(ToolringError):
    """An address can't be bound or is refused (taken, not loopback, malformed)."""

    code = "ADDRESS"
    exit_status = 3


class Unreachable(ToolringError):
    """No supervisor answered at the address in time; the job was not accepted as far as is known."""

    code = "UNREACHABLE"
    exit_status = 4
    retryable = True


class ProtocolError(ToolringError):
    """A message broke the protocol: malformed, unknown verb, wrong version."""

    code = "PROTOCOL"
    exit_status = 2


class HelloRequired(ProtocolError):
    """The supervisor doesn't know this connection: it is new, or the supervisor is. Say hello, then send again."""

    code = "HELLO_REQUIRED"


class TooLarge(ProtocolError):
    """A message, its arguments or its result exceed a limit in bytes."""

    code = "TOO_LARGE"


class TooDeep(ProtocolError):
    """Arguments nest deeper than the decoder allows."""

    code = "TOO_DEEP"


class UnknownTool(ToolringError):
    """No tool of that name is served by this node."""

    code = "UNKNOWN_TOOL"
    exit_status = 2


class UnknownJob(ToolringError):
    """No job of that id is known: never accepted, or its result was dropped after its time."""

    code = "UNKNOWN_JOB"
    exit_status = 2


class ResultGone(ToolringError):
    """No stored result has that handle: its time is over, it left for newer ones, or its node was started anew."""

    code = "RESULT_GONE"
    exit_status = 2


class InvalidArguments(ToolringError):
    """The arguments don't fit the tool's schema; ``facts["argument"]`` names the culprit."""

    code = "INVALID_ARGUMENTS"
    exit_status = 2


class Conflict(ToolringError):
    """The idempotency key is in use for another tool or other arguments."""

    code = "CONFLICT"
    exit_status = 2


class ToolError(ToolringError):
    """The tool raised. ``facts``: type, traceback, tool, job, attempt."""

    code = "TOOL_ERROR"
    exit_status = 1


class InvalidResult(ToolError):
    """The tool returned something that can't be encoded as msgpack."""

    code = "INVALID_RESULT"


class Retry(ToolError):
    """For tools to raise: the same call may succeed later. It is run again as often as the tool's ``retries`` allow."""

    code = "RETRY"
    retryable = True


class ServiceError(ToolError):
    """A service gave no answer, or one that is an error. ``facts``: service, endpoint, attempts, status and body if it
    answered. ``response`` is its answer, where the error was raised; it doesn't travel."""

    code = "SERVICE_ERROR"
    response: Any = None


class ServiceUnavailable(ServiceError):
    """No endpoint of a service can be asked now: nothing reached it."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class WorkerOutOfMemory(ToolError):
    """The tool ran out of memory; its worker was replaced."""

    code = "WORKER_OOM"


class Busy(ToolringError):
    """A limit is reached; come back after ``facts["retry_after"]`` seconds. Nothing was accepted."""

    code = "BUSY"
    exit_status = 5
    retryable = True


class Draining(Busy):
    """The node is shutting down and accepts nothing new."""

    code = "DRAINING"


class Unhealthy(Busy):
    """The node's workers keep dying; it accepts nothing until one lives."""

    code = "UNHEALTHY"


class CircuitOpen(Busy):
    """The tool failed so often, or killed so many workers, that it isn't run for a while."""

    code = "CIRCUIT_OPEN"


class Expired(ToolringError):
    """The deadline passed; the work was ended."""

    code = "EXPIRED"
    exit_status = 6


class Cancelled(ToolringError):
    """The job was cancelled and will have no result."""

    code = "CANCELLED"
    exit_status = 8


class OutcomeUnknown(ToolringError):
    """The tool had started when its worker (or the node) was lost, and it may not be repeated."""

    code = "OUTCOME_UNKNOWN"
    exit_status = 7


class Poisoned(ToolringError):
    """The job killed as many workers as one job may."""

    code = "POISONED"
    exit_status = 7


class WorkerSilent(ToolringError):
    """A worker that was asked what it does says nothing: it is stopped, or gone, or can't be reached where it is."""

    code = "WORKER_SILENT"
    exit_status = 4


class NodeError(ToolringError):
    """The node failed to answer a question about itself, by a fault of its own or of its machine; jobs go on."""

    code = "NODE_ERROR"
    exit_status = 4


class PoolTimeout(ToolringError):
    """No resource of the pool became free in time. Its counts are in ``facts``; ``__cause__`` is the error of the last
    creation, if that failed."""

    code = "POOL_TIMEOUT"
    exit_status = 5
    retryable = True


class PoolExhausted(PoolTimeout):
    """As many wait for the pool's resources as may, so nobody more does."""

    code = "POOL_EXHAUSTED"


class PoolClosed(ToolringError):
    """The pool was closed."""

    code = "POOL_CLOSED"
    exit_status = 5


def _tree(root: type[ToolringError]) -> dict[str, type[ToolringError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: Mapping[str, type[ToolringError]] = _tree(ToolringError)


def from_wire(data: Mapping[str, Any]) -> ToolringError:
    """The error that an answer's map stands for; unknown codes are kept on a plain ToolringError."""
    facts = {str(k): v for k, v in data.items() if k not in ("code", "message")}
    return _rebuild(str(data.get("code", "ERROR")), str(data.get("message", "")), facts)


def _rebuild(code: str, message: str, facts: Mapping[str, Any]) -> ToolringError:
    kind = BY_CODE.get(code, ToolringError)
    error = kind.__new__(kind)
    ToolringError.__init__(error, message)
    error.facts = dict(facts)  # not by keyword: a fact may bear any name
    error.code = code
    return error

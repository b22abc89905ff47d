"""The loops of ``map``, with nodes that are played: who is waited for, and what is told in place of a result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Raw

from toolring import protocol
from toolring.client.batches import Call, Plan, Send
from toolring.client.mapping import async_mapped, mapped
from toolring.client.session import Pending
from toolring.errors import Busy, ToolringError, Unreachable
from toolring.protocol import ERROR, OK, Answer, Job


def answered(value: Any) -> Pending:
    """A job that has its answer already."""
    pending = Pending(Job(1, "tool", Raw(b"\x80")), "session", 1e12)
    if isinstance(value, ToolringError):
        pending.answer = Answer(1, ERROR, Raw(protocol.encode(value.to_wire())))
    else:
        pending.answer = Answer(1, OK, Raw(protocol.encode(value)))
    return pending


def plan() -> Plan:
    return Plan("tool", 4, 1, True, "return", None, "normal")


def gathered(send: Send[Pending], connect: Callable[[], Awaitable[None]]) -> list[Any]:
    async def gather() -> list[Any]:
        calls = [{"x": x} for x in range(3)]
        found = async_mapped(plan(), calls, send, connect, asyncio.Event(), False, where=lambda _: "a node")
        return [each async for each in found]

    return asyncio.run(gather())


def test_somebody_is_waited_for_before_what_was_refused_is_sent_again() -> None:
    there, refused = [False], list[Any]()

    def send(calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        if not there[0]:
            raise Unreachable("no node takes it")
        if len(refused) < 2:
            refused.append(calls[0]["x"])
            there[0] = False  # the one that has refused it is lost, and another comes
            return answered(Busy("full", retry_after=0.0))
        return answered(calls[0]["x"])

    async def connect() -> None:
        there[0] = True

    assert gathered(send, connect) == [0, 1, 2]
    assert len(refused) == 2


def test_where_nobody_comes_each_hears_of_it() -> None:
    sent = list[Any]()

    def send(calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        sent.append(calls[0]["x"])
        if len(sent) > 1:
            raise Unreachable("no node takes it")
        return answered(Busy("full", retry_after=0.0))

    async def connect() -> None:
        if sent:
            raise Unreachable("no node answers")

    assert [type(each) for each in gathered(send, connect)] == [Unreachable] * 3


def test_what_cannot_be_sent_is_told_in_its_place_by_threads_too() -> None:
    def send(calls: list[Call], timeout: float | None, chunk: bool) -> Pending:
        if calls[0]["x"] == 1:
            raise Unreachable("no node answers")
        return answered(calls[0]["x"])

    calls = [{"x": x} for x in range(3)]
    first, second, third = mapped(plan(), calls, send, lambda _: None, False)
    assert (first, type(second), third) == (0, Unreachable, 2)

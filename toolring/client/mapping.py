"""The two loops of ``map``: read and send while there is room, give what is ready, else wait. For one node or several;
who sends and who waits is given."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import suppress
from typing import Any

from toolring.client.batches import Call, P, Plan, Send, Window
from toolring.client.progress import Bar
from toolring.errors import Unreachable


def mapped(
    plan: Plan,
    arguments: Iterable[Call],
    send: Send[P],
    wait: Callable[[Window[P]], None],
    progress: bool,
    where: Callable[[P], str] | None = None,
) -> Iterator[Any]:
    """What ``map`` gives. ``wait``: until something may be new in the window, or one is to be sent again. ``where``:
    the node that a job is at, if there are several."""
    bar = _bar(arguments) if progress else None
    under_way = Window(plan, send, bar, where=where)
    source = plan.cut(arguments)
    more = True
    try:
        while more or under_way.pieces:
            while (piece := under_way.ready()) is not None:
                yield from under_way.give(piece)
            if more and under_way.has_room:
                under_way.send_again()
                calls = next(source, None)
                more = calls is not None
                if calls is not None:
                    under_way.add(calls)
            elif under_way.pieces and not under_way.look():
                wait(under_way)
    finally:
        _leave(under_way, bar)


async def async_mapped(
    plan: Plan,
    arguments: Iterable[Call] | AsyncIterable[Call],
    send: Send[P],
    connect: Callable[[], Awaitable[None]],
    arrived: asyncio.Event,
    progress: bool,
    where: Callable[[P], str] | None = None,
) -> AsyncIterator[Any]:
    """The same, awaited. ``connect``: until somebody is there to be sent to; ``arrived``: something may be new."""
    bar = _bar(arguments) if progress else None
    under_way = Window(plan, send, bar, where=where)
    source = _cut(arguments, plan)
    more = True
    try:
        while more or under_way.pieces:
            while (piece := under_way.ready()) is not None:
                for result in under_way.give(piece):
                    yield result
            if under_way.waits:
                with suppress(Unreachable):  # then what is sent again hears of it
                    await connect()
            if more and under_way.has_room:
                under_way.send_again()
                calls = await anext(source, None)
                more = calls is not None
                if calls is not None:
                    under_way.add(calls, await _failure(connect))
            elif under_way.pieces and not under_way.look():
                await _wait(under_way, arrived)
    finally:
        _leave(under_way, bar)


async def _failure(connect: Callable[[], Awaitable[None]]) -> Unreachable | None:
    """Why nobody is there to be sent to; None: somebody is."""
    try:
        await connect()
    except Unreachable as error:
        return error
    return None


async def _wait(window: Window[P], arrived: asyncio.Event) -> None:
    """Until something arrives that may be for it, or one is to be sent again."""
    patience = window.next_look() - time.monotonic()
    arrived.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(None if patience == math.inf else max(0.0, patience)):
            await arrived.wait()


def _bar(arguments: Any) -> Bar:
    return Bar(len(arguments) if isinstance(arguments, Sized) else None)


def _leave(window: Window[P], bar: Bar | None) -> None:
    """Nobody wants the rest."""
    for piece in window.pieces:
        if piece.handle is not None:
            piece.handle.cancel()
    if bar is not None:
        bar.finish()


async def _cut(calls: Iterable[Call] | AsyncIterable[Call], plan: Plan) -> AsyncIterator[list[Call]]:
    if not isinstance(calls, AsyncIterable):
        for piece in plan.cut(calls):
            yield piece
        return
    held: list[Call] = []
    async for call in calls:
        held.append(call)
        if len(held) == plan.chunk:
            yield held
            held = []
    if held:
        yield held

"""Attempts inside a worker that has many under way at once: each a task of one event loop.

What can be answered without running anything is answered at once; the tool itself is awaited. A job ends by
``Task.cancel``, never by a signal, which would strike whichever task happens to run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from msgspec import Raw

from toolring import protocol
from toolring.context import Context, in_task
from toolring.errors import Cancelled, ToolError, ToolringError, UnknownTool, WorkerOutOfMemory, from_wire
from toolring.lane import AT, RECALL, SHIELD, STARTED, TAKEN, Lane
from toolring.protocol import ERROR, NIL, OK, SKIPPED, STREAMED, Answer, Part, Work
from toolring.tracing import adopt
from toolring.workers.cache.results import Found, Question, ResultCache
from toolring.workers.failures import cause, failure, refine
from toolring.workers.interrupt import MOST_SECONDS
from toolring.workers.outlet import Outlet
from toolring.workers.resources import BUFFERS
from toolring.workers.runnable import (
    Runnable,
    all_fail,
    calls_of,
    encoded,
    failed,
    failures,
    fitted,
    found_answer,
    spread,
    succeeded,
    together,
    until,
)
from toolring.workers.task import Answered, Run, Steps


class AsyncRunner:
    """Begins attempts and sees them to their answers. For the thread of one event loop."""

    __slots__ = (
        "_answer",
        "_make_logger",
        "_max_result",
        "_post",
        "_runnables",
        "_words",
        "forked",
        "retired",
        "runs",
    )

    def __init__(
        self,
        runnables: Mapping[str, Runnable],
        lane: Lane,
        make_logger: Callable[..., Any],
        max_result: int,
        answer: Callable[[Answer], None],
        post: Callable[[Part], None],
    ) -> None:
        """``answer`` is told of each attempt once it is over, ``post`` of what it tells before."""
        self._runnables = runnables
        self._words = lane.words
        self._make_logger = make_logger
        self._max_result = max_result
        self._answer = answer
        self._post = post
        self.runs: dict[int, Run] = {}
        """Those that are under way, by their sequence numbers."""
        self.retired = False
        """Memory ran out: nothing more is begun."""
        self.forked = False
        os.register_at_fork(after_in_child=self._mark)

    def _mark(self) -> None:
        self.forked = True

    def begin(self, seq: int, work: Work) -> None:
        """Answer an attempt at once, or start its task."""
        words = self._words
        words[AT] = seq << 2 | TAKEN
        if words[RECALL] >= seq or self.retired or time.monotonic() >= work.deadline:
            self._answer(Answer(seq, SKIPPED, NIL))
            return
        runnable = self._runnables.get(work.tool)
        if runnable is None:
            self._answer(failure(seq, UnknownTool(f"no tool {work.tool!r} in this worker"), work))
            return
        run = Run(seq, work, runnable, Outlet(seq, work, self._post, self._max_result))
        if not work.chunk:
            try:
                arguments = runnable.decode(work.args)
            except Exception as error:  # whatever it is, those that came along are to begin
                refusal = error if isinstance(error, ToolringError) else refine(work, error)
                self._done(run, failure(seq, refusal, work))
                return
            cache = runnable.cache
            question = None if cache is None else runnable.question(arguments, work)
            if cache is not None and question is not None:
                found = cache.find(question, work.renew)
                if found is not None:
                    self._answer(found_answer(seq, found, run.start))
                    return
                coroutine = self._cached(run, cache, question, arguments)
            else:
                coroutine = self._call(run, arguments)
        else:
            coroutine = self._calls(run)
        words[AT] = seq << 2 | STARTED
        self.runs[seq] = run
        run.task = asyncio.create_task(Steps(self._see_to(run, coroutine), words, run))

    async def _see_to(self, run: Run, coroutine: Any) -> None:
        """To its answer, however it ends."""
        seq, work = run.seq, run.work
        run.begun = True
        in_task.set(run)
        if work.trace:
            adopt(work.trace)
        try:
            if run.halted:
                coroutine.close()
                raise Cancelled(f"{work.tool}: cancelled")
            answer = Answer(seq, OK, await coroutine)
        except ToolringError as error:
            answer = failure(seq, error, work)
        except Answered as given:
            answer = given.answer
        except BaseException as error:  # of toolring's own making: the caller must hear of it, too
            answer = failure(seq, refine(work, error), work)
        finally:
            if self.forked:
                os._exit(1)  # a child that the tool forked came back here; the jobs are its parent's
            del self.runs[seq]
        self._done(run, answer)

    def _done(self, run: Run, answer: Answer) -> None:
        answer.run_us = int((time.monotonic() - run.start) * 1e6)
        if run.work.stream:
            answer.flags |= STREAMED
            answer.parts = run.outlet.parts
        self._answer(answer)

    # ---- one call

    async def _call(self, run: Run, arguments: msgspec.Struct) -> Raw:
        runnable = run.runnable
        kwargs = {**runnable.keywords(arguments), **self._extras(run)}
        try:
            value = await self._guarded(run, (), kwargs)
        finally:
            if runnable.changes is not None:
                runnable.changes(arguments)
        if not (isinstance(value, Raw) and runnable.streams):
            return self._encoded(run, value)
        return value if runnable.store is None else Raw(runnable.store.instead_of(value))

    def _encoded(self, run: Run, value: Any) -> Raw:
        try:
            return encoded(run.work, value, self._max_result, run.runnable.store)
        except ToolringError:
            raise
        except MemoryError as error:
            raise self._out_of_memory(run.work, error) from None
        except BaseException as error:
            raise refine(run.work, error) from None

    def _out_of_memory(self, work: Work, error: MemoryError) -> WorkerOutOfMemory:
        self.retired = True
        return WorkerOutOfMemory(f"{work.tool}: out of memory", **cause(error))

    async def _guarded(self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The one place where a tool's code runs. Raises a ToolringError for whatever goes wrong."""
        work, runnable = run.work, run.runnable
        try:
            made = runnable.call(*args, **kwargs)
            if not runnable.concurrent:
                return made
            return await (self._drain(run, made) if runnable.streams else made)
        except asyncio.CancelledError as error:
            if run.halted:
                raise Cancelled(f"{work.tool}: cancelled") from None
            raise refine(work, error) from None  # of its own making, or of a task that it waited for
        except MemoryError as error:
            raise self._out_of_memory(work, error) from None
        except ToolringError as error:
            error.facts.setdefault("tool", work.tool)
            raise
        except BaseException as error:  # KeyboardInterrupt and SystemExit would end the loop
            raise refine(work, error) from None

    async def _drain(self, run: Run, generator: AsyncIterator[Any]) -> Raw:
        """Hand on what an async generator yields, as fast as it is taken, or collect it."""
        outlet = run.outlet
        outlet.begin()
        try:
            async for item in generator:
                while outlet.full:
                    run.taken.clear()
                    await run.taken.wait()
                outlet.give(item)
            return outlet.result(None)
        finally:
            with suppress(Exception):
                await generator.aclose()  # type: ignore[attr-defined]  # its cleanup runs now

    # ---- the cache

    async def _cached(self, run: Run, cache: ResultCache, question: Question, arguments: msgspec.Struct) -> Raw:
        """Run and keep. Another node that makes the same result is waited for."""
        claimed = False
        if cache.shared and not run.work.renew:
            for step in cache.claims(question, run.work.deadline):
                if isinstance(step, Found):
                    raise Answered(found_answer(run.seq, step, run.start))
                await self._pause(run, step)
            claimed = True
        began = time.monotonic()
        try:
            value = await self._call(run, arguments)
            hold = cache.keep(question, OK, bytes(value), time.monotonic() - began)
        except ToolringError as error:
            answer = failure(run.seq, error, run.work, run.start)
            if cache.keeps_errors and isinstance(error, ToolError) and not self.retired and not run.work.renew:
                cache.keep(question, ERROR, bytes(answer.value), time.monotonic() - began)
            raise
        finally:
            if claimed:
                cache.release(question)
        raise Answered(Answer(run.seq, OK, value, 0, 0, until(hold)))

    async def _pause(self, run: Run, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            raise Cancelled(f"{run.work.tool}: cancelled") from None

    # ---- many calls as one job

    async def _calls(self, run: Run) -> Raw:
        if run.runnable.item is not None:
            parts = await self._together(run)
        else:
            parts = await self._chunk(run)
        value = fitted(run.seq, run.work, parts, self._max_result)
        if found := failures(parts):
            raise Answered(Answer(run.seq, OK, value, 0, 0, 0, 0, found))
        return value

    async def _chunk(self, run: Run) -> list[bytes]:
        """One call after the other, each as if it had come alone."""
        work, runnable = run.work, run.runnable
        calls = calls_of(work)
        parts: list[bytes] = []
        for call in calls:
            if run.halted:
                raise Cancelled(f"{work.tool}: ended after {len(parts)} of {len(calls)} calls")
            try:
                parts.append(succeeded(await self._one_of(run, runnable, call)))
            except ToolringError as error:
                if self.retired or run.halted:
                    raise
                parts.append(failed(run.seq, error, work))
        return parts

    async def _one_of(self, run: Run, runnable: Runnable, call: Raw) -> Raw:
        arguments = runnable.decode(call)
        cache = runnable.cache
        question = None if cache is None else runnable.question(arguments, run.work)
        if cache is None or question is None:
            return await self._call(run, arguments)
        found = cache.find(question, run.work.renew)
        if found is not None:
            answer = found_answer(run.seq, found, run.start)
        else:
            try:
                return await self._cached(run, cache, question, arguments)
            except Answered as given:
                answer = given.answer
        if answer.status != OK:
            raise from_wire(protocol.decode_value(answer.value))
        return answer.value

    async def _together(self, run: Run) -> list[bytes]:
        """All calls in one run of the function, or in as few as it allows."""
        seq, work, runnable = run.seq, run.work, run.runnable
        batch = together(seq, work, runnable)
        for items, places in batch.runs(runnable.batch):
            if run.halted:
                raise Cancelled(f"{work.tool}: ended before all of its calls had run")
            try:
                results = await self._guarded(run, (items,), self._extras(run))
                spread(seq, work, batch, places, self._max_result, results, runnable.store)
            except MemoryError as error:
                raise self._out_of_memory(work, error) from None
            except ToolringError as error:
                if self.retired or run.halted:
                    raise
                all_fail(seq, work, batch, places, error)
        return batch.parts

    # ---- the context

    def _extras(self, run: Run) -> Mapping[str, Any]:
        """What the tool asks of toolring: services, the Context."""
        name, work = run.runnable.context, run.work
        if name is None:
            return run.runnable.given
        context = Context(
            job=f"{work.session}-{work.id}",
            tool=work.tool,
            attempt=work.attempt,
            deadline=work.deadline,
            cancelled=lambda: run.halted,
            shield=lambda seconds: self._shield(run, seconds),
            make_logger=self._make_logger,
            tell=run.outlet.tell,
            trace=work.trace,
            buffer=BUFFERS.acquire,
        )
        return {**run.runnable.given, name: context}

    @contextmanager
    def _shield(self, run: Run, seconds: float) -> Iterator[None]:
        """Puts the cancellation of one job off; the supervisor sees how long in the lane."""
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"shield({seconds!r}): more than 0 seconds, and at most {MOST_SECONDS:g}")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("context.shield() belongs where the job awaits, not in a thread of it") from None
        shield = int((time.monotonic() + seconds) * 1e6)
        run.shields.append(shield)
        self._tell_shields()
        over = loop.call_later(seconds, run.lower, shield)
        try:
            yield
        finally:
            over.cancel()
            run.lower(shield)
            self._tell_shields()

    def _tell_shields(self) -> None:
        self._words[SHIELD] = max((shield for run in self.runs.values() for shield in run.shields), default=0)

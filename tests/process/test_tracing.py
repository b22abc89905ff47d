"""Traces across processes: the caller's spans, the job's, and those that its tool makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.process.kit import Node, place, running
from toolring import AsyncClient, traced

TOOLS = """
from opentelemetry.sdk.trace import TracerProvider
from toolring import Context, tool, trace_headers

tracer = TracerProvider().get_tracer("tools")

def told(context: Context) -> list:
    with tracer.start_as_current_span("mine") as span:
        parent = span.parent and f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}"
        return [context.traceparent, parent, trace_headers()]

@tool
def plain(context: Context) -> list:
    return told(context)

@tool
async def aio(context: Context) -> list:
    return told(context)
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with place() as directory:
        (Path(directory) / "spans.py").write_text(TOOLS)
        with running("spans", directory=directory) as node:
            yield node


@pytest.mark.parametrize("tool", ["plain", "aio"])
def test_a_tools_spans_are_children_of_its_callers(node: Node, tool: str) -> None:
    tracer = TracerProvider().get_tracer("caller")
    with node.client() as client, tracer.start_as_current_span("mine") as span:
        told = span.get_span_context()
        for _ in range(3):
            given, parent, headers = client.call(tool)
            assert given[:-3] == f"00-{parent}"
            assert parent == f"{told.trace_id:032x}-{told.span_id:016x}"
            assert headers["traceparent"].split("-")[1] == f"{told.trace_id:032x}"
            assert headers["traceparent"] != given, "what the tool calls has the tool's span for its parent"
    with node.client() as client:
        assert client.call(tool)[:2] == ["", None], "nothing of one call is left for the next"


@pytest.mark.parametrize("tool", ["plain", "aio"])
def test_over_asyncio(node: Node, tool: str) -> None:
    async def use() -> list[object]:
        async with AsyncClient(node.address) as client:
            with traced(PARENT):
                jobs = [await client.submit(tool) for _ in range(4)]
            return [(await job.result())[1] for job in jobs]

    assert asyncio.run(use()) == [PARENT[3:-3]] * 4

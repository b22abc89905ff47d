"""Tools that ask services, for tests/process/test_services.py."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

from toolring import AsyncService, Client, Context, Service, tool, trace_headers


@tool(read_only=True)
def read(path: str, shop: Service) -> dict[str, Any]:
    return json.loads(shop.get(path).content)


@tool(read_only=True)
async def read_async(path: str, shop: AsyncService) -> dict[str, Any]:
    return json.loads((await shop.get(path)).content)


@tool
def order(item: str, shop: Service, twice: bool = False) -> dict[str, Any]:
    answer = shop.post("/orders", json={"item": item}, idempotent=True if twice else None)
    return json.loads(answer.content)


@tool(read_only=True)
def ask(method: str, path: str, other: Annotated[Service, "shop"]) -> int:
    return other.request(method, path, expect=(404,)).status_code


@tool(read_only=True)
def who_traces(context: Context) -> list[Any]:
    return [context.traceparent, trace_headers()]


@tool(read_only=True)
def passes_on() -> list[Any]:
    """Calls another tool of the same node."""
    with Client(os.environ["TOOLRING_ADDRESS"]) as client:
        return list(client.call("who_traces"))


@tool(read_only=True)
async def traces_async() -> dict[str, str]:
    return trace_headers()

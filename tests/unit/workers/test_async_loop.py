"""An event loop that sends must not sleep through what arrives meanwhile."""

from __future__ import annotations

import asyncio
import mmap
import select
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, cast

import pytest
import zmq

from tests.process.kit import PATIENCE
from toolring import protocol
from toolring.lane import LANE_BYTES, Lane
from toolring.protocol import Report
from toolring.workers.async_loop import AsyncLoop


class Reports:
    """Have nothing to tell, and take down what they are asked."""

    again = inf

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def figures(self) -> dict[str, Any]:
        return {}

    def counted(self) -> None:
        return None

    def rest(self) -> None:
        return None

    def tend(self, message: Any) -> None:
        self.asked.append(message)


@pytest.fixture
def sockets() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """The supervisor's and a worker's, which know each other."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.linger = dealer.linger = 0
    router.bind("inproc://back")
    dealer.identity = b"w"
    dealer.connect("inproc://back")
    dealer.send_multipart([b"", b""])
    router.recv_multipart()
    yield router, dealer
    router.close()
    dealer.close()
    context.term()


@pytest.mark.parametrize("sends", [AsyncLoop._report, AsyncLoop._flush, AsyncLoop._retire])
def test_what_arrives_just_before_something_is_sent_is_seen(
    sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]], sends: Callable[[AsyncLoop], None]
) -> None:
    router, dealer = sockets
    reports = Reports()

    async def scenario() -> None:
        lane = Lane(mmap.mmap(-1, LANE_BYTES), 0)
        loop = AsyncLoop(cast("Any", dealer), lane, {}, lambda **_: None, 1 << 20, cast("Any", reports), None)
        router.send_multipart([b"w", protocol.encode(Report()), b""])
        readable, _, _ = select.select([int(dealer.getsockopt(zmq.FD))], [], [], PATIENCE)
        assert readable, "it has arrived, and nobody has looked"
        sends(loop)
        await asyncio.sleep(0)  # the descriptor is not watched here, so nothing else can wake it

    asyncio.run(scenario())
    assert [type(one) for one in reports.asked] == [Report]

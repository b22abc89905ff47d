"""The asyncio client of several real nodes: as test_cluster.py, with an event loop instead of threads."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.kit import PATIENCE, Node, addresses, lines, owners
from toolring import AsyncCluster, AsyncClusterHandle
from toolring.errors import (
    Busy,
    Cancelled,
    ConfigError,
    InvalidArguments,
    OutcomeUnknown,
    ToolError,
    ToolringError,
    Unreachable,
)


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """As of the kit; the event loop goes on meanwhile."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.004)


async def failure(call: Awaitable[Any]) -> ToolringError:
    try:
        value = await call
    except ToolringError as error:
        return error
    raise AssertionError(f"no error, but {value!r}")


def states(cluster: AsyncCluster) -> list[str]:
    return [one["state"] for one in cluster.nodes().values()]


async def all_up(cluster: AsyncCluster, count: int = 3) -> None:
    await eventually(lambda: states(cluster) == ["up"] * count, "all have answered")


async def first(results: AsyncIterator[Any]) -> Any:
    return await anext(results)


def one_of(nodes: list[Node], address: str) -> Node:
    return next(node for node in nodes if node.address == address)


def test_equal_keys_go_to_the_same_node_and_others_to_all(nodes: list[Node]) -> None:
    of = owners(nodes)

    async def use() -> None:
        cluster = AsyncCluster(addresses(nodes))
        assert states(cluster) == ["down"] * 3, "nobody was asked yet"
        assert await cluster.call("where", {"key": "x"}) in of, "it connects with the first call"
        async with cluster:
            await all_up(cluster)
            homes = {f"key{n}": of[await cluster.call("where", {"key": f"key{n}"})] for n in range(60)}
            assert set(homes.values()) == set(addresses(nodes))
            again = await asyncio.gather(*[cluster.call("where", {"key": key}) for key in homes])
            assert [of[each] for each in again] == list(homes.values())
            assert all(cluster.preference(key)[0] == home for key, home in homes.items())
            routed = await cluster.call("where", {"key": "x"}, route="user:7")
            assert of[routed] == cluster.preference("user:7")[0]
            handle = await cluster.submit("where", {"key": "key1"})
            assert of[await handle] == handle.node == homes["key1"]
            assert handle.done()
            assert await handle.exception() is None
            async with cluster.stream("count", {"n": 5}) as stream:
                assert [part async for part in stream] == [0, 1, 2, 3, 4]
            assert isinstance(await failure(cluster.call("wrong")), ToolError)
            assert isinstance(await failure(cluster.call("where", {"key": "a"}, timeout=-1)), InvalidArguments)
            assert sorted(await cluster.status()) == sorted(addresses(nodes))
            assert "where" in {spec.name for spec in await cluster.tools()}
        assert states(cluster) == ["down"] * 3
        closed = await failure(cluster.call("where", {"key": "a"}))
        assert str(closed) == "the cluster was closed"

    asyncio.run(use())


def test_a_node_that_is_killed_under_load_costs_read_only_calls_nothing(nodes: list[Node], tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes), replication=3) as cluster:
            await all_up(cluster)

            async def work(first: int) -> list[int]:
                return [await cluster.call("slow", {"path": str(ledger), "n": n}) for n in range(first, first + 60)]

            working = [asyncio.create_task(work(1000 * k)) for k in range(4)]
            await eventually(lambda: len(lines(ledger)) > 40, "they work")
            await asyncio.to_thread(nodes[0].kill)
            found = [n for some in await asyncio.gather(*working) for n in some]
            assert sorted(found) == [1000 * k + n for k in range(4) for n in range(60)]
            await eventually(lambda: cluster.nodes()[nodes[0].address]["state"] == "down", "it is known to be lost")
            nodes[0].start()
            await asyncio.to_thread(nodes[0].until_ready)
            await all_up(cluster)
            of = await asyncio.to_thread(owners, nodes)
            assert nodes[0].address in {of[await cluster.call("where", {"key": f"key{n}"})] for n in range(60)}

    asyncio.run(use())


def test_a_node_that_answers_late_at_the_beginning_keeps_its_keys(nodes: list[Node]) -> None:
    async def use() -> None:
        async with AsyncCluster(addresses(nodes)) as known:
            late = one_of(nodes, known.preference("order-17")[0])
        pid = late.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with AsyncCluster(addresses(nodes), lost_after=PATIENCE, connect_timeout=PATIENCE) as cluster:
                waits = [
                    asyncio.create_task(cluster.call("where", {"key": "x"}, route="order-17")),
                    asyncio.create_task(first(cluster.stream("passage", route="order-17"))),
                    asyncio.create_task(first(cluster.map("where", [{"key": "x"}]))),
                ]
                others = [f"r{n}" for n in range(50) if cluster.preference(f"r{n}")[0] != late.address]
                for other in others:
                    await cluster.call("where", {"key": "x"}, route=other)
                assert not any(task.done() for task in waits), "they wait for their own node"
                os.kill(pid, signal.SIGCONT)
                call, part, _ = await asyncio.gather(*waits)
                of = await asyncio.to_thread(owners, nodes)
                assert of[call] == of[part] == late.address
        finally:
            os.kill(pid, signal.SIGCONT)

    asyncio.run(use())


def test_what_may_be_repeated_waits_for_a_node_if_none_is_there(nodes: list[Node], tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes), connect_timeout=PATIENCE) as cluster:
            await all_up(cluster)
            handle = await cluster.submit("gate", {"path": str(gate)})
            call = asyncio.create_task(cluster.call("gate", {"path": str(gate)}))
            await eventually(lambda: lines(gate), "it runs")
            for node in nodes:
                await asyncio.to_thread(node.kill)
            await eventually(lambda: states(cluster) == ["down"] * 3, "all are lost")
            assert not handle.done()
            Path(f"{gate}.open").touch()
            nodes[2].start()
            await asyncio.to_thread(nodes[2].until_ready)
            of = await asyncio.to_thread(owners, nodes[2:])
            assert of[await handle] == of[await call] == nodes[2].address

    asyncio.run(use())


def test_what_may_not_be_repeated_is_told_as_unknown_and_the_rest_moves_on(nodes: list[Node], tmp_path: Path) -> None:
    spot, other = tmp_path / "once", tmp_path / "gate"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes)) as cluster:
            await all_up(cluster)
            unknown = await cluster.submit("once", {"path": str(spot)})
            victim = one_of(nodes, unknown.node)
            route = next(f"r{n}" for n in range(1000) if cluster.preference(f"r{n}")[0] == victim.address)
            moved = await cluster.submit("gate", {"path": str(other)}, route=route)
            await eventually(lambda: lines(spot) and lines(other), "both run")
            await asyncio.to_thread(victim.kill)
            await eventually(lambda: len(lines(other)) == 2, "another node has taken it over, and nobody waits for it")
            error = await unknown.exception()
            assert isinstance(error, OutcomeUnknown)
            assert error.facts["node"] == victim.address
            assert len(lines(spot)) == 1
            Path(f"{other}.open").touch()
            assert await moved.result() == int(lines(other)[1])
            assert moved.tried == [victim.address]
            assert moved.node != victim.address

    asyncio.run(use())


def test_a_stream_whose_node_is_lost_may_not_be_gone_on_with(nodes: list[Node]) -> None:
    async def use() -> None:
        async with AsyncCluster(addresses(nodes)) as cluster:
            await all_up(cluster)
            stream = cluster.stream("endless", route="here")
            assert await anext(stream) == 1
            await asyncio.to_thread(one_of(nodes, cluster.preference("here")[0]).kill)

            async def rest() -> None:
                async for _ in stream:
                    pass

            error = await failure(rest())
            assert isinstance(error, OutcomeUnknown)
            assert error.facts["parts"] >= 1

    asyncio.run(use())


def test_a_stream_is_passed_on_until_it_has_begun(nodes: list[Node], tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes), replication=2) as cluster:
            await all_up(cluster)
            first, second = cluster.preference("same")
            of = await asyncio.to_thread(owners, nodes)
            streams = [cluster.stream("passage", route="same") for _ in range(3)]
            assert of[await anext(streams[0])] == first
            async with streams[1]:  # it waits at the first
                assert of[await anext(streams[2])] == second, "the first has refused it"
                async with cluster.stream("passage", route="same") as left:
                    left.close()
                    assert isinstance(await failure(anext(left)), Cancelled), "it goes nowhere else"
                waits = await cluster.submit("passage", route="same")
                await eventually(lambda: waits.node == second, "it waits at the second")
                refused = cluster.stream("passage", route="same")
                assert isinstance(await failure(anext(refused)), Busy), "all have refused it"
            waits.cancel()
            for stream in streams:
                stream.close()
            victim = one_of(nodes, first)
            last = await cluster.submit("gate", {"path": str(gate)}, route="same")
            await eventually(lambda: lines(gate), "it runs")
            victim.signal(signal.SIGTERM)
            await eventually(lambda: "node_draining" in victim.log, "it drains")
            stream = cluster.stream("endless", route="same")
            assert [await anext(stream), await anext(stream)] == [1, 1]
            assert cluster.nodes()[first]["state"] == "down", "its refusal was a lesson"
            await asyncio.to_thread(one_of(nodes, second).kill)

            async def rest() -> None:
                async for _ in stream:
                    pass

            assert isinstance(await failure(rest()), OutcomeUnknown), "it has begun there"
            Path(f"{gate}.open").touch()
            assert await last.result() > 0
            await asyncio.to_thread(victim.wait)

    asyncio.run(use())


def test_a_call_whose_task_is_cancelled_ends_where_it_is(nodes: list[Node], tmp_path: Path) -> None:
    """At the node that has taken it over, too."""
    spot = tmp_path / "gate"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes)) as cluster:
            await all_up(cluster)
            call = asyncio.create_task(cluster.call("gate", {"path": str(spot)}))
            await eventually(lambda: lines(spot), "it runs")
            of = await asyncio.to_thread(owners, nodes)
            victim = one_of(nodes, of[int(lines(spot)[0])])
            os.kill(victim.pid, signal.SIGSTOP)
            try:
                await eventually(lambda: len(lines(spot)) == 2, "another has taken it over")
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                new = one_of(nodes, of[int(lines(spot)[1])])
                await asyncio.to_thread(new.until_whole)
            finally:
                os.kill(victim.pid, signal.SIGCONT)
            await all_up(cluster)

    asyncio.run(use())


def test_nodes_come_and_go_under_load_with_no_error_and_only_their_share_moves(nodes: list[Node]) -> None:
    keys = [f"key{n}" for n in range(300)]
    of = owners(nodes)

    async def use() -> None:
        async with AsyncCluster(addresses(nodes[:2]), replication=1) as cluster:
            await all_up(cluster, 2)
            stop = asyncio.Event()

            async def work() -> int:
                done = 0
                while not stop.is_set():
                    await cluster.call("where", {"key": keys[done % 300]})
                    done += 1
                return done

            working = [asyncio.create_task(work()) for _ in range(3)]
            before = {key: cluster.preference(key)[0] for key in keys}
            cluster.add(nodes[2].address)
            await all_up(cluster)
            after = {key: cluster.preference(key)[0] for key in keys}
            moved = [key for key in keys if after[key] != before[key]]
            assert all(after[key] == nodes[2].address for key in moved)
            assert 50 < len(moved) < 160, "about a third"
            found = await asyncio.gather(*[cluster.call("where", {"key": key}) for key in keys[:60]])
            assert [of[each] for each in found] == [after[key] for key in keys[:60]]
            cluster.remove(nodes[2].address)
            cluster.remove(nodes[0].address)
            found = await asyncio.gather(*[cluster.call("where", {"key": key}) for key in keys[:30]])
            assert {of[each] for each in found} == {nodes[1].address}
            stop.set()
            assert all(done > 0 for done in await asyncio.gather(*working))
            for change in (lambda: cluster.remove(nodes[1].address), lambda: cluster.add(nodes[1].address)):
                with pytest.raises(ConfigError):
                    change()

    asyncio.run(use())


def test_a_node_that_is_busy_or_drains_passes_calls_on(nodes: list[Node], tmp_path: Path) -> None:
    spot, gate = tmp_path / "narrow", tmp_path / "gate"

    async def use() -> None:
        async with AsyncCluster(addresses(nodes), replication=2) as cluster:
            await all_up(cluster)
            handles: list[AsyncClusterHandle] = []
            while len(handles) < 4:  # one runs and one waits, at two nodes
                handles.append(await cluster.submit("narrow", {"path": str(spot)}, route="same"))
                await eventually(lambda: len(lines(spot)) == (len(handles) + 1) // 2, "every other one runs")
            await eventually(lambda: sum(node.status()["jobs"]["waiting"] for node in nodes) == 2, "two wait")
            fifth = await failure(cluster.call("narrow", {"path": str(spot)}, route="same"))
            assert isinstance(fifth, Busy)
            Path(f"{spot}.open").touch()
            assert {await handle for handle in handles} == {int(line) for line in lines(spot)}
            first = cluster.preference("same")[0]
            victim = one_of(nodes, first)
            last = await cluster.submit("gate", {"path": str(gate)}, route="same")
            await eventually(lambda: lines(gate), "it runs")
            assert last.node == first
            others = await asyncio.to_thread(owners, [node for node in nodes if node is not victim])
            victim.signal(signal.SIGTERM)
            await eventually(lambda: "node_draining" in victim.log, "it drains")
            assert await cluster.call("where", {"key": "x"}, route="same") in others
            assert cluster.nodes()[first]["state"] == "down"
            Path(f"{gate}.open").touch()
            assert await last.result() == int(lines(gate)[0]), "what it had it has answered"
            await asyncio.to_thread(victim.wait)

    asyncio.run(use())


def test_a_map_goes_over_all_nodes_in_chunks_and_in_any_order(nodes: list[Node], tmp_path: Path) -> None:
    async def calls() -> AsyncIterator[dict[str, int]]:
        for n in range(300):
            yield {"n": n}

    async def use() -> None:
        async with AsyncCluster(addresses(nodes)) as cluster:
            await all_up(cluster)
            for chunk in (1, 7):
                assert [each async for each in cluster.map("briefly", calls(), chunk=chunk)] == list(range(300))
                found = [each async for each in cluster.map("briefly", calls(), chunk=chunk, ordered=False)]
                assert sorted(found) == [(n, n) for n in range(300)]
            spot = tmp_path / "narrow"
            Path(f"{spot}.open").touch()
            narrow = [each async for each in cluster.map("narrow", [{"path": str(spot)}] * 40)]
            assert len(narrow) == 40, "what all are too busy for is sent again"
            gate = tmp_path / "gate"
            held = cluster.map("gate", [{"path": str(gate)}] * 2, chunk=2)
            first = asyncio.ensure_future(anext(held))
            await eventually(lambda: lines(gate), "a chunk runs")
            of = await asyncio.to_thread(owners, nodes)
            await asyncio.to_thread(one_of(nodes, of[int(lines(gate)[0])]).kill)
            await eventually(lambda: len(lines(gate)) == 2, "another node has begun it anew")
            Path(f"{gate}.open").touch()
            assert [await first, await anext(held)] == [int(lines(gate)[1])] * 2

    asyncio.run(use())


def test_no_route_and_no_node(nodes: list[Node]) -> None:
    one, two, three = addresses(nodes)
    nobody = f"{one}.nobody"

    async def use() -> None:
        ranges = {one: "", two: "h", three: "q"}
        async with AsyncCluster(addresses(nodes), strategy="range", ranges=ranges) as cluster:
            await all_up(cluster)
            assert isinstance(await failure(cluster.call("wrong")), InvalidArguments)
            assert isinstance(await failure(cluster.call("wrong", route="x")), ToolError)
        with pytest.raises(ConfigError, match="is there twice"):
            AsyncCluster([one, one])
        gone = AsyncCluster([nobody], connect_timeout=0.3)
        with pytest.raises(Unreachable, match="no node answers"):
            async with gone:
                pass
        late = AsyncCluster([nobody, one], connect_timeout=0.3)
        assert (await late.status())[nobody]["error"]["code"] == "UNREACHABLE"
        assert await late.call("where", {"key": "a"}) > 0
        await late.close()
        await eventually(lambda: len(asyncio.all_tasks()) == 1, "nothing is left running")

    asyncio.run(use())


def test_when_all_are_gone_a_caller_hears_of_it_and_when_they_are_back_it_goes_on(nodes: list[Node]) -> None:
    async def use() -> None:
        async with AsyncCluster(addresses(nodes), lost_after=0.5, connect_timeout=0.5) as cluster:
            await all_up(cluster)
            for node in nodes:
                await asyncio.to_thread(node.kill)
            await eventually(lambda: states(cluster) == ["down"] * 3, "all are known to be lost")
            assert isinstance(await failure(cluster.call("where", {"key": "a"})), Unreachable)
            for node in nodes:
                node.start()
            for node in nodes:
                await asyncio.to_thread(node.until_ready)
            await all_up(cluster)
            assert await cluster.call("where", {"key": "a"}) > 0

    asyncio.run(use())

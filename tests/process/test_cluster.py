"""A client of several real nodes: whose key goes where, and what is seen when nodes are killed, stopped, added."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.process.kit import PATIENCE, Background, Node, addresses, eventually, failure, lines, owners, run_cli
from toolring import Client, Cluster
from toolring.errors import (
    Busy,
    Cancelled,
    ConfigError,
    Expired,
    InvalidArguments,
    OutcomeUnknown,
    ToolError,
    Unreachable,
)


def states(cluster: Cluster) -> list[str]:
    return [one["state"] for one in cluster.nodes().values()]


def test_equal_keys_go_to_the_same_node_and_others_to_all(nodes: list[Node]) -> None:
    with Cluster(addresses(nodes)) as cluster, Cluster(reversed(addresses(nodes))) as other:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        eventually(lambda: states(other) == ["up"] * 3, "all have answered")
        of = owners(nodes)
        homes = {f"key{n}": of[cluster.call("where", {"key": f"key{n}"})] for n in range(60)}
        assert set(homes.values()) == set(addresses(nodes))
        for key, home in homes.items():
            assert of[cluster.call("where", {"key": key})] == home == cluster.preference(key)[0]
            assert of[other.call("where", {"key": key})] == home, "the order of the nodes doesn't matter"
        routed = {of[where] for where in (cluster.call("where", {"key": "x"}, route="user:7") for _ in range(5))}
        assert routed == {cluster.preference("user:7")[0]}
        first, second = cluster.preference("user:7")
        assert first != second
        assert all(cluster.is_local(address) for address in addresses(nodes))
        assert not cluster.is_local("tcp://192.0.2.1:5000")
        assert list(cluster.map("slow", [{"path": os.devnull, "n": n} for n in range(50)])) == list(range(50))
        with cluster.stream("count", {"n": 5}) as stream:
            assert list(stream) == [0, 1, 2, 3, 4]
        assert isinstance(failure(lambda: cluster.call("wrong")), ToolError)
        assert sorted(cluster.status()) == sorted(addresses(nodes))
        assert "where" in {spec.name for spec in cluster.tools()}


def test_a_node_that_is_killed_under_load_costs_read_only_calls_nothing(nodes: list[Node], tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    results: list[int] = []
    with Cluster(addresses(nodes), replication=3) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")

        def work(first: int) -> None:
            for n in range(first, first + 60):
                results.append(cluster.call("slow", {"path": str(ledger), "n": n}))

        threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(lines(ledger)) > 40, "they work")
        nodes[0].kill()
        for thread in threads:
            thread.join()
        assert sorted(results) == [1000 * k + n for k in range(4) for n in range(60)]
        assert cluster.nodes()[nodes[0].address]["state"] == "down"
        nodes[0].start()
        nodes[0].until_ready()
        eventually(lambda: cluster.nodes()[nodes[0].address]["state"] == "up", "it is back")
        of = owners(nodes)
        assert nodes[0].address in {of[cluster.call("where", {"key": f"key{n}"})] for n in range(60)}


def test_what_may_not_be_repeated_is_told_as_unknown_and_the_rest_moves_on(nodes: list[Node], tmp_path: Path) -> None:
    spot, other = tmp_path / "once", tmp_path / "gate"
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        unknown = cluster.submit("once", {"path": str(spot)})
        victim = next(node for node in nodes if node.address == unknown.node)
        route = next(f"r{n}" for n in range(1000) if cluster.preference(f"r{n}")[0] == victim.address)
        moved = cluster.submit("gate", {"path": str(other)}, route=route)
        eventually(lambda: lines(spot) and lines(other), "both run")
        victim.kill()
        eventually(lambda: len(lines(other)) == 2, "another node has taken it over, and nobody waits for it")
        error = unknown.exception()
        assert isinstance(error, OutcomeUnknown)
        assert error.facts["node"] == victim.address
        assert lines(spot) == lines(spot)[:1]
        Path(f"{other}.open").touch()
        assert moved.result() == int(lines(other)[1])
        assert moved.tried == [victim.address]
        assert moved.node != victim.address


def test_a_node_that_answers_late_at_the_beginning_keeps_its_keys(nodes: list[Node]) -> None:
    with Cluster(addresses(nodes)) as known:
        late = next(node for node in nodes if node.address == known.preference("order-17")[0])
    home = late.pid
    os.kill(home, signal.SIGSTOP)
    try:
        with Cluster(addresses(nodes), lost_after=PATIENCE, connect_timeout=PATIENCE) as cluster:
            call = Background(lambda: cluster.call("where", {"key": "x"}, route="order-17"))
            others = [f"r{n}" for n in range(100) if cluster.preference(f"r{n}")[0] != late.address]
            assert home not in {cluster.call("where", {"key": "x"}, route=other) for other in others}
            assert call.is_alive(), "it waits for its own node"
            os.kill(home, signal.SIGCONT)
            assert owners(nodes)[call.result()] == late.address
    finally:
        os.kill(home, signal.SIGCONT)


@pytest.mark.parametrize("count", [1, 3])
def test_what_may_be_repeated_waits_for_a_node_if_none_is_there(nodes: list[Node], tmp_path: Path, count: int) -> None:
    some, gate, spot = nodes[:count], tmp_path / "gate", tmp_path / "once"
    with Cluster(addresses(some), connect_timeout=PATIENCE) as cluster:
        eventually(lambda: states(cluster) == ["up"] * count, "all have answered")
        unknown = cluster.submit("once", {"path": str(spot)})
        eventually(lambda: lines(spot), "it runs")
        waited = Background(lambda: cluster.call("gate", {"path": str(gate)}))
        mapped = Background(lambda: list(cluster.map("gate", [{"path": str(gate)}] * 2)))
        handle = cluster.submit("gate", {"path": str(gate)})
        eventually(lambda: lines(gate), "one runs, and others wait")
        for node in some:
            node.kill()
        eventually(lambda: states(cluster) == ["down"] * count, "all are lost")
        assert isinstance(unknown.exception(), OutcomeUnknown)
        with pytest.raises(TimeoutError, match="it goes on"):
            handle.result(0.05)
        assert not handle.done()
        Path(f"{gate}.open").touch()
        some[-1].start()
        some[-1].until_ready()
        of = owners(some[-1:])
        assert {of[found] for found in (waited.result(), handle.result(), *mapped.result())} == {some[-1].address}


def test_a_node_that_is_stopped_counts_as_lost(nodes: list[Node], tmp_path: Path) -> None:
    spot = tmp_path / "gate"
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        handle = cluster.submit("gate", {"path": str(spot)})
        victim = next(node for node in nodes if node.address == handle.node)
        eventually(lambda: lines(spot), "it runs")
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            eventually(lambda: len(lines(spot)) == 2, "another has taken it over")
            Path(f"{spot}.open").touch()
            assert handle.result() == int(lines(spot)[1])
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        eventually(lambda: cluster.nodes()[victim.address]["state"] == "up", "it is back")


def test_nodes_come_and_go_under_load_with_no_error_and_only_their_share_moves(nodes: list[Node]) -> None:
    keys = [f"key{n}" for n in range(300)]
    with Cluster(addresses(nodes[:2]), replication=1) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 2, "all have answered")
        stop = threading.Event()

        def work() -> int:
            done = 0
            while not stop.is_set():
                cluster.call("where", {"key": keys[done % 300]})
                done += 1
            return done

        working = [Background(work) for _ in range(3)]
        before = {key: cluster.preference(key)[0] for key in keys}
        cluster.add(nodes[2].address)
        eventually(lambda: states(cluster) == ["up"] * 3, "it has answered")
        after = {key: cluster.preference(key)[0] for key in keys}
        assert isinstance(failure(lambda: cluster.add(f"{nodes[2].address}x", -1.0)), ConfigError)
        assert len(cluster.nodes()) == 3, "nothing has changed"
        moved = [key for key in keys if after[key] != before[key]]
        assert all(after[key] == nodes[2].address for key in moved)
        assert 50 < len(moved) < 160, "about a third"
        cluster.remove(nodes[2].address)
        assert {key: cluster.preference(key)[0] for key in keys} == before
        cluster.remove(nodes[0].address)
        of = owners(nodes)
        assert {of[cluster.call("where", {"key": key})] for key in keys[:30]} == {nodes[1].address}
        stop.set()
        assert all(one.result() > 0 for one in working)
        assert isinstance(failure(lambda: cluster.remove(nodes[1].address)), ConfigError)
        assert isinstance(failure(lambda: cluster.remove(nodes[0].address)), ConfigError)
        assert isinstance(failure(lambda: cluster.add(nodes[1].address)), ConfigError)


def test_a_node_that_is_busy_or_drains_passes_calls_on(nodes: list[Node], tmp_path: Path) -> None:
    spot = tmp_path / "narrow"
    with Cluster(addresses(nodes), replication=2) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        handles = [cluster.submit("narrow", {"path": str(spot)}, route="same") for _ in range(4)]
        eventually(lambda: len(lines(spot)) == 2, "two run, at two nodes")
        assert len({handle.node for handle in handles if not handle.done()}) == 2
        eventually(lambda: sum(node.status()["jobs"]["waiting"] for node in nodes) == 2, "the others wait behind them")
        fifth = failure(lambda: cluster.call("narrow", {"path": str(spot)}, route="same"))
        assert isinstance(fifth, Busy)
        Path(f"{spot}.open").touch()
        assert {handle.result() for handle in handles} == {int(line) for line in lines(spot)}
        first = cluster.preference("same")[0]
        victim = next(node for node in nodes if node.address == first)
        held = victim.client()
        with held:
            gate = tmp_path / "gate"
            last = held.submit("gate", {"path": str(gate)})
            eventually(lambda: lines(gate), "it runs")
            victim.signal(signal.SIGTERM)
            eventually(lambda: "node_draining" in victim.log, "it drains")
            of = owners([node for node in nodes if node is not victim])
            assert of[cluster.call("where", {"key": "x"}, route="same")] != first
            Path(f"{gate}.open").touch()
            assert last.result() > 0
        victim.wait()


@pytest.mark.parametrize("strategy", ["rendezvous", "random", "p2c", "least_outstanding", "peak_ewma", "round_robin"])
def test_other_strategies(nodes: list[Node], strategy: str) -> None:
    with Cluster(addresses(nodes), strategy=strategy) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        of = owners(nodes)
        held = Counter(of[cluster.call("where", {"key": f"key{n}"})] for n in range(90))
        assert len(held) == 3
        if strategy == "rendezvous":
            assert len({cluster.call("where", {"key": "same"}) for _ in range(10)}) == 1


def test_ranges(nodes: list[Node]) -> None:
    one, two, three = addresses(nodes)
    with Cluster(addresses(nodes), strategy="range", ranges={one: "", two: "h", three: "q"}) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        of = owners(nodes)
        assert [of[cluster.call("where", {"key": key})] for key in ("apple", "house", "pear", "zoo")] == [
            one,
            two,
            two,
            three,
        ]
        assert cluster.preference("zoo") == [three, one]
        assert isinstance(failure(lambda: cluster.remove(two)), ConfigError)
        assert isinstance(failure(lambda: cluster.add("ipc:///nobody.sock")), ConfigError)
        assert len(cluster.nodes()) == 3
        assert isinstance(failure(lambda: cluster.call("wrong")), InvalidArguments)
        assert isinstance(failure(lambda: cluster.call("wrong", route="x")), ToolError)


def test_what_makes_no_sense_is_refused_by_name(nodes: list[Node]) -> None:
    one = nodes[0].address

    def refused(*given: object, **more: object) -> str:
        error = failure(lambda: Cluster(*given, **more))  # type: ignore[arg-type]
        assert isinstance(error, ConfigError)
        return str(error)

    assert "is there twice" in refused([one, one])
    assert "replication=2 needs as many nodes, and there would be 1" in refused([one], replication=2)
    assert "there would be 0" in refused([])
    assert "is not a list of addresses" in refused(one)
    assert "5 is not the address of a node" in refused([5])
    assert "replication='2' is not a whole number" in refused([one], replication="2")
    assert "lost_after=0 is not a positive" in refused([one], lost_after=0)
    assert "no strategy 'modulo'; there is" in refused([one], replication=1, strategy="modulo")
    assert "don't fit" in refused([one], replication=1, strategy="range")
    assert "ranges= does nothing" in refused([one], replication=1, ranges={one: ""})
    assert "the weight -1.0 of" in refused({one: -1.0})
    nobody = f"{one}.nobody"
    error = failure(lambda: Cluster([nobody], replication=1, connect_timeout=0.3))
    assert isinstance(error, Unreachable)
    assert nobody in str(error)
    with Cluster([one], replication=1) as cluster:
        assert isinstance(failure(lambda: cluster.call("where", {"key": "a"}, route=1.5)), InvalidArguments)  # type: ignore[arg-type]
        assert isinstance(failure(lambda: cluster.call("where", {"key": "a"}, timeout=-1)), InvalidArguments)
    assert isinstance(failure(lambda: cluster.call("where", {"key": "a"})), Unreachable)


def test_the_command_line_shows_several(nodes: list[Node]) -> None:
    words = [word for address in addresses(nodes) for word in ("--address", address)]
    shown = run_cli("status", *words).stdout.splitlines()
    assert shown[0].split()[:3] == ["NODE", "STATE", "WORKERS"]
    assert len(shown) == 4
    nodes[2].kill()
    done = run_cli("status", *words)
    assert done.returncode == 4
    assert "unreachable" in done.stdout
    told = json.loads(run_cli("status", "--json", *words).stdout)
    assert sorted(told) == sorted(addresses(nodes))
    assert told[nodes[2].address]["error"]["code"] == "UNREACHABLE"


def test_a_node_that_stops_in_good_order_costs_nothing(nodes: list[Node]) -> None:
    """Not even those whose calls may not be repeated, and are on their way when it ends."""
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        stop = threading.Event()

        def work(first: int) -> int:
            number = first
            while not stop.is_set():
                assert cluster.call("briefly", {"n": number}, route=number) == number
                number += 8
            return number

        working = [Background(partial(work, number)) for number in range(8)]
        nodes[1].signal(signal.SIGTERM)
        nodes[1].wait()
        eventually(lambda: cluster.nodes()[nodes[1].address]["state"] == "down", "it is known to be gone")
        stop.set()
        assert all(one.result() >= 8 for one in working)


def test_what_a_tool_says_itself_is_no_refusal_of_its_node(nodes: list[Node], tmp_path: Path) -> None:
    """It has run, so it must not run at another node, nor again in a map."""
    spot = tmp_path / "spot"
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        assert failure(lambda: cluster.call("too_busy", {"path": str(spot)})).code == "BUSY"
        assert lines(spot) == ["ran"]
    with nodes[0].client() as client:
        errors = list(client.map("too_busy", [{"path": str(spot)}] * 4, errors="return"))
    assert [error.code for error in errors] == ["BUSY"] * 4
    assert len(lines(spot)) == 5


def test_no_job_kills_more_workers_at_several_nodes_than_at_one(nodes: list[Node], tmp_path: Path) -> None:
    """The fourth has killed one when its tool's circuit opens, and must not go on elsewhere. The fifth has killed
    nobody yet, so another node takes it."""
    ledger = tmp_path / "ledger"
    with Cluster(addresses(nodes), replication=3) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        calls = [partial(cluster.call, "die", {"path": str(ledger), "key": "same", "n": n}) for n in range(5)]
        errors = [failure(call) for call in calls]
        assert [error.code for error in errors] == [*["POISONED"] * 3, "CIRCUIT_OPEN", "POISONED"]
        assert errors[3].facts["deaths"] == 1
        of, runs = owners(nodes), [line.split() for line in lines(ledger)]
        assert Counter(n for n, _ in runs) == {"0": 3, "1": 3, "2": 3, "3": 1, "4": 3}
        homes = {n: of[int(pid)] for n, pid in runs}
        assert {homes[n] for n in "0123"} == {cluster.preference("same")[0]}
        assert homes["4"] == cluster.preference("same")[1]


def test_a_stream_whose_node_is_lost_may_not_be_gone_on_with(nodes: list[Node]) -> None:
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        stream = cluster.stream("endless", route="here")
        assert next(stream) == 1
        next(node for node in nodes if node.address == cluster.preference("here")[0]).kill()
        error = failure(lambda: list(stream))
        assert isinstance(error, OutcomeUnknown)
        assert error.facts["parts"] >= 1


def test_what_a_lost_node_had_moves_on_even_if_there_is_no_room_for_another_client(
    nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(address: str) -> Client:
        raise OSError(errno.EMFILE, "too many open files")

    def ran_twice(gate: Path) -> bool:
        return len(lines(gate)) == 2

    gates = [tmp_path / "one", tmp_path / "two"]
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        handles = [cluster.submit("gate", {"path": str(gate)}, route="same") for gate in gates]
        eventually(lambda: all(lines(gate) for gate in gates), "both run")
        monkeypatch.setattr(cluster._nodes, "_connect", short)
        next(node for node in nodes if node.address == cluster.preference("same")[0]).kill()
        for gate in gates:
            eventually(partial(ran_twice, gate), "another has it, though nobody waits for it")
            Path(f"{gate}.open").touch()
        assert [handle.result() for handle in handles] == [int(lines(gate)[1]) for gate in gates]


def test_a_stream_is_passed_on_until_it_has_begun(nodes: list[Node], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Cluster(addresses(nodes), replication=2) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        first, second = cluster.preference("same")
        streams = [cluster.stream("passage", route="same")]
        of = owners(nodes)
        assert of[next(streams[0])] == first
        streams.append(cluster.stream("passage", route="same"))  # it waits at the first
        streams.append(cluster.stream("passage", route="same"))
        assert of[next(streams[2])] == second, "the first has refused it"
        left = cluster.stream("passage", route="same")  # refused by the first, if that was heard of already
        left.close()
        assert isinstance(failure(lambda: next(left)), Cancelled), "it goes nowhere else"
        waits = cluster.submit("passage", route="same")
        eventually(lambda: not waits.done() and waits.node == second, "it waits at the second")
        assert isinstance(failure(lambda: next(cluster.stream("passage", route="same"))), Busy), "all have refused it"
        waits.cancel()
        for each in streams:
            each.close()
        victim, heir = (next(node for node in nodes if node.address == address) for address in (first, second))
        with victim.client() as client:
            last = client.submit("gate", {"path": str(gate)})
            eventually(lambda: lines(gate), "it runs")
            victim.signal(signal.SIGTERM)
            eventually(lambda: "node_draining" in victim.log, "it drains")
            with cluster.stream("endless", route="same") as stream:
                assert [next(stream), next(stream)] == [1, 1]
                assert cluster.nodes()[first]["state"] == "down", "its refusal was a lesson"
                heir.kill()
                assert isinstance(failure(lambda: list(stream)), OutcomeUnknown), "it has begun there"
            Path(f"{gate}.open").touch()
            assert last.result() > 0
        victim.wait()


def test_a_map_goes_over_all_nodes_in_chunks_and_in_any_order(nodes: list[Node], tmp_path: Path) -> None:
    calls = [{"n": n} for n in range(300)]
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        for chunk in (1, 7):
            assert list(cluster.map("briefly", calls, chunk=chunk)) == list(range(300))
            found = list(cluster.map("briefly", calls, chunk=chunk, ordered=False))
            assert sorted(found) == [(n, n) for n in range(300)]
        mixed: list[dict[str, object]] = [{"n": 1}, {"n": "x"}, {"n": object()}, {"n": 4}]
        told = cluster.map("briefly", mixed, chunk=4, errors="return")
        assert [getattr(each, "code", each) for each in told] == [1, "INVALID_ARGUMENTS", "INVALID_ARGUMENTS", 4]
        slow, other = tmp_path / "slow", tmp_path / "other"
        held, free = ({"path": str(path)} for path in (slow, other))
        Path(f"{other}.open").touch()
        results = cluster.map("gate", [held, *[free] * 3], ordered=False)
        assert sorted(next(results)[0] for _ in range(3)) == [1, 2, 3], "the slow one holds up nobody"
        Path(f"{slow}.open").touch()
        assert next(results)[0] == 0
        assert list(cluster.map("briefly", [])) == []
        assert failure(lambda: cluster.map("briefly", calls, chunk=0)).code == "INVALID_ARGUMENTS"


def test_a_map_sends_again_what_all_nodes_are_too_busy_for(nodes: list[Node], tmp_path: Path) -> None:
    spot = tmp_path / "narrow"
    Path(f"{spot}.open").touch()
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        assert len(list(cluster.map("narrow", [{"path": str(spot)}] * 40))) == 40
    assert len(lines(spot)) == 40


@pytest.mark.parametrize(("tool", "runs"), [("gate", 2), ("once", 1)])
def test_a_chunk_of_a_map_moves_on_as_a_whole_or_not_at_all(
    nodes: list[Node], tmp_path: Path, tool: str, runs: int
) -> None:
    """Of three calls the second holds the chunk up, so one has ended when its node is lost."""
    paths = [tmp_path / name for name in "abc"]
    Path(f"{paths[0]}.open").touch()
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        calls = [{"path": str(path)} for path in paths]
        results = Background(lambda: list(cluster.map(tool, calls, chunk=3, errors="return")))
        eventually(lambda: lines(paths[1]), "the second runs")
        of = owners(nodes)
        next(node for node in nodes if node.address == of[int(lines(paths[1])[0])]).kill()
        if runs > 1:
            eventually(lambda: len(lines(paths[1])) == runs, "another node has begun it anew")
        for path in paths[1:]:
            Path(f"{path}.open").touch()
        found = results.result()
        if tool == "gate":
            assert found == [int(lines(paths[1])[1])] * 3
        else:
            assert [error.code for error in found] == ["OUTCOME_UNKNOWN"] * 3
        assert [len(lines(path)) for path in paths] == [runs, runs, runs - 1]


def test_a_node_that_is_lost_while_it_is_removed_loses_nothing(nodes: list[Node], tmp_path: Path) -> None:
    spot = tmp_path / "gate"
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        handle = cluster.submit("gate", {"path": str(spot)})
        victim = next(node for node in nodes if node.address == handle.node)
        eventually(lambda: lines(spot), "it runs")
        cluster.remove(victim.address)
        victim.kill()
        eventually(lambda: len(lines(spot)) == 2, "another has taken it over")
        Path(f"{spot}.open").touch()
        assert handle.result() == int(lines(spot)[1])


def test_what_a_lost_node_tells_is_that_it_is_lost(nodes: list[Node]) -> None:
    victim = nodes[1]
    with Cluster(addresses(nodes)) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            while states(cluster) == ["up"] * 3:
                told = cluster.status()
                assert "state" in told[nodes[0].address]
                assert told[victim.address]["error"]["code"] == "UNREACHABLE"
                said = told[victim.address]["error"]["message"]
                assert said.startswith(("no node answers at", f"the node {victim.address} gives no sign of life")), said
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        eventually(lambda: states(cluster) == ["up"] * 3, "it is back")


def test_a_cluster_that_is_closed_says_so(nodes: list[Node]) -> None:
    cluster = Cluster(addresses(nodes))
    eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
    cluster.close()
    cluster.close()
    assert states(cluster) == ["down"] * 3
    for use in (
        lambda: cluster.call("where", {"key": "a"}),
        lambda: cluster.add("ipc:///nobody.sock"),
        lambda: list(cluster.map("briefly", [{"n": 1}])),
    ):
        error = failure(use)
        assert isinstance(error, Unreachable)
        assert str(error) == "the cluster was closed"
    assert {told["error"]["message"] for told in cluster.status().values()} == {"the cluster was closed"}


FORKING = """
import asyncio, os, sys
from toolring import AsyncCluster, Cluster
from toolring.errors import Unreachable

def in_a_child(use):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        use()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

with Cluster(sys.argv[1:]) as cluster:
    def use():
        try:
            cluster.call("where", {"key": "a"})
        except Unreachable as error:
            print(error)
        print({one["state"] for one in cluster.nodes().values()})
        print({told["error"]["message"] for told in cluster.status().values()})
        cluster.close()
    in_a_child(use)
    print(cluster.call("where", {"key": "a"}) > 0)

async def main():
    async with AsyncCluster(sys.argv[1:]) as cluster:
        def use():
            try:
                cluster.call("where", {"key": "a"}).send(None)
            except Unreachable as error:
                print(error)
        in_a_child(use)
        print(await cluster.call("where", {"key": "a"}) > 0)

asyncio.run(main())
"""


def test_a_forked_child_is_told_that_it_needs_a_cluster_of_its_own(nodes: list[Node]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, *addresses(nodes)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "this cluster was made before a fork; make one in each process",
        "{'down'}",
        "{'this client was made before a fork; make one in each process'}",
        "True",
        "this cluster was made before a fork; make one in each process",
        "True",
    ]


def test_when_all_are_gone_a_caller_hears_of_it_and_when_they_are_back_it_goes_on(nodes: list[Node]) -> None:
    with Cluster(addresses(nodes), lost_after=0.5) as cluster:
        eventually(lambda: states(cluster) == ["up"] * 3, "all have answered")
        for node in nodes:
            node.kill()
        error = failure(lambda: cluster.call("where", {"key": "a"}, timeout=2))
        assert isinstance(error, Unreachable | Expired)
        for node in nodes:
            node.start()
        for node in nodes:
            node.until_ready()
        eventually(lambda: states(cluster) == ["up"] * 3, "all are back")
        assert cluster.call("where", {"key": "a"}) > 0

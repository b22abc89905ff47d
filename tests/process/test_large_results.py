"""Large results that a real node stores: what callers get, who may read it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Node, eventually, failure
from tests.process.large_tools import OVER, of
from toolring import AsyncClient, AsyncCluster, AsyncStoredResult, Client, Cluster, StoredResult
from toolring.errors import InvalidArguments, ResultGone, TooLarge, Unreachable
from toolring.stored import READ

TOOLS = kit.HERE / "large_tools.py"
SIZE = 3 * READ + 17


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running(TOOLS) as node:
        yield node


@pytest.fixture
def client(shared: Node) -> Iterator[Client]:
    with shared.client() as one:
        yield one


def files(node: Node) -> list[Path]:
    """What is stored by a node."""
    return [path for path in node.directory.glob("run/toolring/results/*/*") if not path.name.startswith(".")]


# ---- what callers get


@pytest.mark.parametrize(
    ("tool", "arguments", "media"),
    [
        ("text", {"size": SIZE}, "text/plain; charset=utf-8"),
        ("awaited", {"size": SIZE}, "text/plain; charset=utf-8"),
        ("data", {"size": SIZE}, "application/octet-stream"),
        ("table", {"rows": 20_000}, "application/msgpack"),
        ("parts", {"size": 5000, "count": 100}, "application/msgpack"),
        ("async_parts", {"size": 5000, "count": 100}, "application/msgpack"),
    ],
)
def test_a_large_result_is_told_and_read_as_it_is(
    client: Client, tmp_path: Path, tool: str, arguments: dict[str, Any], media: str
) -> None:
    result = client.call(tool, arguments)
    assert isinstance(result, StoredResult)
    assert result.media == media
    whole = result.read()
    assert len(whole) == result.size > OVER
    middle = result.size // 2
    assert result.read(middle, 70_000) == whole[middle : middle + 70_000]
    assert b"".join(result) == whole
    assert result.save(tmp_path / "file") == result.size
    assert (tmp_path / "file").read_bytes() == whole
    value = result.value()
    if tool == "data":
        assert value == whole
    if tool in ("text", "awaited"):
        assert value == of(SIZE)
    if tool in ("parts", "async_parts"):
        assert value == [of(5000)] * 100
    if tool == "table":
        assert value[19_999] == {"id": 19_999, "name": "row 19999"}
        assert str(result.preview).startswith('[{"id": 0, "name": "row 0"}, ')


def test_a_small_one_comes_as_ever_and_so_do_those_of_tools_that_store_nothing(client: Client) -> None:
    assert client.call("text", {"size": OVER - 3}) == of(OVER - 3)
    assert client.call("whole", {"size": SIZE}) == of(SIZE)


def test_each_of_many_is_stored_by_itself(client: Client) -> None:
    sizes = [5, OVER + 1, 7, 2 * OVER]
    for chunk in (1, 2):
        for name in ("text", "together", "awaited"):
            argument = "sizes" if name == "together" else "size"
            found = list(client.map(name, [{argument: size} for size in sizes], chunk=chunk))
            assert [isinstance(one, StoredResult) for one in found] == [False, True, False, True], name
            assert [one.value() if isinstance(one, StoredResult) else one for one in found] == [of(s) for s in sizes]


def test_parts_of_a_stream_are_not_stored(client: Client) -> None:
    assert list(client.stream("parts", {"size": SIZE, "count": 2})) == [of(SIZE)] * 2
    assert list(client.stream("async_parts", {"size": SIZE, "count": 2})) == [of(SIZE)] * 2


def test_kept_and_keyed_results_are_the_same_stored_one(client: Client) -> None:
    handle = client.submit("text", {"size": SIZE, "seed": "kept"}, key="once")
    first = handle.result()
    again = client.call("text", {"size": SIZE, "seed": "kept"}, key="once")
    assert first.handle == again.handle
    assert client.job(handle.id)["value"].handle == first.handle
    assert again.value() == of(SIZE, "kept")


def test_equal_results_are_one_file(client: Client, shared: Node) -> None:
    before = len(files(shared))
    results = [client.call("text", {"size": SIZE, "seed": "equal"}) for _ in range(5)]
    assert len({one.handle for one in results}) == 1
    assert len(files(shared)) == before + 1
    found = client.status()["results"]
    assert found["bytes"] == sum(path.stat().st_size for path in files(shared))


def test_async_clients_and_clusters_read_too(shared: Node) -> None:
    async def main() -> None:
        async with AsyncClient(shared.address) as client:
            result = await client.call("text", {"size": SIZE})
            assert isinstance(result, AsyncStoredResult)
            assert await result.value() == of(SIZE)
            assert await result.read(READ, 5) == of(SIZE).encode()[READ : READ + 5]
            again = await client.open_result(result.handle)
            assert [len(piece) async for piece in again] == [READ, READ, READ, 17]
            handle = await client.submit("text", {"size": SIZE})
            await handle
            assert (await client.job(handle.id))["value"].handle == result.handle
        async with AsyncCluster([shared.address]) as cluster:
            assert await (await cluster.open_result(result.handle)).value() == of(SIZE)
            assert await (await cluster.call("text", {"size": SIZE})).value() == of(SIZE)

    asyncio.run(main())


def test_a_cluster_finds_the_node_that_has_it(shared: Node) -> None:
    with kit.running(TOOLS, workers=1) as other, Cluster([shared.address, other.address]) as cluster:
        stored = []
        for node in (shared, other):
            with node.client() as client:
                stored.append(client.call("text", {"size": SIZE, "seed": node.address}).handle)
        for node, handle in zip((shared, other), stored, strict=True):
            assert cluster.open_result(handle).value() == of(SIZE, node.address)
        assert isinstance(failure(lambda: cluster.open_result(f"00000000{stored[0][8:]}")), ResultGone)
        assert cluster.call("text", {"size": SIZE}).value() == of(SIZE)
        other.kill()
        assert isinstance(failure(lambda: cluster.open_result(f"00000000{stored[0][8:]}")), ResultGone | Unreachable)
        assert cluster.open_result(stored[0]).value() == of(SIZE, shared.address)


# ---- who may read


def test_a_handle_is_all_that_another_caller_needs_and_he_can_not_make_one(shared: Node, client: Client) -> None:
    result = client.call("text", {"size": SIZE, "seed": "mine"})
    with shared.client(caller="somebody else") as other:
        assert other.open_result(result.handle).value() == of(SIZE, "mine")
        life, name = result.handle.split("-")
        guess = f"{life}-{'0' * 40}{name[-1]}"
        assert isinstance(failure(lambda: other.open_result(guess)), ResultGone)
        for wrong in ("", "x", f"{life}-../../x", name):
            with pytest.raises(InvalidArguments):
                other.open_result(wrong)
    with kit.running(TOOLS, workers=1) as elsewhere, elsewhere.client() as there:
        same = there.call("text", {"size": SIZE, "seed": "mine"})
        assert same.handle.split("-")[1] != name, "the digest is no digest of the result alone"
        assert isinstance(failure(lambda: there.open_result(result.handle)), ResultGone)


def test_nobody_else_on_the_machine_can_look_there(shared: Node, client: Client) -> None:
    client.call("text", {"size": SIZE})
    directory = files(shared)[0].parent
    assert {path.stat().st_mode & 0o077 for path in (directory, directory.parent, *files(shared))} == {0}


# ---- the cache


def test_a_cached_one_is_given_again_while_it_is_there(client: Client, shared: Node, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    arguments = {"size": SIZE, "ran": str(ran)}
    first = client.call("cached", arguments)
    handle = client.submit("cached", arguments)
    assert handle.result().handle == first.handle
    assert handle.cached
    assert kit.lines(ran) == ["ran"]
    next(path for path in files(shared) if path.name == first.handle.split("-")[1]).unlink()
    assert isinstance(failure(first.read), ResultGone)
    again = client.call("cached", arguments)
    assert again.value() == of(SIZE)
    assert kit.lines(ran) == ["ran"] * 2


def test_another_life_of_a_node_knows_nothing_of_the_last(tmp_path: Path) -> None:
    """Its cache on disk does."""
    arguments = {"size": SIZE, "ran": str(tmp_path / "ran")}
    with kit.running(TOOLS, workers=1) as node:
        with node.client() as client:
            first = client.call("cached", arguments)
        node.kill()
        assert len(files(node)) == 1, "what was killed leaves it"
        node.start()
        node.until_ready()
        assert files(node) == [], "and the next removes it"
        with node.client() as client:
            assert isinstance(failure(lambda: client.open_result(first.handle)), ResultGone)
            again = client.call("cached", arguments)
            assert again.value() == of(SIZE)
            assert again.handle != first.handle
        assert kit.lines(tmp_path / "ran") == ["ran"] * 2
        node.signal(15)
        node.wait()
        assert list(node.directory.glob("run/toolring/results/*")) == []


# ---- their end


def test_after_its_time_it_is_gone_and_its_file_too() -> None:
    with (
        kit.running(TOOLS, workers=1, TOOLRING_RESULTS_KEEP="0.3", TOOLRING_LIMITS_KEEP_SECONDS="0.2") as node,
        node.client() as client,
    ):
        result = client.call("text", {"size": SIZE})
        error = eventually(lambda: _error(result), "it is gone")
        assert isinstance(error, ResultGone)
        assert error.facts["keep"] == 0.3
        eventually(lambda: not files(node), "its file is removed, although nobody asks")
        assert client.status()["results"]["bytes"] == 0


def _error(result: StoredResult) -> Exception | None:
    try:
        result.read(0, 1)
    except ResultGone as error:
        return error
    return None


def test_the_oldest_leave_for_new_ones_and_all_that_is_stored_is_bounded() -> None:
    most = 10 * SIZE
    with kit.running(TOOLS, TOOLRING_RESULTS_MAX_BYTES=str(most)) as node, node.client() as client:
        results = []
        for number in range(30):
            results.append(client.call("text", {"size": SIZE, "seed": f"{number} "}))
            assert sum(path.stat().st_size for path in files(node)) <= most
        assert isinstance(failure(results[0].read), ResultGone)
        assert results[-1].value() == of(SIZE, "29 ")
        large = client.call("text", {"size": most + 1})
        assert large == of(most + 1), "one that has no room is sent as it is"
        eventually(lambda: '"event": "results_not_stored"' in node.log)


def test_a_full_disk_loses_no_result() -> None:
    with (
        kit.running(TOOLS, workers=1, TOOLRING_LIMITS_MAX_BODY=str(2 * SIZE)) as node,
        node.client() as client,
    ):
        assert client.call("on_a_full_disk", {"size": SIZE, "files": OVER}) == of(SIZE)
        error = failure(lambda: client.call("on_a_full_disk", {"size": 3 * SIZE, "files": OVER}))
        assert isinstance(error, TooLarge)
        assert files(node) == []
        eventually(lambda: "results_not_stored" in node.log, "it is told")
        assert node.log.count("results_not_stored") == 1
        old = {one["pid"] for one in client.recycle()}
        eventually(lambda: not old & {one["pid"] for one in client.status()["workers"]}, "others serve")
        more = client.call("text", {"size": 3 * SIZE})
        assert more.value() == of(3 * SIZE), "what is stored is not bound by max_body"


def test_without_a_directory_results_are_sent() -> None:
    with kit.running(TOOLS, workers=1) as node, node.client() as client:
        assert isinstance(client.call("text", {"size": SIZE}), StoredResult)
        shutil.rmtree(files(node)[0].parent)
        assert client.call("text", {"size": SIZE}) == of(SIZE)


def test_where_they_can_not_be_stored_a_node_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = kit.run_cli(
        *("serve", str(TOOLS), "--bind", f"ipc://{tmp_path}/node.sock"),
        TOOLRING_RESULTS_DIRECTORY=str(tmp_path / "file"),
    )
    assert done.returncode == 3
    assert "CONFIG: results can't be stored in" in done.stderr


def test_it_outlives_its_worker_and_a_reload(tmp_path: Path) -> None:
    with kit.running(TOOLS, workers=1) as node, node.client() as client:
        result = client.call("text", {"size": SIZE})
        for pid in node.workers():
            kit.kill_one(pid)
        assert result.value() == of(SIZE)
        node.until_whole(2)
        assert client.call("text", {"size": SIZE}).handle == result.handle, "its successor makes the same handle"
        number = client.reload()
        eventually(lambda: client.reloads(number)["outcome"], "the reload")
        assert result.value() == of(SIZE)
        assert client.call("text", {"size": SIZE}).handle == result.handle


def test_a_worker_that_is_killed_meanwhile_leaves_nothing_half(tmp_path: Path) -> None:
    """It dies between two results; what it has stored is whole, and a part that somebody like it left is removed."""
    with (
        kit.running(TOOLS, workers=1, TOOLRING_RESULTS_KEEP="2", TOOLRING_LIMITS_KEEP_SECONDS="2") as node,
        node.client() as client,
    ):
        result = client.call("text", {"size": SIZE})
        directory = files(node)[0].parent
        error = failure(lambda: client.call("dies", {"size": SIZE, "once": str(tmp_path / "once")}))
        assert error.code == "OUTCOME_UNKNOWN"
        (directory / f".{error.facts['worker']}-9.part").write_bytes(b"half")
        assert result.value() == of(SIZE)
        assert client.call("dies", {"size": SIZE, "once": str(tmp_path / "once")}).value() == of(SIZE)
        eventually(lambda: not list(directory.glob(".*.part")), "the part is removed")


# ---- for all tools, and by hand


def test_a_node_may_store_those_of_all_tools_but_of_who_does_not_want_it() -> None:
    with (
        kit.running(TOOLS, workers=1, TOOLRING_RESULTS_STORE_OVER="1000", TOOLRING_RESULTS_PREVIEW="7") as node,
        node.client() as client,
    ):
        result = client.call("whole", {"size": SIZE})
        assert isinstance(result, StoredResult)
        assert result.preview == of(SIZE)[:7]
        assert client.call("never", {"size": SIZE}) == of(SIZE)
        assert client.call("text", {"size": OVER - 3}) == of(OVER - 3), "its own word counts"
        assert client.policy("whole")["store_over"] == {
            "value": 1000,
            "source": "results.store_over, environment TOOLRING_RESULTS_STORE_OVER",
        }
        assert client.policy("text")["store_over"] == {"value": OVER, "source": "the tool"}


def test_the_command_line_shows_how_it_begins_and_reads_on(shared: Node, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = kit.run_cli(*words, address=shared.address)
        assert done.returncode == 0, done.stderr
        return done.stdout

    done = kit.run_cli("call", "text", f"size={SIZE}", address=shared.address)
    assert done.stdout == of(SIZE)[:1000] + "\n"
    handle, option, offset = done.stderr.split("toolring result ")[1].split()
    assert (option, offset) == ("--offset", "1000")
    assert run("result", handle) == of(SIZE) + "\n"
    assert run("result", handle, "--offset", "1000", "--length", "50") == of(SIZE)[1000:1050]
    assert run("result", handle, "--output", str(tmp_path / "out")).startswith(f"{SIZE} bytes of text/plain")
    assert (tmp_path / "out").read_text() == of(SIZE)
    told = json.loads(run("call", "table", "rows=5000", "--json"))["result"]
    assert told["preview"].startswith('[{"id": 0, ')
    assert json.loads(run("result", told["stored"], "--json"))["result"][4999]["id"] == 4999
    part = json.loads(run("result", handle, "--offset", "5", "--length", "5", "--json"))
    assert (part["offset"], part["data"], part["size"]) == (5, of(SIZE)[5:10], SIZE)
    saved = json.loads(run("result", handle, "--output", str(tmp_path / "part"), "--length", "9", "--json"))
    assert saved["bytes"] == 9
    gone = kit.run_cli("result", f"00000000{handle[8:]}", address=shared.address)
    assert gone.returncode == 2
    assert "RESULT_GONE" in gone.stderr


def test_reading_stands_in_no_jobs_way(shared: Node) -> None:
    """One reads without a pause; jobs of another are answered meanwhile, and what is read is right."""
    with shared.client() as reader, shared.client() as caller:
        result = reader.call("text", {"size": 200 * READ})
        reading = kit.Background(result.read)
        answered = 0
        while reading.is_alive() or not answered:
            assert caller.call("text", {"size": 10}) == of(10)
            answered += 1
        assert reading.result() == of(200 * READ).encode()


def test_the_loop_is_the_callers(shared: Node) -> None:
    """Many read at once over one connection of an event loop."""

    async def main() -> list[bytes]:
        async with AsyncClient(shared.address) as client:
            result = await client.call("text", {"size": SIZE})
            return list(await asyncio.gather(*[result.read(n, 100) for n in range(50)]))

    assert asyncio.run(main()) == [of(SIZE).encode()[n : n + 100] for n in range(50)]

"""Resources that tools ask for: had for the length of a run, given back however it ends, closed with the worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.kit import Background, Node, eventually, failure, lines, place, run_cli, running
from toolring.errors import Expired, PoolTimeout, ToolError

TOOLS = """
import asyncio, itertools, os, sqlite3, time
from pathlib import Path
from typing import Annotated

from toolring import Context, resource, tool
from toolring.resources import sqlite

HERE = Path(__file__).parent
NUMBERS = itertools.count(1)

def note(what):
    with open(HERE / "notes", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

@resource(max=2)
def thing():
    number = next(NUMBERS)
    note(f"made-{number}")
    try:
        yield number
    finally:
        note(f"ended-{number}")

@resource(max=1, acquire_timeout=0.2)
def broken():
    raise ConnectionRefusedError("nobody is there")
    yield

@resource(max=2)
async def wire():
    number = next(NUMBERS)
    note(f"made-{number}")
    try:
        yield number
    finally:
        note(f"ended-{number}")

@resource(min=2, max=4)
def ready():
    note("ready")
    yield "ready"

db = sqlite(str(HERE / "some.db"))

@tool
def use(thing: int) -> int:
    return thing

@tool
def use_and(what: str, thing: int) -> int:
    if what == "raise":
        raise ValueError("as told")
    if what == "exit":
        raise SystemExit(3)
    while what == "hang":
        time.sleep(0.01)
    if what == "die":
        os._exit(9)
    return thing

@tool
def parts(n: int, thing: int, context: Context):
    for i in range(n):
        yield [i, thing]
    return "all"

@tool(batch=8)
def many(calls: list[int], number: Annotated[int, thing]) -> list[int]:
    return [number] * len(calls)

@tool
def asks_nobody(broken: object) -> int:
    return 1

@tool(read_only=True, group="pooled")
def is_ready(ready: str) -> str:
    return ready

@tool
async def use_async(wire: int, seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return wire

@tool
async def parts_async(n: int, wire: int):
    for i in range(n):
        yield [i, wire]
        await asyncio.sleep(0.001)

@tool
def put(name: str, db: sqlite3.Connection, commit: bool = True) -> int:
    db.execute("CREATE TABLE IF NOT EXISTS names (name TEXT)")
    db.execute("INSERT INTO names VALUES (?)", [name])
    if commit:
        db.commit()
    return 1

@tool(read_only=True)
def names(db: sqlite3.Connection) -> list:
    return [row[0] for row in db.execute("SELECT name FROM names ORDER BY name")]
"""


@contextmanager
def serving(workers: int = 1, settings: str = "") -> Iterator[tuple[Node, Path]]:
    with place() as directory:
        (directory / "things.py").write_text(TOOLS)
        (directory / "toolring.toml").write_text(settings)
        with running(directory / "things.py", workers=workers, directory=directory) as node:
            yield node, directory / "notes"


def what(notes: Path) -> list[str]:
    return [line.split()[0] for line in lines(notes)]


def test_a_run_has_one_and_the_next_has_it_again() -> None:
    with serving() as (node, notes), node.client() as client:
        assert [client.call("use") for _ in range(5)] == [1] * 5
        assert client.call("use_and", {"what": "nothing"}) == 1
        assert client.call("many", {"calls": 5}) == 1
        assert what(notes).count("made-1") == 1
        spec = next(tool for tool in client.tools() if tool.name == "use_and")
        assert set(spec.parameters["properties"]) == {"what"}, "callers don't see it"


def test_streams_have_one_to_their_end() -> None:
    with serving() as (node, _), node.client() as client:
        stream = client.stream("parts", {"n": 3})
        assert list(stream) == [[0, 1], [1, 1], [2, 1]]
        assert stream.value == "all"
        assert client.call("parts", {"n": 2}) == [[0, 1], [1, 1]]
        assert list(client.stream("parts_async", {"n": 2})) == [[0, 1], [1, 1]]


def test_after_an_error_it_is_used_on_and_after_an_interrupt_it_is_not() -> None:
    with serving() as (node, notes), node.client() as client:
        for kind in ("raise", "exit"):
            assert isinstance(failure(lambda kind=kind: client.call("use_and", {"what": kind})), ToolError)  # type: ignore[misc]
        assert client.call("use") in (1, 2), "one that was left by SystemExit is not trusted"
        before = what(notes)
        assert isinstance(failure(lambda: client.call("use_and", {"what": "hang"}, timeout=0.3)), Expired)
        eventually(lambda: len(what(notes)) > len(before), "it was torn down")
        assert what(notes)[-1].startswith("ended-")
        assert client.call("use") == 1, "of the next worker"


def test_a_worker_that_leaves_closes_what_it_has() -> None:
    with serving(2) as (node, notes), node.client() as client:
        for _ in range(20):
            client.call("use")
            client.call("use_async")
        client.recycle()
        eventually(lambda: node.status()["renewed"] == 6, "all are replaced")
        made = Counter(line.split()[1] for line in lines(notes) if line.startswith("made"))
        ended = eventually(lambda: Counter(line.split()[1] for line in lines(notes) if line.startswith("ended")))
        eventually(
            lambda: Counter(line.split()[1] for line in lines(notes) if line.startswith("ended")) == made, str(ended)
        )


def test_async_runs_share_what_there_is() -> None:
    with serving() as (node, notes), node.client() as client:
        found = list(client.map("use_async", [{"seconds": 0.02}] * 20, window=20))
        assert set(found) == {1, 2}
        shown = eventually(lambda: node.status()["resources"].get("wire"))
        assert shown["total"] <= 2
        assert len([one for one in what(notes) if one.startswith("made")]) == 2
        assert "wire" in run_cli("status", address=node.address).stdout


def test_one_that_cannot_be_made_is_said_why() -> None:
    with serving() as (node, _), node.client() as client:
        error = failure(lambda: client.call("asks_nobody"))
        assert isinstance(error, PoolTimeout)
        assert "ConnectionRefusedError: nobody is there" in str(error)
        assert error.facts["tool"] == "asks_nobody"
        assert error.retryable
        error = failure(lambda: client.call("asks_nobody", timeout=0.05))
        assert isinstance(error, Expired | PoolTimeout), "never past the deadline"


def test_the_least_are_there_before_anybody_asks() -> None:
    with serving(1, "[resources.ready]\nmin = 3") as (node, notes):
        eventually(lambda: what(notes).count("ready") == 3)
        with node.client() as client:
            assert client.call("is_ready") == "ready"


def test_what_a_call_left_uncommitted_is_undone() -> None:
    with serving(2) as (node, _), node.client() as client:
        client.call("put", {"name": "Ada"})
        client.call("put", {"name": "Bob", "commit": False})
        assert client.call("names") == ["Ada"]


def counts(node: Node, name: str) -> dict[str, float]:
    return dict(node.status()["resources"].get(name, {}))


def test_one_that_is_held_too_long_is_told_of() -> None:
    with serving(1, "[resources.wire]\nleak_after = 0.1") as (node, _), node.client() as client:
        call = client.submit("use_async", {"seconds": 60.0})
        eventually(lambda: '"resource_leak"' in node.log, "a line in the log")
        eventually(lambda: '"tools": ["parts_async", "use_async"]' in node.log)
        call.cancel()
        eventually(lambda: counts(node, "wire").get("leaks") == 1)
        assert "LEAKS" in run_cli("status", address=node.address).stdout


def test_what_was_counted_stays_counted_when_a_worker_is_replaced() -> None:
    with serving(1) as (node, _), node.client() as client:
        for _ in range(3):
            client.call("use")
        eventually(lambda: counts(node, "thing").get("uses") == 3, "it has told")
        assert run_cli("recycle", "--wait", address=node.address).returncode == 0
        client.call("use")
        eventually(lambda: counts(node, "thing").get("uses") == 4, "both are counted")
        found = counts(node, "thing")
        assert (found["created"], found["total"]) == (2, 1)


def test_a_worker_that_is_killed_takes_nobody_else_along() -> None:
    with serving() as (node, _), node.client() as client:
        failure(lambda: client.call("use_and", {"what": "die"}))
        assert client.call("use") == 1
        call = Background(lambda: client.call("use_async", {"seconds": 0.05}))
        assert call.result() == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[resources.nosuch]\nmax = 3", "no tool asks for a resource 'nosuch'; there is"),
        ("[resources.thing]\nmax = 0", "max=0"),
        ("[resources.thing]\nmin = 5", "min=5 is more than max=2"),
        ("[resources.thing]\nmany = 3", "did you mean"),
        ('[resources.thing]\nmax = "3"', "resources.thing.max"),
    ],
)
def test_what_the_configuration_says_wrong(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "things.py").write_text(TOOLS)
    (tmp_path / "c.toml").write_text(settings)
    told = run_cli(
        "serve", str(tmp_path / "things.py"), "--config", str(tmp_path / "c.toml"), "--bind", f"ipc://{tmp_path}/n"
    )
    assert told.returncode == 3
    assert said in told.stderr or (said == "did you mean" and "there is" in told.stderr)
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("@resource\nasync def a(): yield 1\n@tool\ndef t(a: int): ...", "a plain function takes a plain one"),
        ("@resource\ndef a(): yield 1\n@tool\nasync def t(a: int): ...", "an async function takes an async resource"),
        (
            "from typing import Annotated\n@resource\ndef a(): yield 1\nb = resource(name='a')(lambda: 1)\n"
            "@tool\ndef t(a: int, x: Annotated[int, b]): ...",
            "two resources are called 'a'",
        ),
    ],
)
def test_declarations_that_make_no_sense(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "wrong.py").write_text(f"from toolring import resource, tool\n{code}\n")
    told = run_cli("serve", str(tmp_path / "wrong.py"), "--bind", f"ipc://{tmp_path}/n")
    assert told.returncode == 3
    assert said in told.stderr


BUFFERED = """
from toolring import Context, tool

@tool
def fill(size: int, context: Context) -> list:
    with context.buffer(size) as view:
        clean = not any(view[:64])
        view[:5] = b"hello"
        found = [len(view), clean]
    try:
        view[0]
    except ValueError:
        return [*found, "gone"]

@tool
async def fill_async(size: int, context: Context) -> int:
    with context.buffer(size) as view:
        return len(view)
"""


def test_a_tool_may_borrow_memory(tmp_path: Path) -> None:
    (tmp_path / "buffered.py").write_text(BUFFERED)
    with running(tmp_path / "buffered.py", workers=1) as node, node.client() as client:
        for _ in range(3):
            assert client.call("fill", {"size": 2_000_000}) == [2_000_000, True, "gone"]
        assert client.call("fill_async", {"size": 5}) == 5
        assert isinstance(failure(lambda: client.call("fill", {"size": -1})), ToolError)


ORDERED = """
import asyncio
from functools import wraps
from toolring import resource, tool
from toolring.resources import http

@resource(max=1)
async def one():
    yield 1

@resource(max=1)
async def two():
    yield 2

@tool
async def forwards(one: int, two: int) -> int:
    await asyncio.sleep(0.01)
    return one + two

@tool
async def backwards(two: int, one: int) -> int:
    await asyncio.sleep(0.01)
    return one + two

def decorated(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)
    return call

@resource
def plain():
    yield "plain"

@tool
@decorated
def wrapped(plain: str) -> str:
    return plain

web = http()

@tool
def remember(name: str, web: object) -> list:
    found = list(web.cookies)
    web.cookies.set("whose", name)
    return found
"""


def test_two_that_want_the_same_two_do_not_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "ordered.py").write_text(ORDERED)
    with running(tmp_path / "ordered.py", workers=1) as node, node.client() as client:
        calls = [client.submit(tool) for _ in range(20) for tool in ("forwards", "backwards")]
        assert [call.result(20) for call in calls] == [3] * 40
        assert client.call("wrapped") == "plain", "the module that counts is the tool's own"
        assert client.call("remember", {"name": "Ada"}) == []
        assert client.call("remember", {"name": "Bob"}) == [], "cookies are the caller's whose call it was"


def test_a_tool_that_wants_more_than_there_are_is_refused(tmp_path: Path) -> None:
    code = (
        "from typing import Annotated\nfrom toolring import resource, tool\n@resource(max=1)\ndef a(): yield 1\n"
        "@tool\ndef t(x: Annotated[int, a], y: Annotated[int, a]): ...\n"
    )
    (tmp_path / "greedy.py").write_text(code)
    told = run_cli("serve", str(tmp_path / "greedy.py"), "--bind", f"ipc://{tmp_path}/n")
    assert told.returncode == 3
    assert "asks for 2 of 'a' at once; max=1" in told.stderr

"""The live screen of `toolring top`, driven by keys, over frames that are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from tests.unit.cli.told import minute, status, tool, worker
from toolring.cli.frame import Camera, Told
from toolring.cli.screen import Help, Screen, Sure
from toolring.errors import InvalidArguments, Unreachable

LONG = 3600.0
"""Nothing is asked but what a key or a test has asked."""


class Made:
    """A node that is made up. It does nothing and remembers what was wanted."""

    def __init__(self, address: str = "ipc:///here") -> None:
        self.address = address
        self.camera = Camera(address)
        self.wanted: list[Any] = []
        self.tools = {"slow": tool(10), "quick": tool(100, TOOL_ERROR=2), "idle": tool()}
        self.workers = [worker(number) for number in range(3)]
        self.away = False
        self.asked = 0
        self.closed = False
        self.queue_asked = 0

    async def frame(self, queue: bool = True) -> dict[str, Any]:
        self.asked += 1
        self.queue_asked += queue
        if self.away:
            raise Unreachable("no node answers")
        told = status(self.tools, self.workers)
        waiting = {"waits_for": "worker", "tool": "slow", "caller": "", "count": 3, "oldest": 0.5, "work": 1.0}
        return self.camera.frame(Told(float(self.asked), told, minute(), {"waiting": [waiting] if queue else []}))

    async def recycle(self, worker: int) -> str:
        if worker == 102:
            raise InvalidArguments("no worker 102 is ready")
        self.wanted.append(worker)
        return f"{worker} is replaced"

    async def drain(self) -> str:
        self.wanted.append("drain")
        return "it drains"

    async def close(self) -> None:
        self.closed = True


Act = Callable[[Screen, "Pilot[int]"], Awaitable[None]]


def drive(act: Act, *nodes: Made, size: tuple[int, int] = (80, 24)) -> Screen:
    """Start the screen, do something with it, and end it as a user does."""

    async def main() -> Screen:
        screen = Screen(nodes, LONG)
        async with screen.run_test(size=size) as pilot:
            await settled(screen, pilot)
            await act(screen, pilot)
            while len(screen.screen_stack) > 1:
                await pilot.press("escape")
            await pilot.press("q")
        return screen

    return asyncio.run(main())


async def settled(screen: Screen, pilot: Pilot[int]) -> None:
    """Whatever was asked is answered and drawn."""
    await screen.workers.wait_for_complete()
    await pilot.pause()


async def press(screen: Screen, pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await settled(screen, pilot)


def table(screen: Screen) -> DataTable:
    return screen.screen_stack[0].query_one(DataTable)


def column(screen: Screen, place: int = 0) -> list[str]:
    return [str(table(screen).get_row_at(row)[place]) for row in range(table(screen).row_count)]


def text(screen: Screen, name: str) -> str:
    return str(screen.screen_stack[0].query_one(f"#{name}", Static).render())


def notes(screen: Screen) -> list[str]:
    return [one.message for one in screen._notifications]


@pytest.fixture
def node() -> Made:
    return Made()


def test_it_begins_with_the_workers_and_ends_by_q(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        assert column(screen) == ["0", "1", "2"]
        assert "workers 3/3 ready" in text(screen, "head")
        assert "by #" in text(screen, "tabs")
        assert node.queue_asked == 0

    assert drive(act, node).return_code == 0
    assert node.closed


def test_the_views_and_what_they_ask(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "2")
        assert column(screen) == ["slow", "quick", "idle"]
        await press(screen, pilot, "3")
        assert column(screen, 1) == ["slow"]
        assert node.queue_asked == 1
        await press(screen, pilot, "4")
        assert table(screen).row_count == 0
        assert text(screen, "note") == "no tool is cached"
        await press(screen, pilot, "tab")
        assert column(screen) == ["0", "1", "2"]

    drive(act, node)


def test_tools_are_sorted_by_any_column_either_way(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        node.tools |= {"quick": tool(190, TOOL_ERROR=2), "slow": tool(12)}
        await press(screen, pilot, "2")
        assert column(screen) == ["quick", "slow", "idle"]
        await press(screen, pilot, "r")
        assert column(screen) == ["idle", "slow", "quick"]
        await press(screen, pilot, "S")
        assert column(screen) == ["idle", "quick", "slow"]
        assert "by TOOL" in text(screen, "tabs")
        await press(screen, pilot, "s")
        assert "by /S" in text(screen, "tabs")
        heads = [str(one.label) for one in table(screen).ordered_columns]
        assert heads[:2] == ["TOOL", "/S▼"]

    drive(act, node)


def test_what_names_a_row_stays_where_it_is_and_has_room(node: Made) -> None:
    name = "x" * 60
    node.tools[name] = tool(1)

    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "2")
        assert table(screen).fixed_columns == 1
        assert sorted(column(screen))[-1] == f"{20 * 'x'}…{19 * 'x'}"
        await press(screen, pilot, "4")
        assert table(screen).fixed_columns == 2
        await press(screen, pilot, "2")
        await pilot.resize_terminal(160, 30)
        await settled(screen, pilot)
        assert sorted(column(screen))[-1] == name

    drive(act, node)


def test_a_click_on_a_head_sorts_by_it(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "2")
        await pilot.click(DataTable, offset=(3, 0))
        assert "by TOOL" in text(screen, "tabs")
        assert column(screen) == ["idle", "quick", "slow"]

    drive(act, node)


def test_the_filter_shows_what_has_the_words_until_escape(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "2", "slash", "q", "u", "enter")
        assert column(screen) == ["quick"]
        assert "filter: qu" in text(screen, "tabs")
        assert not screen.query_one("#filter", Input).display
        await press(screen, pilot, "slash", "z", "enter")
        assert text(screen, "note") == "no name has these words"
        await press(screen, pilot, "escape")
        assert len(column(screen)) == 3

    drive(act, node)


def test_a_worker_is_recycled_once_it_is_sure(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "down", "x")
        assert isinstance(screen.screen, Sure)
        await press(screen, pilot, "n")
        assert node.wanted == []
        await press(screen, pilot, "x", "y")
        assert node.wanted == [101]
        assert notes(screen) == ["101 is replaced"]

    drive(act, node)


def test_what_the_node_refuses_is_told(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "down", "down", "x", "y")
        assert notes(screen) == ["invalid_arguments: no worker 102 is ready"]
        await press(screen, pilot, "2", "x")
        assert "choose a worker first" in notes(screen)[-1]
        node.workers[0] = {"id": 0, "group": "default", "pid": None, "state": "vacant"}
        await press(screen, pilot, "1", "x")
        assert notes(screen)[-1] == "nobody works in place 0 now"
        assert node.wanted == []

    drive(act, node)


def test_the_node_is_drained_once_it_is_sure(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "d", "escape")
        assert node.wanted == []
        await press(screen, pilot, "d", "y")
        assert node.wanted == ["drain"]

    drive(act, node)


def test_the_cursor_stays_with_its_row(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "2", "down")
        assert column(screen)[table(screen).cursor_row] == "quick"
        node.tools["quick"] = tool(500)
        screen._look()
        await settled(screen, pilot)
        assert column(screen) == ["quick", "slow", "idle"]
        assert table(screen).cursor_row == 0
        del node.tools["slow"]
        screen._look()
        await settled(screen, pilot)
        assert column(screen)[table(screen).cursor_row] == "quick"

    drive(act, node)


def test_a_pause_asks_nothing(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "p")
        asked = node.asked
        screen._look()
        await settled(screen, pilot)
        assert node.asked == asked
        assert "PAUSED" in text(screen, "tabs")
        await press(screen, pilot, "p")
        assert node.asked == asked + 1

    drive(act, node)


def test_a_node_that_goes_away_and_comes_back(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        node.away = True
        screen._look()
        await settled(screen, pilot)
        assert "ipc:///here is away for" in text(screen, "head")
        assert len(column(screen)) == 3
        node.away = False
        screen._look()
        await settled(screen, pilot)
        assert "away" not in text(screen, "head")

    drive(act, node)


def test_of_several_nodes_each_has_a_row_and_one_is_looked_at(node: Made) -> None:
    other = Made("ipc:///there")
    other.workers, other.away = other.workers[:1], False
    gone = Made("ipc:///gone")
    gone.away = True

    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        lines = text(screen, "head").splitlines()
        assert [line.split()[:1] for line in lines[:1]] == [["NODE"]]
        assert lines[1].startswith("> ipc:///here")
        assert lines[3].split()[:2] == ["ipc:///gone", "lost"]
        await press(screen, pilot, "n")
        assert text(screen, "head").splitlines()[2].startswith("> ipc:///there")
        assert column(screen) == ["0"]
        await press(screen, pilot, "n")
        assert column(screen) == []

    drive(act, node, other, gone, size=(140, 30))
    assert node.closed
    assert gone.closed


def test_help_is_shown_and_left_by_the_same_key(node: Made) -> None:
    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        await press(screen, pilot, "question_mark")
        assert isinstance(screen.screen, Help)
        await press(screen, pilot, "question_mark")
        assert not isinstance(screen.screen, Help)
        await press(screen, pilot, "question_mark", "q")
        assert not isinstance(screen.screen, Help)

    drive(act, node)


def test_an_empty_node_and_a_narrow_terminal(node: Made) -> None:
    node.tools, node.workers = {}, []

    async def act(screen: Screen, pilot: Pilot[int]) -> None:
        assert text(screen, "note") == "no worker"
        await press(screen, pilot, "2", "s", "r", "x")
        assert text(screen, "note") == "no tool"

    drive(act, node, size=(40, 12))

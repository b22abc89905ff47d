"""The live screen of `toolring top`, by textual. It asks, and shows; what is shown comes from frame.py and views.py."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from toolring.cli.frame import Row
from toolring.cli.views import (
    NODES,
    VIEWS,
    Column,
    Order,
    View,
    cells,
    chosen,
    columns_of,
    default_order,
    headline,
    ordered,
    tone,
)
from toolring.errors import ToolringError

_STYLES: Final = {"bad": "bold red", "warn": "yellow", "": ""}
_NAMES: Final = tuple(VIEWS)

_HELP: Final = """\
1 2 3 4, Tab     workers, tools, queue, caches
up, down, mouse  choose a row        left, right  more columns
s, S             sort by the next, or the last column
r                reverse the order
/                show only rows with these words; Esc shows all
n                the next node
x                recycle the chosen worker: a fresh one takes its
                 place, no call is lost
d                drain the node: it finishes what it has and ends
p                pause: nothing is asked
q, Ctrl-C        quit; q: or back from here

/S, ERR/S and CPU are of the last interval, P50, P95, P99 (in ms)
and BUSY of the last minute. P50 and so on are from acceptance to
answer, QUEUE is until a worker has it, RUN is the tool itself.
LINE: jobs that a worker holds. HITS, RATIO: share of calls that no
worker had to run: from a cache, or by joining another's run.
"""


class Source(Protocol):
    """Where frames of one node come from, and who does what is wanted there."""

    address: str

    async def frame(self, queue: bool = True) -> dict[str, Any]: ...
    async def recycle(self, worker: int) -> str: ...
    async def drain(self) -> str: ...
    async def close(self) -> None: ...


class Help(ModalScreen[None]):
    """The keys and what the figures mean, until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,escape,enter,space,question_mark", "dismiss", "back")]

    def compose(self) -> ComposeResult:
        yield Static(_HELP.rstrip(), classes="box", markup=False)


class Sure(ModalScreen[bool]):
    """Asks before something is done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(f"{self._question}\n\ny  yes     n  no", classes="box", markup=False)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Seen:
    """What is known of one node: the last frame, and why there is no later one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.frame: dict[str, Any] | None = None
        self.at = 0.0
        self.lost = ""
        self.asking = False

    def row(self) -> Row:
        """The node's own."""
        row: Row = {"address": self.source.address} if self.frame is None else dict(self.frame["node"])
        return {**row, "state": "lost"} if self.lost else row


class Screen(App[int]):
    """``toolring top``."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #tabs, #note { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #tabs { margin-top: 1; }
    #filter { height: 1; border: none; padding: 0 1; display: none; }
    DataTable { height: 1fr; }
    DataTable > .datatable--header { background: ansi_default; color: ansi_default; text-style: bold; }
    DataTable > .datatable--cursor { background: ansi_default; color: ansi_default; text-style: reverse; }
    .box { width: auto; max-width: 76; height: auto; padding: 1 2; border: round; }
    Help, Sure { align: center middle; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(place), f"view('{name}')", name, show=False) for place, name in enumerate(_NAMES, 1)),
        Binding("tab", "next_view", "view", priority=True, key_display="Tab"),
        Binding("n", "next_node", "node", show=False),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "all", "all", show=False),
        Binding("s", "sort(1)", "sort"),
        Binding("S", "sort(-1)", "sort back", show=False),
        Binding("r", "reverse", "reverse", show=False),
        Binding("x", "recycle", "recycle"),
        Binding("d", "drain", "drain"),
        Binding("p", "pause", "pause"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(self, sources: Sequence[Source], interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ansi_color=True)  # the terminal's own colours, or none where NO_COLOR is set
        self.theme = "ansi-dark"
        self._seen = [Seen(source) for source in sources]
        self._node = 0
        self._interval = interval
        self._clock = clock
        self._view = "workers"
        self._orders: dict[str, Order] = {name: default_order(view) for name, view in VIEWS.items()}
        self._words = ""
        self._paused = False
        self._columns: tuple[Column, ...] = ()
        self._heads: list[str] = []
        self._width = 0
        """That of the screen, when the table was made."""
        self._shown: list[list[str]] = []
        """The cells that are on the screen, without their style."""
        self._rows: list[Row] = []

    # ---- the widgets

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(id="head", markup=False)
            yield Static(id="tabs", markup=False)
            yield Input(id="filter", placeholder="words in the names; Enter, or Esc for all")
            yield DataTable(cursor_type="row", zebra_stripes=False)
            yield Static(id="note", markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, 128 + signal.SIGTERM)
        self._table.focus()
        self._draw()
        self.set_interval(self._interval, self._look)
        self._look()

    async def on_unmount(self) -> None:
        for node in self._seen:
            await node.source.close()

    @property
    def _table(self) -> DataTable[Text]:
        found: DataTable[Text] = self.screen_stack[0].query_one(DataTable)
        return found

    def on_resize(self) -> None:
        """Names may take more room, or less, once it is known how much there is."""
        self.call_later(self._draw)

    # ---- asking

    def _look(self) -> None:
        for node in self._seen:
            if not (self._paused or node.asking):
                node.asking = True
                self.run_worker(self._ask(node), group="asking", exit_on_error=True)

    async def _ask(self, node: Seen) -> None:
        """The queue is asked for only where it is shown."""
        try:
            node.frame = await node.source.frame(queue=self._view == "queue")
            node.at, node.lost = self._clock(), ""
        except ToolringError as error:
            node.lost = f"{error.code.lower()}: {error}"
        finally:
            node.asking = False
        if not self._paused:
            self._draw()

    # ---- showing

    def _draw(self) -> None:
        self._draw_head()
        self._draw_tabs()
        self._draw_table()

    def _static(self, name: str, text: Text) -> None:
        self.screen_stack[0].query_one(f"#{name}", Static).update(text)

    def _draw_head(self) -> None:
        node = self._seen[self._node]
        text = Text(no_wrap=True, overflow="ellipsis")
        if len(self._seen) > 1:
            text.append_text(self._many())
        elif node.frame is not None:
            for line in headline(node.row()):
                for piece, colour in line:
                    text.append(piece, _STYLES[colour]).append("  ")
                text.append("\n")
        if node.lost:
            since = f" for {self._clock() - node.at:.0f} s" if node.frame is not None else ""
            text.append(f"{node.source.address} is away{since}, asking again", _STYLES["bad"]).append("\n")
            text.append(f"{node.lost}\n")
        elif node.frame is None:
            text.append(f"asking {node.source.address}\n")
        text.rstrip()
        self._static("head", text)

    def _many(self) -> Text:
        """A row for each node; the one that is looked at is marked."""
        rows = [{"address": node.source.address, "state": "lost"} if node.lost else node.row() for node in self._seen]
        width = self.size.width
        lines = [[column.head for column in NODES], *(cells(NODES, row, width) for row in rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(NODES))]
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, line in enumerate(lines):
            text.append("> " if number == self._node + 1 else "  ")
            for column, cell, width in zip(NODES, line, widths, strict=True):
                style = "bold" if number == 0 else _STYLES[tone(column.key, rows[number - 1].get(column.key))]
                text.append(cell.rjust(width) if column.right else cell.ljust(width), style).append("  ")
            text.append("\n")
        return text

    def _draw_tabs(self) -> None:
        view, order = VIEWS[self._view], self._orders[self._view]
        text = Text(no_wrap=True, overflow="ellipsis")
        for place, (name, one) in enumerate(VIEWS.items(), 1):
            text.append(f"{place} {one.title}", "reverse" if name == self._view else "").append("  ")
        head = next(column.head for column in view.columns if column.key == order.key)
        text.append(f" by {head}")
        if self._words:
            text.append(f"  filter: {self._words}", "bold")
        if self._paused:
            text.append("  PAUSED", _STYLES["warn"])
        self._static("tabs", text)

    def _draw_table(self) -> None:
        frame = self._seen[self._node].frame
        view, order = VIEWS[self._view], self._orders[self._view]
        every: list[Row] = [] if frame is None else frame[self._view]
        rows = ordered(chosen(every, view, self._words), order)
        self._fill(view, columns_of(view, every), rows, order)
        note = "" if rows or frame is None else "no name has these words" if every else view.empty
        self._static("note", Text(note))

    def _fill(self, view: View, columns: tuple[Column, ...], rows: list[Row], order: Order) -> None:
        """Cells that haven't changed are left alone; the cursor stays with the row that was chosen."""
        table = self._table
        marked = self._marked(view)
        heads = [_head(column, order) for column in columns]
        lines = [cells(columns, row, self.size.width) for row in rows]
        if (columns, heads, self.size.width) != (self._columns, self._heads, self._width):
            table.clear(columns=True)
            table.fixed_columns = view.fixed
            for column, head in zip(columns, heads, strict=True):
                table.add_column(Text(head, "bold", justify="right" if column.right else "left"), key=column.key)
            self._shown = []
        while len(self._shown) > len(lines):
            table.remove_row(str(len(self._shown) - 1))
            self._shown.pop()
        for place, (row, line) in enumerate(zip(rows, lines, strict=True)):
            if place == len(self._shown):
                styled = [_cell(column, text, row) for column, text in zip(columns, line, strict=True)]
                table.add_row(*styled, key=str(place))
                self._shown.append(line)
                continue
            for at, column in enumerate(columns):
                if line[at] != self._shown[place][at]:
                    wider = len(line[at]) > len(self._shown[place][at])
                    table.update_cell_at(Coordinate(place, at), _cell(column, line[at], row), update_width=wider)
            self._shown[place] = line
        self._columns, self._heads, self._rows, self._width = columns, heads, rows, self.size.width
        self._mark(view, marked)

    def _marked(self, view: View) -> tuple[Any, ...] | None:
        """The row that somebody has chosen; who stays at the top wants to see whatever is there."""
        place = self._table.cursor_row
        return _name(view, self._rows[place]) if 0 < place < len(self._rows) else None

    def _mark(self, view: View, marked: tuple[Any, ...] | None) -> None:
        names = [_name(view, row) for row in self._rows]
        if marked in names and names.index(marked) != self._table.cursor_row:
            self._table.move_cursor(row=names.index(marked), animate=False)

    # ---- keys

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_view(self, name: str) -> None:
        self._view = name
        self._begin_anew()
        self._draw()
        self._look()

    def _begin_anew(self) -> None:
        """Other rows are to be shown, or in another order: none of them is chosen yet."""
        self._table.clear(columns=True)
        self._columns, self._heads, self._shown, self._rows = (), [], [], []

    def action_next_view(self) -> None:
        self.action_view(_NAMES[(_NAMES.index(self._view) + 1) % len(_NAMES)])

    def action_sort(self, step: int) -> None:
        order = self._orders[self._view]
        keys = [column.key for column in self._columns]
        place = keys.index(order.key) + step if order.key in keys else 0
        self._sort(self._columns[place % len(keys)])

    def _sort(self, column: Column) -> None:
        """Figures from the largest down, names from a to z; the same again: the other way round."""
        before = self._orders[self._view]
        down = not before.down if before.key == column.key else column.right and column.key not in ("id", "pid")
        self._orders[self._view] = Order(column.key, down)
        self._begin_anew()
        self._draw()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        self._sort(self._columns[event.column_index])

    def action_reverse(self) -> None:
        order = self._orders[self._view]
        self._orders[self._view] = Order(order.key, not order.down)
        self._begin_anew()
        self._draw()

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self._words
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        self._leave_filter()

    def action_all(self) -> None:
        self._words = ""
        self._leave_filter()
        self._draw()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self._table.focus()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._draw()
        self._look()

    def action_next_node(self) -> None:
        self._node = (self._node + 1) % len(self._seen)
        self._begin_anew()
        self._draw()

    def action_recycle(self) -> None:
        place = self._table.cursor_row
        if self._view != "workers" or not 0 <= place < len(self._rows):
            self._tell("choose a worker first: 1, then up and down", "warning")
            return
        row = self._rows[place]
        if row["pid"] is None:
            self._tell(f"nobody works in place {row['id']} now", "warning")
            return
        source, pid = self._seen[self._node].source, int(row["pid"])
        question = f"Recycle worker {row['id']} (pid {pid})?\nIt serves until its successor is ready; no call is lost."
        self._if_sure(question, lambda: source.recycle(pid))

    def action_drain(self) -> None:
        node = self._seen[self._node]
        if node.frame is None:
            self._tell("there is no node to drain", "warning")
            return
        question = f"Drain {node.source.address}?\nIt finishes what it has, refuses what comes, and ends."
        self._if_sure(question, node.source.drain)

    def _if_sure(self, question: str, act: Callable[[], Awaitable[str]]) -> None:
        def heard(answer: bool | None) -> None:
            if answer:
                self.run_worker(self._act(act))

        self.push_screen(Sure(question), heard)

    async def _act(self, act: Callable[[], Awaitable[str]]) -> None:
        try:
            self._tell(await act(), "information")
        except ToolringError as error:
            self._tell(f"{error.code.lower()}: {error}", "error")

    def _tell(self, text: str, severity: Any) -> None:
        self.notify(text, severity=severity, markup=False)


def _head(column: Column, order: Order) -> str:
    return f"{column.head}{'▼' if order.down else '▲'}" if column.key == order.key else column.head


def _cell(column: Column, text: str, row: Row) -> Text:
    return Text(text, _STYLES[tone(column.key, row.get(column.key))], justify="right" if column.right else "left")


def _name(view: View, row: Row) -> tuple[Any, ...]:
    """Which row it is. What a worker runs changes, and a worker's pid may."""
    return (row["id"],) if view.named[0] == "id" else tuple(row[key] for key in view.named)

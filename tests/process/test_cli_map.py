"""The command line over many calls and many parts: ``toolring map``, and ``toolring call`` of what takes its time."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, eventually, lines, run_cli

TOOLS = kit.HERE / "map_tools.py"
KINDS = ["steps", "async_steps"]
PARTS = ["part 0", '{"k": 1}', "part 2", '{"k": 3}']


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with kit.running(TOOLS, workers=2) as node:
        yield node


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    yield shared
    shared.until_whole(4)


class Terminal:
    """A pseudo terminal, and what was written to it so far."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._seen = b""

    def text(self) -> str:
        try:
            while more := os.read(self._master, 1 << 16):
                self._seen += more
        except BlockingIOError:
            pass
        return self._seen.decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


class Command:
    """A ``toolring`` command that is under way. What isn't led elsewhere goes to files."""

    def __init__(self, directory: Path, node: Node, *words: str, **led: Any) -> None:
        self.out, self.err = directory / "stdout", directory / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*kit.COMMAND, *words],
                **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **led},
                env=kit.environment(TOOLRING_ADDRESS=node.address),
            )

    def until(self, *printed: str) -> None:
        """Wait until exactly these lines stand on its standard output."""
        eventually(lambda: lines(self.out) == list(printed), f"{printed} in {self.out}")

    def write(self, *calls: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{call}\n" for call in calls).encode())
        self.process.stdin.flush()

    def status(self) -> int:
        return self.process.wait(kit.PATIENCE)


@contextmanager
def command(directory: Path, node: Node, *words: str, **led: Any) -> Iterator[Command]:
    found = Command(directory, node, *words, **led)
    try:
        yield found
    finally:
        found.process.kill()
        if found.process.stdin is not None:
            found.process.stdin.close()
        found.process.wait()


def written(directory: Path, *calls: Any) -> str:
    path = directory / "calls.jsonl"
    path.write_text("".join(f"{call if isinstance(call, str) else json.dumps(call)}\n" for call in calls))
    return str(path)


def words_of(directory: Path, *words: str) -> str:
    return written(directory, *({"word": word} for word in words))


def parsed(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


# ---- map


@pytest.mark.parametrize("more", [[], ["--chunk", "7"], ["--window", "1"], ["--chunk", "64", "--window", "8"]])
def test_results_come_in_the_order_of_the_lines(node: Node, tmp_path: Path, more: list[str]) -> None:
    file = words_of(tmp_path, *("w" * n for n in range(1, 101)))
    done = run_cli("map", "length", file, *more, address=node.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert parsed(done.stdout) == [{"result": n} for n in range(1, 101)]


def test_options_stand_where_they_like_and_are_all_taken(node: Node, tmp_path: Path) -> None:
    options = ["--window", "4", "--timeout", "20", "--errors", "keep", "--priority", "high", "--partition", "p"]
    file = words_of(tmp_path, "a", "bb")
    done = run_cli("map", *options, "length", "--unordered", file, "--chunk", "2", "--address", node.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert parsed(done.stdout) == [{"index": 0, "result": 1}, {"index": 1, "result": 2}]


@pytest.mark.parametrize("word", [[], ["-"]])
def test_it_reads_standard_input(node: Node, tmp_path: Path, word: list[str]) -> None:
    with (
        open(words_of(tmp_path, "a", "bb"), "rb") as source,
        command(tmp_path, node, "map", "length", *word, stdin=source) as run,
    ):
        assert run.status() == 0
        run.until('{"result": 1}', '{"result": 2}')


def test_results_of_any_kind_are_lines_of_json(node: Node, tmp_path: Path) -> None:
    values: list[Any] = [None, 1.5, "two\nlines", {"Grüße": ["😀"]}, [], "\u2028"]
    done = run_cli("map", "echo", written(tmp_path, *({"x": value} for value in values), "{}"), address=node.address)
    assert parsed(done.stdout) == [{"result": value} for value in [*values, None]]
    assert "Grüße" in done.stdout
    assert parsed(run_cli("map", "raw", written(tmp_path, "{}"), address=node.address).stdout) == [{"result": "AP8="}]
    done = run_cli("map", "steps", written(tmp_path, {"n": 2}), address=node.address)
    assert parsed(done.stdout) == [{"result": ["part 0", {"k": 1}]}]


def test_a_locale_that_lacks_a_letter_gets_json_all_the_same(node: Node, tmp_path: Path) -> None:
    file = written(tmp_path, {"x": "Grüße 😀"})
    for words in (["map", "echo", file], ["call", "echo", "x=Grüße 😀", "--json"]):
        done = run_cli(*words, address=node.address, PYTHONIOENCODING="ascii")
        assert parsed(done.stdout) == [{"result": "Grüße 😀"}]
        assert done.stdout.isascii()


def test_unordered_results_come_as_they_are_ready_with_their_index(node: Node, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    calls = [{"path": ledger, "name": f"n{k}", "wait": k == 0} for k in range(3)]
    with command(tmp_path, node, "map", "gate", "--unordered", written(tmp_path, *calls)) as run:
        eventually(lambda: len(lines(run.out)) == 2, "the others do not wait for the first")
        Path(ledger + ".open").touch()
        assert run.status() == 0
        found = parsed(run.out.read_text())
    assert sorted(found[:2], key=lambda each: int(each["index"])) == [
        {"index": 1, "result": "n1"},
        {"index": 2, "result": "n2"},
    ]
    assert found[2] == {"index": 0, "result": "n0"}


def test_in_order_they_wait_for_the_first(node: Node, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    calls = [{"path": str(ledger), "name": f"n{k}", "wait": k == 0} for k in range(3)]
    with command(tmp_path, node, "map", "gate", written(tmp_path, *calls)) as run:
        eventually(lambda: {"end n1", "end n2"} <= set(lines(ledger)), "the others are done")
        assert lines(run.out) == []
        Path(f"{ledger}.open").touch()
        assert run.status() == 0
        assert parsed(run.out.read_text()) == [{"result": f"n{k}"} for k in range(3)]


def test_no_more_calls_are_under_way_than_the_window_holds(node: Node, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    calls = [{"path": str(ledger), "name": f"n{k}"} for k in range(12)]
    with command(tmp_path, node, "map", "gate", "--window", "3", written(tmp_path, *calls)) as run:
        eventually(lambda: len(lines(ledger)) == 3, "three have begun")
        Path(f"{ledger}.open").touch()
        assert run.status() == 0
    at_once, most = 0, 0
    for line in lines(ledger):
        at_once += 1 if line.startswith("begin") else -1
        most = max(most, at_once)
    assert (most, len(lines(ledger))) == (3, 24)


def test_a_chunk_is_one_job(node: Node, tmp_path: Path) -> None:
    file = written(tmp_path, *({"x": x} for x in range(6)))
    jobs = [each["result"] for each in parsed(run_cli("map", "job", file, address=node.address).stdout)]
    assert len(set(jobs)) == 6
    done = run_cli("map", "job", file, "--chunk", "4", address=node.address)
    jobs = [each["result"] for each in parsed(done.stdout)]
    assert [jobs.index(job) for job in jobs] == [0, 0, 0, 0, 4, 4]


def test_a_partition_shares_results_with_nobody_else(node: Node, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    file = written(tmp_path, {"path": str(ledger), "word": "x"})
    for partition in ("a", "a", "b"):
        done = run_cli("map", "scoped", file, "--partition", partition, address=node.address)
        assert parsed(done.stdout) == [{"result": "X"}]
    assert lines(ledger) == ["x", "x"]


@pytest.mark.parametrize("chunk", ["1", "3"])
@pytest.mark.parametrize("unordered", [[], ["--unordered"]])
def test_the_first_error_ends_it_with_its_status_after_the_results_before_it(
    node: Node, tmp_path: Path, chunk: str, unordered: list[str]
) -> None:
    file = words_of(tmp_path, "a", "bb", "", "dddd")
    done = run_cli("map", "length", file, "--chunk", chunk, *unordered, address=node.address)
    assert done.returncode == 1
    assert "toolring: TOOL_ERROR: line 3: length: ValueError: an empty word\n" in done.stderr
    assert done.stderr.endswith("ValueError: an empty word\n"), "with its traceback"
    assert all("error" not in each for each in parsed(done.stdout))
    if not unordered:
        assert parsed(done.stdout) == [{"result": 1}, {"result": 2}]


def test_wrong_arguments_are_status_2_and_a_deadline_is_6(node: Node, tmp_path: Path) -> None:
    done = run_cli("map", "length", written(tmp_path, {"word": "a"}, {"wort": "b"}), address=node.address)
    assert (done.returncode, parsed(done.stdout)) == (2, [{"result": 1}])
    assert "INVALID_ARGUMENTS: line 2: length" in done.stderr
    file = written(tmp_path, {"path": str(tmp_path / "ledger")})
    done = run_cli("map", "gate", "--timeout", "0.3", file, address=node.address)
    assert (done.returncode, done.stdout) == (6, "")
    assert "EXPIRED: line 1: gate" in done.stderr


@pytest.mark.parametrize("chunk", ["1", "4"])
@pytest.mark.parametrize("unordered", [[], ["--unordered"]])
def test_errors_that_are_kept_stand_in_their_places(
    node: Node, tmp_path: Path, chunk: str, unordered: list[str]
) -> None:
    file = written(tmp_path, {"word": "a"}, {"word": ""}, {"wort": "b"}, {"word": "dddd"})
    done = run_cli("map", "length", file, "--errors", "keep", "--chunk", chunk, *unordered, address=node.address)
    assert (done.returncode, done.stderr) == (1, "")
    found = parsed(done.stdout)
    if unordered:
        found.sort(key=lambda each: int(each["index"]))
        assert [each.pop("index") for each in found] == [0, 1, 2, 3]
    assert (found[0], found[3]) == ({"result": 1}, {"result": 4})
    assert [found[k]["error"]["code"] for k in (1, 2)] == ["TOOL_ERROR", "INVALID_ARGUMENTS"]
    assert found[1]["error"]["message"] == "length: ValueError: an empty word"
    assert found[1]["error"]["type"] == "ValueError"
    assert found[2]["error"]["tool"] == "length"


@pytest.mark.parametrize("errors", ["stop", "keep"])
@pytest.mark.parametrize("more", [[], ["--unordered"], ["--chunk", "2"]])
def test_a_line_that_is_no_object_ends_it_while_more_may_come(
    node: Node, tmp_path: Path, errors: str, more: list[str]
) -> None:
    """The input stays open: it ends because of that line, not because of the last."""
    with command(tmp_path, node, "map", "length", "--errors", errors, *more, stdin=subprocess.PIPE, bufsize=0) as run:
        run.write('{"word": "a"}', '{"word": "bb"}', '{"word": "ccc"}', '["dddd"]')
        assert run.status() == 2
        found = sorted(each["result"] for each in parsed(run.out.read_text()))
        assert found == [1, 2, 3]
        assert run.err.read_text().startswith("toolring: INVALID_ARGUMENTS: line 4 is not a JSON object: ")
        assert run.err.read_text().count("\n") == 1


def test_results_are_printed_while_more_may_come(node: Node, tmp_path: Path) -> None:
    with command(tmp_path, node, "map", "length", "--window", "2", stdin=subprocess.PIPE, bufsize=0) as run:
        run.write(*['{"word": "abc"}'] * 3)
        eventually(lambda: lines(run.out)[:1] == ['{"result": 3}'], "the window is full")
        assert run.process.poll() is None
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert run.status() == 0
        run.until(*['{"result": 3}'] * 3)


@pytest.mark.parametrize("more", [[], ["--chunk", "64", "--window", "1024"], ["--unordered"]])
def test_an_endless_input_and_a_reader_that_leaves_end_it_quietly(node: Node, tmp_path: Path, more: list[str]) -> None:
    words = shlex.join([*kit.COMMAND, "map", "length", *more])
    script = f'yes \'{{"word": "abc"}}\' | {words} | head -n 3; echo ${{PIPESTATUS[@]}}'
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=kit.PATIENCE,
        check=True,
        env=kit.environment(TOOLRING_ADDRESS=node.address),
    )
    *found, statuses = done.stdout.splitlines()
    assert [json.loads(each)["result"] for each in found] == [3, 3, 3]
    assert statuses.split()[1:] == ["0", "0"]
    assert done.stderr == ""


def test_what_is_under_way_is_cancelled_when_it_is_interrupted(node: Node, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    calls = written(tmp_path, *({"path": str(ledger), "name": name} for name in "ab"))
    with command(tmp_path, node, "map", "gate", calls) as run:
        eventually(lambda: len(lines(ledger)) == 2, "both have begun")
        run.process.send_signal(signal.SIGINT)
        assert run.status() == 130
        assert (run.out.read_text(), run.err.read_text()) == ("", "")
        eventually(lambda: {"end a", "end b"} <= set(lines(ledger)), "both were ended")


def test_what_makes_no_sense_is_refused_in_one_line(node: Node, tmp_path: Path) -> None:
    file = words_of(tmp_path, "a")
    for words, status, why in (
        (["lenght", file], 2, "UNKNOWN_TOOL: no tool 'lenght' here; did you mean 'length'?"),
        (["length", file, "--window", "0"], 2, "INVALID_ARGUMENTS: window=0"),
        (["length", file, "--chunk", "0"], 2, "INVALID_ARGUMENTS: chunk=0"),
        (["length", file, "--timeout", "-1"], 2, "INVALID_ARGUMENTS: length: timeout -1.0"),
        (["length", "none.jsonl"], 2, "INVALID_ARGUMENTS: none.jsonl can't be read: No such file or directory\n"),
        (["length", str(tmp_path)], 2, f"INVALID_ARGUMENTS: {tmp_path} can't be read: Is a directory\n"),
    ):
        done = run_cli("map", *words, address=node.address)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith(f"toolring: {why}")
        assert done.stderr.count("\n") == 1


# ---- map on a terminal


def test_a_bar_is_drawn_on_a_terminal(node: Node, tmp_path: Path, terminal: Terminal) -> None:
    file = words_of(tmp_path, "a", "bb", "ccc")
    with command(tmp_path, node, "map", "length", file, stderr=terminal.slave) as run:
        assert run.status() == 0
        run.until('{"result": 1}', '{"result": 2}', '{"result": 3}')
    last = terminal.text().split("\r")[-1]
    assert last.startswith("3 done  ")
    assert last.endswith("/s\x1b[K\n")


def test_an_error_is_told_below_the_bar(node: Node, tmp_path: Path, terminal: Terminal) -> None:
    file = words_of(tmp_path, "a", "", "ccc")
    with command(tmp_path, node, "map", "length", file, stderr=terminal.slave) as run:
        assert run.status() == 1
    assert "/s\x1b[K\ntoolring: TOOL_ERROR: line 2: " in terminal.text()


def test_no_bar_stands_among_the_results(node: Node, tmp_path: Path, terminal: Terminal) -> None:
    file = words_of(tmp_path, "a", "bb")
    with command(tmp_path, node, "map", "length", file, stdout=terminal.slave, stderr=terminal.slave) as run:
        assert run.status() == 0
    assert terminal.text() == '{"result": 1}\n{"result": 2}\n'


# ---- call, of a generator


@pytest.mark.parametrize("tool", KINDS)
def test_each_part_is_printed_as_it_comes(node: Node, tmp_path: Path, tool: str) -> None:
    step = tmp_path / "step"
    with command(tmp_path, node, "call", tool, "n=4", f"step={step}") as run:
        for k in range(4):
            Path(f"{step}.{k}").touch()
            run.until(*PARTS[: k + 1])
        assert run.status() == 0
        assert run.out.read_text() == "".join(f"{part}\n" for part in PARTS)
        assert run.err.read_text() == ""


@pytest.mark.parametrize("tool", KINDS)
def test_a_program_gets_an_object_for_each_and_the_result(node: Node, tmp_path: Path, tool: str) -> None:
    step = tmp_path / "step"
    with command(tmp_path, node, "call", tool, "n=2", f"step={step}", "--json") as run:
        Path(f"{step}.0").touch()
        run.until('{"part": "part 0"}')
        Path(f"{step}.1").touch()
        assert run.status() == 0
        assert parsed(run.out.read_text()) == [
            {"part": "part 0"},
            {"part": {"k": 1}},
            {"result": "that was all" if tool == "steps" else None},
        ]


@pytest.mark.parametrize("tool", KINDS)
def test_what_it_raises_comes_after_the_parts_before_it(node: Node, tool: str) -> None:
    done = run_cli("call", tool, "n=4", "fail=2", address=node.address)
    assert (done.returncode, done.stdout) == (1, 'part 0\n{"k": 1}\n')
    assert done.stderr.startswith(f"toolring: TOOL_ERROR: {tool}: ValueError: no further\nTraceback")
    done = run_cli("call", tool, "n=4", "fail=2", "--json", address=node.address)
    *parts, last = parsed(done.stdout)
    assert (done.returncode, parts) == (1, [{"part": "part 0"}, {"part": {"k": 1}}])
    assert (last["error"]["code"], last["error"]["type"]) == ("TOOL_ERROR", "ValueError")


@pytest.mark.parametrize("tool", KINDS)
def test_a_reader_that_leaves_ends_it_quietly(node: Node, tmp_path: Path, tool: str) -> None:
    step = tmp_path / "step"
    Path(f"{step}.0").touch()
    with command(tmp_path, node, "call", tool, "n=4", f"step={step}", stdout=subprocess.PIPE) as run:
        reader = run.process.stdout
        assert reader is not None
        assert Background(reader.readline).result() == b"part 0\n"
        reader.close()
        Path(f"{step}.1").touch()
        assert run.status() == 0
        assert run.err.read_text() == ""


def test_with_a_key_it_is_called_as_usual(node: Node) -> None:
    done = run_cli("call", "steps", "n=2", "--key", "k-1", "--json", address=node.address)
    assert parsed(done.stdout) == [{"result": ["part 0", {"k": 1}]}]


# ---- call, of what says nothing and of what tells how far it is


@pytest.mark.parametrize(("tool", "parts"), [("silent", ""), ("async_silent", "a word\n")])
def test_silence_is_status_6(node: Node, tool: str, parts: str) -> None:
    done = run_cli("call", tool, "--idle-timeout", "1", address=node.address)
    assert (done.returncode, done.stdout) == (6, parts)
    assert done.stderr.startswith(f"toolring: EXPIRED: {tool}: ")


def test_progress_is_drawn_on_a_terminal_and_leaves_nothing_behind(
    node: Node, tmp_path: Path, terminal: Terminal
) -> None:
    path = tmp_path / "ledger"
    with command(tmp_path, node, "call", "report", f"path={path}", stderr=terminal.slave) as run:
        drawn = f"\r[{'#' * 15}{'.' * 15}] 1/2  half way [2J\x1b[K"
        eventually(lambda: terminal.text() == drawn, "it is drawn while the tool runs")
        assert run.process.poll() is None
        Path(f"{path}.open").touch()
        assert run.status() == 0
        run.until("reported")
    assert terminal.text().endswith("\r\x1b[K")


def test_parts_and_progress_share_a_terminal(node: Node, tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "ledger"
    words = ["call", "steps_and_report", f"path={path}"]
    with command(tmp_path, node, *words, stdout=terminal.slave, stderr=terminal.slave) as run:
        eventually(lambda: terminal.text() == "first\n", "a part is printed")
        Path(f"{path}.read").touch()
        eventually(lambda: "between\x1b[K" in terminal.text(), "it is drawn between the parts")
        Path(f"{path}.open").touch()
        assert run.status() == 0
    assert terminal.text() == "first\n\r1  between\x1b[K\r\x1b[Ksecond\n"


def test_elsewhere_progress_is_not_drawn(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Path(f"{path}.open").touch()
    done = run_cli("call", "report", f"path={path}", address=node.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "reported\n", "")

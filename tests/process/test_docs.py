"""The documentation, run: every code block of README.md and docs/ does what it says, every table agrees with the code.

How a block is treated depends on its language:

- ``python`` runs; all blocks of a page share one process and one namespace. ``print(...)  # text`` must print that.
- ``console`` runs line by line: ``$ command``. What is shown below it must appear, in order; ``...`` stands for
  anything. A command that fails must be followed by ``$ echo $?`` with its status. ``toolring serve`` runs in the
  background until the page ends or serves again.
- ``toml`` must be a configuration that loads; ``json`` must be JSON; ``text`` and ``ini`` are only read.

A comment right above a block changes that: ``<!-- file: NAME -->`` writes it to a file instead of running it,
``<!-- no-run: WHY -->`` leaves it alone.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields

import toolring
from tests.process import kit
from toolring import config, errors, protocol
from toolring.cli.main import COMMANDS
from toolring.plugins import specs
from toolring.policy.alerts import FIGURES, AlertRule
from toolring.policy.service import ServicePolicy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = {DOCS / "benchmarks.md", DOCS / "caching-benchmarks.md", DOCS / "caching-strategies.md"}
PAGES = sorted({ROOT / "README.md", *DOCS.rglob("*.md")} - GENERATED)
LANGUAGES = {"python", "console", "toml", "json", "text", "ini"}
MOST_LEFT_ALONE = 6
BIN = Path(sys.executable).parent

FENCE = re.compile(r"^( *)```([a-z]+)\n(.*?)^\1```$", re.M | re.S)
MARK = re.compile(r"<!-- (file|no-run): (.+?) -->\n\s*$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.M)

DRIVER = """
import contextlib, io, json, sys, traceback
space = {"__name__": "__main__"}
channel = sys.stdout
for line in sys.stdin:
    where, code = json.loads(line)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, where, "exec"), space)
        failed = ""
    except BaseException:
        failed = traceback.format_exc()
    print(json.dumps([out.getvalue(), failed]), file=channel, flush=True)
"""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    file: str
    """Where it is to be written; empty: nowhere."""
    left_alone: str
    """Why it isn't run; empty: it is."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for fence in FENCE.finditer(text):
        mark = MARK.search(text[: fence.start()])
        kind, value = mark.groups() if mark else ("", "")
        found.append(
            Block(
                page,
                text.count("\n", 0, fence.start()) + 1,
                fence[2],
                textwrap.dedent(fence[3]),
                value if kind == "file" else "",
                value if kind == "no-run" else "",
            )
        )
    return found


def shows(expected: list[str], actual: str) -> str:
    """The first expected line that isn't there, in order; empty if all are. ``...`` stands for anything."""
    lines = iter([" ".join(line.split()) for line in actual.splitlines()])
    for line in expected:
        words = " ".join(line.split())
        if words in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in words.split("...")))
        if not any(pattern.fullmatch(other) for other in lines):
            return line
    return ""


class Page:
    """Runs one page's blocks in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "run").mkdir()
        self.environment = kit.environment(
            PATH=f"{BIN}:{os.environ['PATH']}",
            TOOLRING_ADDRESS=f"ipc://{directory}/node.sock",
            XDG_RUNTIME_DIR=str(directory / "run"),
            NO_COLOR="1",
        )
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        """By the address that they are told to listen at; another one there takes the place of the first."""
        self.python: subprocess.Popen[str] | None = None
        self.status = 0

    def run(self, block: Block) -> None:
        if block.file:
            path = self.directory / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        if block.left_alone:
            return
        if block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            self._configuration(block)
        elif block.language == "console":
            self._console(block)
        elif block.language == "python" and not block.file:
            self._python(block)

    def close(self) -> None:
        for address in list(self.nodes):
            self._stop(address)
        if self.python is not None:
            with self.python:
                assert self.python.stdin is not None
                self.python.stdin.close()
                self.python.wait(20)

    # ---- by language

    def _configuration(self, block: Block) -> None:
        tables = tomllib.loads(block.code)
        if "project" in tables:
            return
        path = self.directory / "checked.toml"
        own = tables.get("tool", {}).get("toolring")
        path.write_text(block.code if own is None else block.code.replace("[tool.toolring.", "["))
        config.load(str(path), environment={})

    def _python(self, block: Block) -> None:
        if self.python is None:
            self.python = subprocess.Popen(
                [sys.executable, "-c", DRIVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self.environment,
                cwd=self.directory,
            )
        assert self.python.stdin is not None
        assert self.python.stdout is not None
        print(json.dumps([str(block), block.code]), file=self.python.stdin, flush=True)
        out, failed = json.loads(self.python.stdout.readline())
        assert not failed, f"{block}\n{failed}"
        expected = re.findall(r"^ *print\(.*\)  # (.+)$", block.code, re.M)
        missing = shows(expected, out)
        assert not missing, f"{block}: expected {missing!r} in\n{out}"

    def _console(self, block: Block) -> None:
        lines = block.code.splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
        assert starts, f"{block}: no command"
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            last = start
            while lines[last].endswith("\\"):
                last += 1
            command = "\n".join([lines[start][2:], *lines[start + 1 : last + 1]])
            expected = lines[last + 1 : end]
            follows = lines[end] if end < len(lines) else ""
            if command.startswith("toolring serve") and not follows.startswith("$ echo $?"):
                self._serve(command, expected, block)
            else:
                self._command(command, expected, block, may_fail=follows == "$ echo $?")

    def _command(self, command: str, expected: list[str], block: Block, may_fail: bool) -> None:
        if command == "echo $?":
            assert [str(self.status)] == expected[:1], f"{block}: the status was {self.status}"
            return
        if command.startswith("toolring serve"):
            self._stop("")  # it is to fail for its own reason, not because the address is taken
        done = subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env=self.environment,
            cwd=self.directory,
            check=False,
        )
        self.status = done.returncode
        assert may_fail or done.returncode == 0, f"{block}: $ {command}\n{done.stdout}"
        missing = shows(expected, done.stdout)
        assert not missing, f"{block}: $ {command}\nexpected {missing!r} in\n{done.stdout}"

    def _serve(self, command: str, expected: list[str], block: Block) -> None:
        words = shlex.split(command.rstrip(" &"))
        address = words[words.index("--bind") + 1] if "--bind" in words else ""
        self._stop(address)
        out, err = self.directory / "out", self.directory / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            node = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                stdout=stdout,
                stderr=stderr,
                env=self.environment,
                cwd=self.directory,
            )
        self.nodes[address] = node
        kit.eventually(lambda: node.poll() is not None or "is ready at" in out.read_text(), str(block))
        assert node.poll() is None, f"{block}: {command}\n{err.read_text()}"
        missing = shows(expected, out.read_text() + err.read_text())
        assert not missing, f"{block}: {command}\nexpected {missing!r} in\n{out.read_text()}{err.read_text()}"

    def _stop(self, address: str) -> None:
        node = self.nodes.pop(address, None)
        if node is None:
            return
        node.terminate()
        try:
            status = node.wait(10)
        except subprocess.TimeoutExpired:
            node.kill()
            raise
        assert status == 0, (self.directory / "err").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_does_what_it_says(page: Path) -> None:
    with kit.place() as directory, contextlib.closing(Page(directory)) as running:
        for block in blocks(page):
            running.run(block)
    assert kit.bystanders(str(directory)) == []


def test_every_block_has_a_language_and_few_are_left_alone() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in found} <= LANGUAGES
    texts = [re.sub(r"^```{toctree}.*?^```$", "", page.read_text(), flags=re.M | re.S) for page in PAGES]
    fences = sum(len(re.findall(r"^ *```", text, re.M)) for text in texts)
    assert fences == 2 * len(found), "a block has no language, or isn't closed"
    left_alone = [str(block) for block in found if block.left_alone]
    assert len(left_alone) <= MOST_LEFT_ALONE, left_alone


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)):
            path = target.partition("#")[0]
            if "://" in target or not path:
                continue
            found = (page.parent / path).resolve()
            if not found.exists() and found not in GENERATED:
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


@pytest.mark.parametrize("name", ["development", "production"])
def test_a_node_starts_with_each_configuration_that_ships(name: str) -> None:
    with kit.place() as directory, contextlib.closing(Page(directory)) as running:
        file = ROOT / "configs" / f"{name}.toml"
        block = Block(
            file, 1, "console", f"$ toolring serve --config {file} --bind ipc://{directory}/node.sock", "", ""
        )
        running.run(block)
        call = "$ toolring call outline path=json/__init__.py"
        running.run(Block(file, 1, "console", call, "", ""))


# ---- the reference agrees with the code


def rows(page: str) -> dict[str, list[str]]:
    """The tables of a page whose first column is code: by that, the other columns."""
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in ROW.findall((DOCS / page).read_text())}


def sections(page: str) -> dict[str, str]:
    """The text below each heading that is code, up to the next one."""
    parts = re.split(r"^#+ `([^`]+)`.*$", (DOCS / page).read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_of_the_configuration_names_every_key_its_default_and_its_variable() -> None:
    whole = rows("reference/configuration.md")
    for section in (config.CallerSection(), config.GroupSection()):
        named = {name: whole.pop(name)[0].strip("`") for name in section.__struct_fields__}
        assert named == {name: tomlish(value) for name, value in msgspec.structs.asdict(section).items()}
    alert = AlertRule(figure="backlog", above=1)
    plain: dict[str, Any] = {"figure": "", "above": None}
    named = {field.encode_name: whole.pop(f"alerts.NAME.{field.encode_name}")[0].strip("`") for field in fields(alert)}
    assert named == {one.encode_name: tomlish(plain.get(one.name, getattr(alert, one.name))) for one in fields(alert)}
    service = ServicePolicy(endpoints=("http://a",))
    named = {key: whole.pop(f"services.NAME.{key}")[0].strip("`") for key in service.__struct_fields__}
    plain = {"endpoints": (), "ejection": {}}
    assert named == {key: tomlish(plain.get(key, getattr(service, key))) for key in named}
    told = {name: (cells[0].strip("`"), cells[1].strip("`")) for name, cells in whole.items()}
    assert told == {
        name: (tomlish(value), "TOOLRING_" + name.upper().replace(".", "_"))
        for name, value in config.flat(config.Config()).items()
    }
    assert all(len(cells[2]) > 10 for cells in whole.values())


def test_the_page_on_alerts_names_every_figure_that_they_may_watch() -> None:
    told = rows("how-to/alerts.md")
    times = {name for name in FIGURES if "_p" in name}
    assert set(told) == set(FIGURES) - times | {"TIME_pNN"}
    for name in times:
        assert f"`{name.partition('_p')[0]}`" in (DOCS / "how-to/alerts.md").read_text()


def tomlish(value: Any) -> str:
    return json.dumps(value)


def test_the_reference_of_errors_names_every_code_its_class_and_status() -> None:
    told = {code: cells[:3] for code, cells in rows("reference/errors.md").items()}
    assert told == {
        code: [f"`{kind.__name__}`", str(kind.exit_status), "yes" if kind.retryable else "no"]
        for code, kind in errors.BY_CODE.items()
    }


def test_the_reference_of_the_command_line_names_every_command_and_option() -> None:
    told = sections("reference/cli.md")
    assert list(told) == [f"toolring {command}" for command in COMMANDS]
    for command in COMMANDS:
        shown = subprocess.run(
            [*kit.COMMAND, command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=kit.environment(COLUMNS="200"),
        )
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown.stdout, re.M)) - {"--help"}
        in_table = set(re.findall(r"^\| `(--[a-z-]+)", told[f"toolring {command}"], re.M))
        assert in_table == options, command


def test_the_reference_of_hooks_names_every_hook_and_field() -> None:
    told = sections("reference/hooks.md")
    hooks = [name for name in vars(specs) if name.startswith("toolring_")]
    assert [name for name in told if name.startswith("toolring_")] == hooks
    for event in (
        specs.NodeEvent,
        specs.WorkerEvent,
        specs.MemoryEvent,
        specs.AlertEvent,
        specs.JobEvent,
        specs.MetricFamily,
        specs.Buckets,
    ):
        for field in inspect.signature(event).parameters:
            assert f"`{field}`" in told[event.__name__], (event, field)
    for protocol_class in (specs.CacheStrategy, specs.MetricsSink):
        for method in vars(protocol_class):
            if not method.startswith("_"):
                assert f"`{method}" in told[protocol_class.__name__], (protocol_class, method)


def test_the_reference_of_the_api_names_every_public_name_with_its_parameters() -> None:
    told = sections("reference/api.md")
    assert set(told) == set(toolring.__all__) - {"__version__"}
    clients = ("Client", "AsyncClient", "Cluster", "AsyncCluster")
    handles = ("Handle", "AsyncHandle", "ClusterHandle", "AsyncClusterHandle")
    pools = ("Pool", "AsyncPool", "ObjectPool", "BufferPool")
    inner_of_handles = (
        "settled",
        "outcome",
        "refusal",
        "deadline",
        "job",
        "start",
        "stay",
        "goes_on",
        "follow",
        "has_begun",
        "over",
    )
    for name in (*clients, *handles, *pools, "Context", "ToolringError", "Tool"):
        for member, value in inspect.getmembers(getattr(toolring, name)):
            inner = getattr(getattr(toolring, name), "__struct_fields__", ())  # parts that others of toolring use
            if member.startswith("_") or member in inner or member in dir(Exception):
                continue
            if name in handles and member in inner_of_handles:
                continue
            assert f"`{member}" in told[name], f"{name}.{member}"
            if inspect.isfunction(value):
                for parameter in list(inspect.signature(value).parameters)[1:]:
                    assert parameter in told[name], f"{name}.{member}({parameter})"
    for parameter, detail in inspect.signature(toolring.tool).parameters.items():
        if parameter != "function":
            assert f"| `{parameter}` | `{detail.default!r}` |" in told["tool"], parameter
    for field in msgspec.structs.fields(toolring.ToolSpec):
        assert f"`{field.name}`" in told["ToolSpec"], field.name


def test_the_specification_of_the_wire_has_the_limits_verbs_and_fields_of_the_code() -> None:
    text = (DOCS / "protocol.md").read_text()
    for name in ("VERSION", "MAX_FRAMES", "MAX_HEAD", "MAX_JOBS", "MAX_NAME", "INLINE"):
        assert f"| `{name}` | {getattr(protocol, name):,} |" in text, name
    told = sections("protocol.md")
    for union in (protocol.FromClient, protocol.FromNode):
        for message in union.__args__:
            verb = message.__struct_config__.tag
            assert verb in told, verb
            for field in message.__struct_fields__:
                assert f"`{field}`" in told[verb], f"{verb}: {field}"
    for struct, heading in ((protocol.Job, "job"), (protocol.Answer, "answer")):
        for field in struct.__struct_fields__:
            assert f"| `{field}` |" in told[heading], f"{heading}: {field}"


# ---- it builds


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    pytest.importorskip("myst_parser", reason="the docs extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "html" / "index.html").is_file()

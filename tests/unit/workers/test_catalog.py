from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolring import tool
from toolring.errors import LoadError
from toolring.workers.catalog import load, source_files

Write = Callable[[str, str], str]
TOOL = "from toolring import tool\n@tool\ndef {name}() -> int:\n    return 1\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file and leaves no trace of its import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known, path = set(sys.modules), list(sys.path)

    def write(name: str, text: str) -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return str(file)

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path


def test_a_file_holds_tools(write: Write) -> None:
    file = write("cat_a.py", TOOL.format(name="one") + TOOL.format(name="two"))
    assert list(load([file])) == ["one", "two"]


def test_a_module_and_one_of_its_names(write: Write) -> None:
    write("cat_b.py", TOOL.format(name="one") + TOOL.format(name="two") + "both = [one, two]\nby_name = {'x': one}\n")
    assert list(load(["cat_b"])) == ["one", "two"]
    assert list(load(["cat_b:two"])) == ["two"]
    assert list(load(["cat_b:both"])) == ["one", "two"]
    assert list(load(["cat_b:by_name"])) == ["one"]


def test_targets_may_overlap(write: Write) -> None:
    file = write("cat_c.py", TOOL.format(name="one"))
    assert list(load([file, f"{file}:one", "cat_c"])) == ["one"]


def test_a_file_sees_its_neighbours(write: Write) -> None:
    write("cat_neighbour.py", "VALUE = 5\n")
    file = write("cat_d.py", "from cat_neighbour import VALUE\n" + TOOL.format(name="one"))
    assert list(load([file])) == ["one"]


def test_plugins_bring_tools_too(write: Write) -> None:
    @tool
    def extra() -> None: ...

    assert list(load([write("cat_e.py", TOOL.format(name="one"))], [("a plugin", extra)])) == ["one", "extra"]


def test_two_tools_of_one_name(write: Write) -> None:
    first, second = write("cat_f.py", TOOL.format(name="one")), write("cat_g.py", TOOL.format(name="one"))
    with pytest.raises(LoadError, match=r"'one' is defined twice, in .*cat_f.py and in .*cat_g.py"):
        load([first, second])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_thing_at_all\n", r"ModuleNotFoundError.*no_such_thing_at_all.*cat_h.py, line 1"),
        ("\n\n1 / 0\n", r"ZeroDivisionError.*cat_h.py, line 3"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    ],
)
def test_a_broken_module_gives_its_cause_in_one_line(write: Write, text: str, says: str) -> None:
    with pytest.raises(LoadError, match=says) as caught:
        load([write("cat_h.py", text)])
    assert "\n" not in str(caught.value)
    assert "cat_h" not in sys.modules, "half a module must not stay"


def test_a_module_without_tools(write: Write) -> None:
    with pytest.raises(LoadError, match=r"holds no tool; decorate a function with @tool"):
        load([write("cat_l.py", "x = 1\n")])


def test_the_traceback_is_in_the_facts(write: Write) -> None:
    with pytest.raises(LoadError) as caught:
        load([write("cat_i.py", "def f():\n    raise ValueError('deep')\nf()\n")])
    assert "in f" in caught.value.facts["traceback"]


def test_a_declaration_that_makes_no_sense_keeps_its_own_words(write: Write) -> None:
    file = write("cat_j.py", "from toolring import tool\n@tool(cache=5)\ndef one() -> int:\n    return 1\n")
    with pytest.raises(LoadError, match="needs read_only=True") as caught:
        load([file])
    assert caught.value.facts["target"] == file


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@tool\ndef one(db) -> int: ...\n@resource\ndef db(): yield 1\n", "resource 'db', which is declared below"),
        ("@resource\ndef db(host): yield 1\n@tool\ndef one(db) -> int: ...\n", "without arguments, and asks for host"),
    ],
)
def test_a_resource_that_no_tool_could_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    (tmp_path / "cat_r.py").write_text(f"from toolring import resource, tool\n{text}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cat_r", raising=False)
    with pytest.raises(LoadError, match=why):
        load(["cat_r"])


def test_a_package_that_lacks_a_module_of_its_own_is_not_missing_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cat_q").mkdir()
    (tmp_path / "cat_q" / "__init__.py").write_text("from .gone import V\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LoadError, match=r"No module named 'cat_q\.gone' .*__init__\.py, line 1"):
        load(["cat_q"])
    with pytest.raises(LoadError, match=r"No module named .cat_q\.gone."):
        load(["cat_q.other"])
    with pytest.raises(LoadError, match=r"no module named .no_such\.module."):
        load(["no_such.module"])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("missing_dir/missing.py", "there is no file"),
        ("no_such_module_here", r"no module named 'no_such_module_here'; is there a file no_such_module_here.py"),
        ("cat_k:nothing", "has no 'nothing'"),
        ("cat_k:number", "is a int, neither a tool"),
        ("cat_k:empty", "is a list, neither a tool"),
        ("cat_k:plain", "is @tool missing"),
    ],
)
def test_a_target_that_is_not_there(write: Write, target: str, says: str) -> None:
    write("cat_k.py", "number = 1\nempty = []\ndef plain(): pass\n")
    with pytest.raises(LoadError, match=says):
        load([target])


def test_a_file_may_not_shadow_a_module_that_is_loaded(write: Write) -> None:
    with pytest.raises(LoadError, match="a module of that name is loaded already"):
        load([write("json.py", TOOL.format(name="one"))])


def test_the_files_of_what_was_loaded_and_of_what_could_not_be(write: Write) -> None:
    good = write("cat_good.py", TOOL.format(name="one"))
    load([good])
    assert good in source_files()
    helper = write("cat_helper.py", "raise RuntimeError('no')\n")
    user = write("cat_user.py", "import cat_helper\n")
    with pytest.raises(LoadError) as caught:
        load([user])
    assert {good, helper, user} <= set(source_files(caught.value))
    wrong = write("cat_wrong.py", "def (:\n")
    with pytest.raises(LoadError) as caught:
        load([wrong])
    assert wrong in source_files(caught.value)
    assert not any("site-packages" in file for file in source_files(caught.value))

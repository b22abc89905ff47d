"""The size report counts what the house's page says, and only reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.report import MARKS, report, sizes

ROOT = Path(__file__).parents[2]

SAMPLE = """
import msgspec
from dataclasses import dataclass

def short():
    return 1

class Big:
    def __init__(self):
        (self.a, self.b) = 1, 2
        self.c: int = self.a

    async def m(self, other):
        self.c += 1
        other.d = self.a

    def outer(self):
        def inner():
            self.e = 1
        return inner

@dataclass(frozen=True)
class Record:
    a: int

class Wire(msgspec.Struct, frozen=True):
    a: int
"""


def test_counts(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "a.py").write_text(SAMPLE)
    found = {(s.kind, s.name): s.count for s in sizes(tmp_path)}
    assert found == {
        ("file", ""): len(SAMPLE.splitlines()),
        ("function", "short"): 2,
        ("methods", "Big"): 3,
        ("attributes", "Big"): 4,
        ("function", "Big.__init__"): 3,
        ("function", "Big.m"): 3,
        ("function", "Big.outer"): 4,
        ("function", "Big.outer.inner"): 2,
    }


def test_what_is_over_a_mark_is_listed_largest_first(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    for name, length in (("a", MARKS["file"]), ("b", MARKS["file"] + 1), ("c", MARKS["file"] + 9)):
        (tmp_path / "plugins" / f"{name}.py").write_text("x = 1\n" * length)
    assert report(tmp_path).splitlines()[:3] == [
        "file > 300: 2 of 3 (the largest has 309)",
        "    309  plugins/c.py",
        "    301  plugins/b.py",
    ]


def test_it_runs_on_this_house_and_never_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.house.report"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "function > 60:" in done.stdout

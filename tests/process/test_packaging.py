"""What a user installs is what stands in the repository: built, installed and type-checked, all offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROOMS = {
    "toolring": "toolring",
    **{room: f"toolring/{room}" for room in ("supervisor", "workers", "plugins")},
}
NEEDED = ("pyproject.toml", "README.md", "LICENSE", *ROOMS)
LEAVINGS = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info")

IMPORT_ALL = """
import importlib.util, json, pkgutil
import toolring
found = [module.name for module in pkgutil.walk_packages(toolring.__path__, "toolring.")]
files = {name: importlib.import_module(name).__file__ for name in found if not name.endswith("__main__")}
second = [m for m in ("supervisor", "workers", "plugins") if importlib.util.find_spec(m)]
print(json.dumps({"home": toolring.__file__, "files": files, "second": second}))
"""

USER_SCRIPT = """
from toolring import AsyncClient, Client, hookimpl, tool


@tool
def add(a: int, b: int = 1) -> int:
    return a + b


@tool(read_only=True)
async def shout(text: str) -> str:
    return text.upper()


class Plugin:
    @hookimpl
    def some_hook(self, event: object) -> None: ...


total: int = add(1, b=2)

# each ignore is reported as unused unless the types come through
wrong = add("1")  # type: ignore[arg-type]


def use(client: Client, aio: AsyncClient) -> None:
    sync_type: int = client  # type: ignore[assignment]
    aio_type: int = aio  # type: ignore[assignment]
"""


@dataclass(frozen=True)
class Built:
    copy: Path  # of the repository, as it was built
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Run it as a user would: not in the repository, and with no path that leads there."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "MYPYPATH"}}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the house, by its name in the wheel."""
    for room, name in ROOMS.items():
        top = root / room
        for path in top.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                yield f"{name}/{path.relative_to(top)}", path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel and an sdist of a copy of the repository, and the wheel that this sdist makes."""
    work = tmp_path_factory.mktemp("build")
    copy, out, again = work / "copy", work / "out", work / "again"
    copy.mkdir()
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=LEAVINGS)
        else:
            shutil.copy(ROOT / name, copy / name)
    build = (sys.executable, "-m", "build", "--no-isolation")
    run(*build, "--wheel", "--sdist", "--outdir", out, copy, cwd=work)
    sdist = only(out, "*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    run(*build, "--wheel", "--outdir", again, only(work / "unpacked", "*"), cwd=work)
    return Built(copy, only(out, "*.whl"), sdist, only(again, "*.whl"))


def fresh_venv(home: Path, *install: str | Path) -> Path:
    """The interpreter of a new venv with `install` in it, and this environment's dependencies by a .pth file.

    A folder that a .pth names has its own .pth files left unread, so an editable toolring doesn't leak in.
    """
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
    python = home / "bin" / "python"
    site = only(home / "lib", "python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", *install, cwd=home.parent)
    return python


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a user who installed the wheel."""
    return fresh_venv(tmp_path_factory.mktemp("user") / "venv", built.wheel)


def test_the_wheel_holds_every_file_of_the_house_under_its_one_name(built: Built) -> None:
    packed = contents(built.wheel)
    assert {name: data for name, data in packed.items() if ".dist-info/" not in name} == {
        name: path.read_bytes() for name, path in sources(built.copy)
    }
    assert "toolring/py.typed" in packed
    assert {name.partition("/")[0] for name in packed} == {"toolring", "toolring-0.1.0.dist-info"}


def test_the_wheel_says_what_it_needs_and_its_licence(built: Built) -> None:
    packed = contents(built.wheel)
    metadata = packed["toolring-0.1.0.dist-info/METADATA"].decode()
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "toolring-0.1.0.dist-info/licenses/LICENSE" in packed
    needs = {line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra" not in line}
    names = {line.split()[1].partition(">")[0] for line in needs}
    assert names == {"msgspec", "multiprocess", "pluggy", "psutil", "pyzmq", "setproctitle", "structlog", "xxhash"}
    scripts = packed["toolring-0.1.0.dist-info/entry_points.txt"].decode()
    assert "toolring = toolring.cli.main:main" in scripts


def test_the_sdist_makes_the_same_wheel(built: Built) -> None:
    assert contents(built.wheel_of_sdist) == contents(built.wheel)


def test_every_module_imports_from_the_installed_wheel(python: Path, tmp_path: Path) -> None:
    seen = json.loads(run(python, "-c", IMPORT_ALL, cwd=tmp_path))
    site = Path(seen["home"]).parents[1]
    assert site.is_relative_to(python.parents[1])
    assert all(Path(path).is_relative_to(site) for path in seen["files"].values())
    core = {"config", "errors", "lane", "protocol", "policy", "client", "cli.main"}
    core |= {f"supervisor.{name}" for name in ("core", "loop", "ledger", "fleet", "spawner")}
    core |= {f"workers.{name}" for name in ("loop", "runner", "catalog", "zygote")}
    core |= {f"plugins.{name}" for name in ("specs", "registry")}
    assert {f"toolring.{name}" for name in core} <= set(seen["files"])
    assert seen["second"] == []


def test_the_installed_command_answers(python: Path, tmp_path: Path) -> None:
    assert "toolring" in run(python.with_name("toolring"), "--help", cwd=tmp_path)


def test_a_users_script_type_checks_against_the_installed_wheel(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(USER_SCRIPT)
    mypy = (sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path / "cache")
    run(*mypy, "--strict", "--python-executable", python, script, cwd=tmp_path)


def test_an_editable_install_resolves_the_links(built: Built, tmp_path: Path) -> None:
    python = fresh_venv(tmp_path / "venv", "--editable", built.copy)
    seen = json.loads(run(python, "-c", IMPORT_ALL, cwd=tmp_path))
    files = {Path(path).resolve() for path in seen["files"].values()}
    assert built.copy / "supervisor" / "core.py" in files
    assert all(path.is_relative_to(built.copy) for path in files)
    assert seen["second"] == []

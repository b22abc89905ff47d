"""The configurations that ship: they load, and each of their values is there for a reason."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from toolring.config import flat, load

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.toml"))


def values(file: Path) -> dict[str, object]:
    tables = tomllib.loads(file.read_text())
    return {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}


def test_there_are_two() -> None:
    assert [file.stem for file in FILES] == ["development", "production"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads_and_says_where_each_value_came_from(file: Path) -> None:
    loaded = load(str(file), environment={})
    effective = flat(loaded.config)
    for name, value in values(file).items():
        found = effective[name]
        assert (list(found) if isinstance(found, tuple) else found) == value
        assert loaded.sources[name] == f"file {file}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_runs_as_it_is(file: Path) -> None:
    """It names no address, no module and no plugin that a machine may lack."""
    assert not {"node.bind", "node.tools", "plugins.load", "plugins.allow"} & set(values(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_value_has_a_comment(file: Path) -> None:
    """Above it, beside it, or above the run of lines that it belongs to."""
    explained = False
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif line.startswith("[") or not line:
            explained = False
        else:
            assert explained or "#" in line, line


def test_production_differs_from_development_where_it_matters() -> None:
    development, production = (load(str(file), environment={}).config for file in FILES)
    assert (development.log.format, production.log.format) == ("console", "json")
    assert development.timeouts.drain < production.timeouts.drain
    assert production.node.workers == 0

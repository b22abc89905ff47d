"""The configurations that ship: they load, and each of their values is there for a reason."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from toolring.config import flat, load
from toolring.policy.alerts import SEVERITIES
from toolring.supervisor.families import FAMILIES, Kind

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


# ---- what monitors a node


def samples() -> set[str]:
    """The names of all samples that a node exposes."""
    names = {"up"}
    for family in FAMILIES:
        endings = {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_count", "_sum")}
        names.update(family.name + ending for ending in endings[family.kind])
    return names


def labels(metric: str) -> set[str]:
    family = max((one for one in FAMILIES if metric.startswith(one.name)), key=lambda one: len(one.name))
    return {"le", *family.labels} if family.kind is Kind.HISTOGRAM else set(family.labels)


def expressions() -> Iterator[str]:
    groups = yaml.safe_load((ROOT / "configs/prometheus/alerts.yml").read_text())["groups"]
    yield from (rule["expr"] for group in groups for rule in group["rules"])
    dashboard = json.loads((ROOT / "configs/grafana/toolring.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))


def test_alert_rules_and_dashboard_ask_for_metrics_and_labels_that_there_are() -> None:
    known = samples()
    for expression in expressions():
        asked = re.findall(r"(toolring_\w+)(?:\{([^}]*)\})?", expression)
        assert asked or "up{" in expression, expression
        for metric, selector in asked:
            assert metric in known, expression
            named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - {"instance", "job"}
            assert named <= labels(metric), expression


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    groups = yaml.safe_load((ROOT / "configs/prometheus/alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["labels"]["severity"] in SEVERITIES
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_metric_is_on_the_dashboard() -> None:
    text = (ROOT / "configs/grafana/toolring.json").read_text()
    assert [family.name for family in FAMILIES if not re.search(rf"{family.name}(_total|_bucket|_sum)?\{{", text)] == []


def test_the_dashboards_panels_have_places_of_their_own() -> None:
    panels = json.loads((ROOT / "configs/grafana/toolring.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells

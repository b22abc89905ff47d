"""The fixed list, its documentation, and what Prometheus asks of names."""

from __future__ import annotations

import re
from pathlib import Path

from toolring.supervisor.families import FAMILIES, Family, Kind

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(toolring_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", re.M)


def row(family: Family) -> tuple[str, ...]:
    name = family.name + ("_total" if family.kind is Kind.COUNTER else "")
    return name, family.kind, ", ".join(f"`{label}`" for label in family.labels) or "-", family.help


def test_the_documentation_lists_the_same() -> None:
    assert ROW.findall(PAGE.read_text()) == [row(family) for family in FAMILIES]


def test_names_are_as_prometheus_wants_them() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"toolring(_[a-z]+)+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels)
        assert (family.kind is Kind.HISTOGRAM) <= (family.unit == "seconds")
        assert family.help.endswith(".")

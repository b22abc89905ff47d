from __future__ import annotations

import pytest

from toolring.spec import ToolSpec
from toolring.supervisor.catalogue import FLOOR_COST, UNKNOWN_COST, ServedTool


@pytest.fixture
def served() -> ServedTool:
    return ServedTool(ToolSpec(name="tool", read_only=True, timeout=2.0), None)


def test_an_unknown_tool_counts_as_slow(served: ServedTool) -> None:
    assert served.cost == UNKNOWN_COST
    assert (served.name, served.repeatable) == ("tool", True)


def test_the_first_run_is_believed_and_later_ones_move_it(served: ServedTool) -> None:
    served.observe(1000)
    assert served.cost == pytest.approx(0.001)
    served.observe(9000)
    assert served.cost == pytest.approx(0.002)
    for _ in range(100):
        served.observe(5000)
    assert served.cost == pytest.approx(0.005, rel=0.01)


def test_a_run_is_never_free(served: ServedTool) -> None:
    for _ in range(100):
        served.observe(0)
    assert served.cost == FLOOR_COST


def test_figures(served: ServedTool) -> None:
    assert served.figures()["mean_run_seconds"] is None
    served.answered = 2
    served.observe(1000)
    served.observe(3000)
    served.errors["BUSY"] = 1
    figures = served.figures()
    assert figures["mean_run_seconds"] == pytest.approx(0.002)
    assert figures["errors"] == {"BUSY": 1}
    figures["errors"]["BUSY"] = 9
    assert served.errors == {"BUSY": 1}, "who reads figures changes nothing"

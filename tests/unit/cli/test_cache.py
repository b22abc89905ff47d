from __future__ import annotations

import pytest

from toolring.cli.main import main


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["invalidate"], "say what"),
        (["clear", "--tool", "x"], "clear takes no --tool"),
        (["stats", "--tag", "x"], "stats takes no --tool"),
        (["invalidate", "--tag", "x", "--key", "a=1"], "--key needs the --tool"),
        (["invalidate", "--tool", "x", "--partition", "p"], "--partition needs the --key"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_node_is_asked(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *words, "--address", "ipc:///nowhere"]) == 2
    assert why in capsys.readouterr().err

from __future__ import annotations

import pytest

from toolring.cli.main import main


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["invalidate"], "say what"),
        (["invalidate", "--json"], "say what"),
        (["invalidate", "--key", "a=1"], "say what"),
        (["invalidate", "--partition", "p"], "say what"),
        (["clear", "--tag", "x"], "clear takes no --tool"),
        (["clear", "--key"], "clear takes no --tool"),
        (["clear", "--partition", "p"], "clear takes no --tool"),
        (["stats", "--tool", "x"], "stats takes no --tool"),
        (["invalidate", "--tag", "x", "--partition", "p"], "--partition needs the --key"),
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


@pytest.mark.parametrize("words", [[], ["forget"], ["invalidate", "--tool"], ["clear", "--all"]])
def test_bad_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cache", *words])
    assert caught.value.code == 2
    assert "usage: toolring" in capsys.readouterr().err

from __future__ import annotations

import msgspec
import pytest

from toolring.spec import ToolSpec


@pytest.mark.parametrize(
    ("policy", "repeatable"),
    [({}, False), ({"read_only": True}, True), ({"idempotent": True}, True), ({"destructive": False}, False)],
)
def test_only_what_reads_or_is_idempotent_may_run_again(policy: dict[str, bool], repeatable: bool) -> None:
    assert ToolSpec(name="x", **policy).repeatable is repeatable  # type: ignore[arg-type]


def test_a_cache_or_an_affinity_makes_the_worker_matter() -> None:
    assert not ToolSpec(name="x").routed
    assert ToolSpec(name="x", cache=1.0).routed
    assert ToolSpec(name="x", affinity="a").routed


def test_defaults_are_not_sent_and_unknown_fields_are_ignored() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ToolSpec(name="x"))) == {"name": "x"}
    assert msgspec.convert({"name": "x", "newer": 1}, ToolSpec) == ToolSpec(name="x")

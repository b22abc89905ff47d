from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring.client.routes import Key, factory_of, key_bytes, weights_of
from toolring.errors import ConfigError, InvalidArguments

A, B = "ipc:///a.sock", "ipc:///b.sock"


@given(st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.binary())))
def test_keys_are_in_the_order_of_their_bytes(keys: list[Key]) -> None:
    assert sorted(keys) == sorted(keys, key=key_bytes)


@pytest.mark.parametrize("key", [1.5, True, None, 2**63, ["a"]])
def test_what_is_no_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidArguments, match="is no key"):
        key_bytes(key)  # type: ignore[arg-type]


def test_a_key_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(InvalidArguments, match=r"route '\\ud800' can't be encoded") as caught:
        key_bytes("\ud800")
    assert caught.value.facts["argument"] == "route"


def test_nodes_are_addresses_or_addresses_with_weights() -> None:
    assert weights_of([A, B]) == {A: 1.0, B: 1.0}
    assert weights_of({A: 2, B: 0.5}) == {A: 2.0, B: 0.5}


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (A, "is not a list of addresses"),
        (5, "is not a list of addresses"),
        ([5], "5 is not the address of a node"),
        ([A, A], "is there twice"),
        *[({A: weight}, "is not a positive number") for weight in (0, -1.0, float("inf"), True, "1")],
    ],
)
def test_nodes_that_make_no_sense_are_refused(nodes: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        weights_of(nodes)


def test_a_strategy_is_known_by_name() -> None:
    assert factory_of("p2c", {}) is not factory_of("consistent_hash", {})
    with pytest.raises(ConfigError, match=r"no strategy 'modulo'; there is .*consistent_hash.*range"):
        factory_of("modulo", {})
    with pytest.raises(ConfigError, match="ranges= does nothing with strategy='random'"):
        factory_of("random", {A: ""})

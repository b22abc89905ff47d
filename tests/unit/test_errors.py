from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolring import errors
from toolring.cli.main import EPILOG
from toolring.errors import BY_CODE, Busy, Conflict, Draining, ToolError, ToolringError, from_wire
from toolring.protocol import decode_value, encode

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ToolringError)]
facts = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in ("code", "message")),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8) | st.binary(max_size=8),
    max_size=4,
)


def test_every_class_has_a_code_of_its_own() -> None:
    assert {kind.code: kind for kind in KINDS} == dict(BY_CODE)
    assert len(KINDS) == len(BY_CODE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_documented_and_has_an_exit_status(kind: type[ToolringError]) -> None:
    assert kind.__doc__
    assert kind.code == kind.code.upper()
    assert 1 <= kind.exit_status <= 8
    assert f" {kind.exit_status} " in EPILOG.replace("\n", " ")


@pytest.mark.parametrize("kind", KINDS)
@given(message=st.text(max_size=20), known=facts)
def test_an_error_survives_the_wire_and_pickling(
    kind: type[ToolringError], message: str, known: dict[str, object]
) -> None:
    error = kind(message)
    error.facts = dict(known)
    for again in (
        from_wire(decode_value(encode(error.to_wire()))),
        pickle.loads(pickle.dumps(error)),
        copy.copy(error),
    ):
        assert type(again) is kind
        assert str(again) == again.message == message
        assert again.facts == known
        assert again.code == kind.code


def test_an_unknown_code_is_kept() -> None:
    error = from_wire({"code": "FROM_THE_FUTURE", "message": "hello", "n": 1})
    assert type(error) is ToolringError
    assert (error.code, error.message, error.facts) == ("FROM_THE_FUTURE", "hello", {"n": 1})
    assert pickle.loads(pickle.dumps(error)).code == "FROM_THE_FUTURE"
    assert ToolringError.code == "ERROR", "the class is untouched"


def test_a_map_that_lacks_everything_is_still_an_error() -> None:
    assert str(from_wire({})) == ""
    odd: dict[Any, Any] = {"code": 3, "message": None, 7: 1}
    assert from_wire(odd).facts == {"7": 1}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_a_fact_may_bear_any_name(data: dict[str, object]) -> None:
    from_wire({**data, "self": 1, "kind": 2, "message": "m"})


def test_kinds_are_caught_by_their_parents() -> None:
    with pytest.raises(Busy):
        raise Draining("going down", retry_after=1.0)
    assert Draining("x").retryable
    assert not Conflict("x").retryable
    assert issubclass(errors.InvalidResult, ToolError)


def test_the_tree_has_one_root() -> None:
    for kind in KINDS:
        assert issubclass(kind, ToolringError)
    assert Path(errors.__file__).read_text().count("(Exception)") == 1

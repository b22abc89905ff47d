from __future__ import annotations

import re
from math import inf, nan
from typing import Any

import pytest

from toolring.workers.pools.policy import PoolPolicy


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"max": 2.5}, "max=2.5 is not a whole number"),
        ({"max": "3"}, "max='3' is not a whole number"),
        ({"min": True}, "min=True is not a whole number"),
        ({"acquire_timeout": "5"}, "acquire_timeout='5' is not a number of seconds"),
        ({"create_timeout": None}, "create_timeout=None is not a positive number of seconds"),
        ({"max": 0}, "max=0 must be at least 1"),
        ({"min": -1}, "min=-1 is negative"),
        ({"min": 5, "max": 4}, "min=5 is more than max=4"),
        ({"max_uses": -1}, "max_uses=-1 is negative"),
        ({"max_waiting": -2}, "max_waiting=-2 is negative"),
        ({"acquire_timeout": -1.0}, "acquire_timeout=-1.0 is not a number of seconds"),
        ({"idle_timeout": inf}, "idle_timeout=inf is not a number of seconds"),
        ({"max_lifetime": nan}, "max_lifetime=nan is not a number of seconds"),
        ({"validate_after": -0.1}, "validate_after=-0.1 is not a number of seconds"),
        ({"keepalive": -0.1}, "keepalive=-0.1 is not a number of seconds"),
        ({"leak_after": -0.1}, "leak_after=-0.1 is not a number of seconds"),
        ({"create_timeout": 0.0}, "create_timeout=0.0 is not a positive number of seconds"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        PoolPolicy(**said)

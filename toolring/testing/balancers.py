"""The contract of a balancer."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from toolring.policy.balance import REQUESTS, SECONDS, Balancer, Members
from toolring.policy.ring import hash64


class BalancerContract:
    """What whoever places jobs asks of a balancer.

    ``factory`` takes the Members, as ``toolring_balancers`` offers it.
    """

    factory: ClassVar[Any]

    def _balancer(self, members: Members) -> Balancer:
        factory: Callable[[Members], Balancer] = inspect.getattr_static(type(self), "factory")
        return factory(members)

    @staticmethod
    def _members(count: int, seed: int = 0, **more: Any) -> Members:
        names = tuple(f"member-{number}" for number in range(count))
        return Members(names, random=random.Random(seed).random, **more)

    def test_nobody_places_a_job_where_nobody_can_take_it(self) -> None:
        loads = st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=8)
        able = loads.filter(lambda found: any(load is not None for load in found))

        @settings(max_examples=100, deadline=None)
        @given(able, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.sampled_from([SECONDS, REQUESTS]))
        def check(loads: list[float | None], points: list[int], unit: str) -> None:
            balancer = self._balancer(self._members(len(loads), unit=unit))
            for point in points:
                at = balancer.place(point if balancer.keyed else 0, loads)
                assert loads[at] is not None, f"place() chose member {at} of {loads}"
                if hasattr(balancer, "took"):
                    balancer.took(at, 0.01)

        check()

    def test_everybody_gets_something(self) -> None:
        balancer = self._balancer(self._members(4))
        held = [0] * 4
        for number in range(4000):
            at = balancer.place(hash64(b"%d" % number) if balancer.keyed else 0, held)
            held[at] += 1
        assert min(held) > 400, f"of 4,000 jobs the members got {held}"

    def test_the_same_key_goes_to_the_same_member_in_every_process(self) -> None:
        one, other = (self._balancer(self._members(5, seed)) for seed in (1, 2))
        if not one.keyed:
            return
        for number in range(200):
            point = hash64(b"%d" % number)
            assert one.place(point, [0] * 5) == other.place(point, [0] * 5)

    def test_a_lost_member_takes_no_other_members_keys_along(self) -> None:
        balancer = self._balancer(self._members(5))
        if not balancer.keyed:
            return
        for number in range(500):
            point = hash64(b"%d" % number)
            home = balancer.place(point, [0] * 5)
            if home != 2:
                assert balancer.place(point, [0, 0, None, 0, 0]) == home

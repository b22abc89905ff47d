"""The balancers that ship with toolring, under the contract that a plugin's author runs."""

from __future__ import annotations

from toolring.policy import balance
from toolring.testing import BalancerContract


class TestLeastOutstanding(BalancerContract):
    factory = balance.LeastOutstanding


class TestPeakEWMA(BalancerContract):
    factory = balance.PeakEWMA


class TestRandom(BalancerContract):
    factory = balance.Random


class TestRendezvous(BalancerContract):
    factory = balance.Rendezvous


class TestRing(BalancerContract):
    factory = balance.RingOverflow


class TestRoundRobin(BalancerContract):
    factory = balance.RoundRobin


class TestTwoChoices(BalancerContract):
    factory = balance.TwoChoices

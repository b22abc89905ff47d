"""Real memory of real processes. Time is the test's own: a second a step, however long that takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.process import kit
from toolring.heap import KEPT_BYTES, LARGEST_KEPT, SPARE_BYTES, give_back
from toolring.probe import descendants, unshared

MB = 1 << 20

WORKER = """
import gc, json, sys
from toolring.policy.memory import Action, MemoryPolicy, Warden
from toolring.workers.allocations import Allocations
from toolring.probe import Probe, trim

leak, cache, block = int(sys.argv[1]), int(sys.argv[2]), 1000
now = 0.0
probe = Probe(clock=lambda: now)
warden = Warden(MemoryPolicy(rss=probe.snapshot().rss + (150 << 20)))
kept, caches, actions, alerts, returned = [], [], [], [], 0
gc.disable()
for step in range(600):
    now += 1.0
    kept.append(b"x" * leak)
    caches += [b"x" * block for _ in range(cache // block)]
    for _ in range(5):
        ring = [bytearray(100_000)]
        ring.append(ring)
    if step % 40 == 39:
        gc.collect()
    action, found = warden.look(probe.snapshot(thorough=step % 100 == 0))
    alerts += [(alert.kind, alert.value) for alert in found]
    if action is None:
        continue
    actions.append(action)
    if action is Action.TRIM:
        caches.clear()
    returned += trim().returned
    warden.done(now)
print(json.dumps([actions, alerts, returned, probe.snapshot().full]))
"""


def worker(leak: int, cache: int) -> tuple[list[str], dict[str, float], int, int]:
    """Actions, alerts by kind, bytes that came back, full collections of ten minutes with so many bytes a second."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(leak), str(cache)],
        capture_output=True,
        text=True,
        check=True,
        env=kit.environment(),
    )
    actions, alerts, returned, full = json.loads(done.stdout)
    return actions, dict(alerts), returned, full


def test_a_real_leak_is_found_under_a_real_sawtooth() -> None:
    _, alerts, _, full = worker(50_000, 0)
    assert 25_000 < alerts["leak"] < 150_000, "the heap has gaps, so it grows faster than what is kept"
    assert full >= 15


def test_the_sawtooth_alone_is_none() -> None:
    actions, alerts, _, _ = worker(0, 0)
    assert (actions, alerts) == ([], {})


def test_a_cache_that_grew_too_large_is_trimmed_and_that_helps() -> None:
    actions, alerts, returned, _ = worker(0, 300_000)
    assert actions[-1:] == ["trim"]
    assert "rss" in alerts
    assert returned > 100 * MB


def test_children_and_theirs_are_found_with_what_they_hold() -> None:
    code = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        try:
            found: list[int] = kit.eventually(lambda: both(child.pid), "the child's child")
            assert all(kit.alive(pid) for pid in found)
            size: Any = unshared(child.pid)
            assert size > MB
        finally:
            for pid in descendants(child.pid):
                kit.kill_one(pid)
            child.kill()


def both(pid: int) -> list[int] | None:
    below = descendants(pid)
    return [pid, *below] if below and set(below) < set(descendants(os.getpid())) else None


@pytest.mark.skipif(not give_back(), reason="malloc isn't glibc's")
def test_a_large_block_is_found_again_and_given_back_in_the_end() -> None:
    code = f"""
import os
from toolring.heap import give_back, keep_freed
from toolring.probe import Resident
assert keep_freed()
resident = Resident()
before = resident()
for _ in range(3):
    block = bytearray(b"x") * {LARGEST_KEPT - 4096}
    del block
assert resident() - before > {LARGEST_KEPT // 2}, "it is kept"
block = bytearray(b"x") * {KEPT_BYTES * 2}
del block
assert resident() - before < {KEPT_BYTES + LARGEST_KEPT}, "one that is larger isn't"
give_back()
assert resident() - before < {SPARE_BYTES}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

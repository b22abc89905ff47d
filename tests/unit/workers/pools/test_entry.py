from __future__ import annotations

import pytest

from toolring.workers.pools.entry import TABLE, Entry, IllegalStep, State


def test_what_cannot_happen_raises_and_changes_nothing() -> None:
    for state in State:
        for following in State:
            entry = Entry(1.0)
            entry.state = state
            if following in TABLE[state]:
                entry.go(following, 2.0)
                assert (entry.state, entry.since) == (following, 2.0)
            else:
                with pytest.raises(IllegalStep, match=f"from {state.name} to {following.name}"):
                    entry.go(following, 2.0)
                assert (entry.state, entry.since) == (state, 1.0)

"""Both tables of states, whole: what is legal moves as the table says, all else raises and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from toolring.lane import Lanes
from toolring.policy.groups import Group
from toolring.spec import ToolSpec
from toolring.supervisor.accounts import Account
from toolring.supervisor.catalogue import ServedTool
from toolring.supervisor.fleet import Change, Fleet, IllegalChange, Life, Worker
from toolring.supervisor.ledger import FINAL, Entry, Event, IllegalEvent, Session, State, step

S, E = State, Event
ENDS = {E.FAIL: S.FAILED, E.CANCEL: S.CANCELLED, E.EXPIRE: S.EXPIRED}
LEGAL = {
    S.QUEUED: {E.DISPATCH: S.DISPATCHED, E.GATHER: S.BATCHED, E.LOSE: S.OUTCOME_UNKNOWN, **ENDS},
    S.DISPATCHED: {
        E.TAKE_BACK: S.QUEUED,
        E.REPEAT: S.QUEUED,
        E.SUCCEED: S.DONE,
        E.LOSE: S.OUTCOME_UNKNOWN,
        E.POISON: S.POISONED,
        E.DELAY: S.DELAYED,
        **ENDS,
    },
    S.BATCHED: {
        E.TAKE_BACK: S.QUEUED,
        E.SUCCEED: S.DONE,
        E.LOSE: S.OUTCOME_UNKNOWN,
        E.POISON: S.POISONED,
        E.DELAY: S.DELAYED,
        **ENDS,
    },
    S.DELAYED: {E.RELEASE: S.QUEUED, **ENDS},
    S.JOINED: {E.SUCCEED: S.DONE, **ENDS},
}
"""Written down a second time, on purpose: the promise, not the code."""


def entry(state: State = S.QUEUED) -> Entry:
    tool = ServedTool(ToolSpec(name="tool"), None)
    return Entry(
        Session(b"\1" * 16, b"route", "me"), 7, tool, Raw(b"\x80"), 60.0, 0.0, Account("me"), 60.0, state=state
    )


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_event_in_every_state(state: State, event: Event) -> None:
    job = entry(state)
    target = LEGAL.get(state, {}).get(event)
    if target is None:
        with pytest.raises(IllegalEvent, match=f"{event.name} in state {state.name}"):
            step(job, event)
        assert job.state is state
    else:
        step(job, event)
        assert job.state is target


def test_final_states_are_those_that_nothing_leaves() -> None:
    assert {S.DONE, S.FAILED, S.CANCELLED, S.EXPIRED, S.OUTCOME_UNKNOWN, S.POISONED} == FINAL
    assert {state for state in State if entry(state).final} == FINAL


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_no_history_ends_a_job_twice(events: list[Event]) -> None:
    job = entry()
    ended = 0
    for event in events:
        before = job.state
        try:
            step(job, event)
        except IllegalEvent:
            assert job.state is before
        else:
            ended += job.final
    assert ended <= 1
    assert bool(ended) == job.final


def test_an_illegal_event_names_the_job() -> None:
    with pytest.raises(IllegalEvent, match=f"job {'01' * 16}-7"):
        step(entry(S.DONE), E.CANCEL)


# ---- workers

L, C = Life, Change
LIVES = {
    L.STARTING: {C.STAND_BY: L.STANDBY, C.READY: L.READY, C.RETIRE: L.RETIRING, C.END: L.ENDING, C.EXIT: L.GONE},
    L.STANDBY: {C.READY: L.READY, C.END: L.ENDING, C.EXIT: L.GONE},
    L.READY: {C.RETIRE: L.RETIRING, C.END: L.ENDING, C.EXIT: L.GONE},
    L.RETIRING: {C.READY: L.RETIRING, C.END: L.ENDING, C.EXIT: L.GONE},
    L.ENDING: {C.READY: L.ENDING, C.EXIT: L.GONE},
    L.GONE: {},
}


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes(3)
    yield lanes
    lanes.close()


@pytest.mark.parametrize("life", Life)
@pytest.mark.parametrize("change", Change)
def test_every_change_in_every_life(lanes: Lanes, life: Life, change: Change) -> None:
    worker = hired(Fleet([Group("default", 1)], lanes.all))
    worker.life = life
    target = LIVES[life].get(change)
    if target is None:
        with pytest.raises(IllegalChange, match=f"{change.name} in state {life.name}"):
            worker.step(change)
        assert worker.life is life
    else:
        worker.step(change)
        assert worker.life is target


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*Change, None])), max_size=60))
def test_slots_lanes_and_the_ready_agree_with_the_lives_of_workers(moves: list[tuple[int, Change | None]]) -> None:
    lanes = Lanes(4)
    fleet = Fleet([Group("default", 2)], lanes.all)
    known: list[Worker] = []
    for pick, change in moves:
        if change is None:
            slot, code = fleet.slots[pick % 2], 1 + pick // 2 % 2
            if (slot.worker if code == fleet.code else slot.successor) is None:
                worker = fleet.hire(slot, 0.0, code)
                if worker is None:
                    assert len(fleet.workers) == 4
                else:
                    known.append(worker)
        elif fleet.workers:
            worker = list(fleet.workers.values())[pick % len(fleet.workers)]
            if change is (C.STAND_BY if worker.code == fleet.code else C.READY):
                continue  # who has other code stands by, and only they do
            try:
                fleet.change(worker, change)
            except IllegalChange:
                pass
        alive = [worker for worker in known if worker.life is not L.GONE]
        assert list(fleet.workers.values()) == alive
        assert fleet.ready == [worker for worker in alive if worker.life is L.READY]
        assert len(fleet.free) + len(alive) == 4
        assert len({worker.lane.index for worker in alive}) == len(alive), "a lane is used by two"
        for slot in fleet.slots:
            assert slot.worker is None or slot.worker.life in (L.STARTING, L.READY)
            assert slot.worker is None or slot.worker.code == fleet.code
            assert slot.successor is None or slot.successor.life in (L.STARTING, L.STANDBY)
        assert len({worker.identity for worker in known}) == len(known)
    lanes.close()


def hired(fleet: Fleet) -> Worker:
    worker = fleet.hire(fleet.slots[0], 0.0)
    assert worker is not None
    return worker

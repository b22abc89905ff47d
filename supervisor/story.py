"""The life of one job, told to whoever asks: from its entry, and what was written down about it (``history.py``).

A list of events, each with seconds since the job was accepted (None: it isn't known when), one word for what it is,
its facts, and a sentence. What ran for a job, alone, for several callers or for a batch, is part of its life.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from toolring import protocol
from toolring.protocol import CACHED, LAYER_SHIFT, REPLAYED, STALE
from toolring.supervisor.core import Core
from toolring.supervisor.history import Happened, Held
from toolring.supervisor.ledger import Entry, State
from toolring.supervisor.waiting import busy_with, place

Event = dict[str, Any]
WORTH_TELLING: Final = 1e-3
"""Seconds of waiting for a worker, or of its work."""
MOST_TOOLS: Final = 5
MOST_MESSAGE: Final = 200
"""Characters of an error in a list."""
_LAYER_BITS: Final = 0xFF


def story(core: Core, one: Entry | Held, now: float, clock: float, layers: tuple[str, ...]) -> dict[str, Any]:
    """``clock`` is what the time of day was at 0 of ``now``; ``layers`` names those of the cache."""
    if isinstance(one, Held):
        return _held(one, clock)
    runs = _runner(one)
    events = [_accepted(one), *_of_both(one, runs)]
    events += _lacked_workers(core, one, runs)
    if not one.final:
        events += _in_hand(core, one, runs, now)
    elif runs.sent and not _is_told(runs):
        events.append(_sent(one, runs))
    events += _answered(one, runs, layers) if one.final else []
    worker = runs.worker
    return {
        "job": one.name,
        "tool": one.tool.name,
        "caller": one.account.name,
        "state": _state(one, runs),
        "attempt": runs.attempt,
        "accepted": round(one.accepted + clock, 6),
        "seconds": round((one.ended or now) - one.accepted, 6),
        "queued": round(runs.sent - one.accepted, 6) if runs.sent > one.accepted else None,
        "run": round(runs.run_us * 1e-6, 6) if one.final and runs.run_us else None,
        "worker": None if worker is None else worker.pid,
        "events": events,
        "output": _output(one, runs),
        "error": error_of(one),
    }


def _is_told(runs: Entry) -> bool:
    """Is its last attempt among what happened to it, because it was lost or came to another end?"""
    return runs.past is not None and any(one.facts.get("sent") == runs.sent for one in runs.past.events)


def row(one: Entry | Held, now: float) -> dict[str, Any]:
    """One line of a list."""
    if isinstance(one, Held):
        account = one.session.account
        return {
            "job": one.name,
            "tool": one.tool.name,
            "caller": one.session.caller if account is None else account.name,
            "state": "done",
            "code": "",
            "type": "",
            "message": "",
            "attempt": 1,
            "seconds": 0.0,
            "run": None,
            "ago": round(now - one.ended, 3),
            "worker": None,
        }
    runs = _runner(one)
    error = error_of(one) or {}
    return {
        "job": one.name,
        "tool": one.tool.name,
        "caller": one.account.name,
        "state": _state(one, runs),
        "code": error.get("code", ""),
        "type": str(error.get("type", ""))[:MOST_MESSAGE],
        "message": str(error.get("message", ""))[:MOST_MESSAGE],
        "attempt": runs.attempt,
        "seconds": round(one.ended - one.accepted, 6),
        "run": round(runs.run_us * 1e-6, 6) if runs.run_us else None,
        "ago": round(now - one.ended, 3),
        "worker": None if runs.worker is None else runs.worker.pid,
    }


def seconds(one: Entry | Held) -> float:
    """From its acceptance to its answer."""
    return 0.0 if isinstance(one, Held) else one.ended - one.accepted


def state_of(entry: Entry) -> str:
    worker = entry.worker
    if entry.state is State.DISPATCHED and worker is not None:
        return "running" if worker.begun(worker.number_of(entry)) else "dispatched"
    return State(entry.state).name.lower()


def _state(entry: Entry, runs: Entry) -> str:
    """What became of a run is told to those who waited for it as a failure, whatever it was."""
    if joined(entry):
        return "joined"
    if entry.final and not (entry.state is State.FAILED and runs.state > State.FAILED):
        return state_of(entry)
    return state_of(runs)


def joined(entry: Entry) -> bool:
    """Does it wait for what is another's run, in the first place? Of those who wait, the first stands for it."""
    record = entry.record
    return entry.state is State.JOINED and record is not None and record.waiting[0] is not entry


def error_of(entry: Entry) -> dict[str, Any] | None:
    if entry.past is None or not entry.past.error:
        return None
    try:
        return dict(protocol.decode_value(entry.past.error))
    except (ValueError, TypeError, RecursionError):
        return {"code": "ERROR", "message": "its error can't be read"}


def _held(one: Held, clock: float) -> dict[str, Any]:
    text = "answered at once: done, with a result that the supervisor held; no worker was asked"
    answered = {"at": 0.0, "what": "answered", "text": text, "layer": "supervisor"}
    return {
        **row(one, one.ended),
        "accepted": round(one.ended + clock, 6),
        "events": [answered],
        "output": [],
        "error": None,
    }


def _output(entry: Entry, runs: Entry) -> list[dict[str, Any]]:
    """What its tool wrote, in all attempts."""
    pasts = [one.past for one in ((entry,) if runs is entry else (entry, runs)) if one.past is not None]
    told = [{**line._asdict(), "at": _since(entry, line.at)} for past in pasts for line in past.output]
    if forgotten := sum(past.forgotten for past in pasts):
        text = f"{forgotten} lines had to leave, since all that is kept has a limit"
        told.insert(0, {"at": None, "attempt": 1, "stream": "dropped", "level": "", "text": text})
    return told


def _runner(entry: Entry) -> Entry:
    """What ran, or will run, for it in the end."""
    runs = entry.run
    while runs.carrier is not None and runs.carrier is not runs and runs.final:
        runs = runs.carrier
    return runs


def _accepted(entry: Entry) -> Event:
    caller = f"from caller {entry.account.name!r}" if entry.account.name else "from a caller without a name"
    line = f"{entry.behind} jobs waited in the node" if entry.behind else "nothing waited"
    limit = f"; its deadline {entry.deadline - entry.accepted:.3f} s later"
    return {"at": 0.0, "what": "accepted", "behind": entry.behind, "text": f"accepted {caller}; {line}{limit}"}


def _of_both(entry: Entry, runs: Entry) -> Iterator[Event]:
    """What was written down about it, and about what ran for it."""
    for one in (entry,) if runs is entry else (entry, runs):
        past = one.past
        if past is None:
            continue
        for happened in past.events:
            yield from _told(entry, happened)
        if past.more:
            yield {"at": None, "what": "more", "text": f"and {past.more} further events, for which there was no room"}


def _told(entry: Entry, happened: Happened) -> Iterator[Event]:
    facts = dict(happened.facts)
    sent, ended = facts.pop("sent", 0.0), facts.pop("ended", None)
    due = facts.pop("due", None)
    where = f"worker {facts['slot']} (pid {facts['worker']})" if "slot" in facts else "its worker"
    if sent and happened.what != "joined":
        text = f"attempt {facts['attempt']}: sent to {where}"
        yield {"at": _since(entry, sent), "what": "sent", **facts, "text": text}
    text = ""
    if happened.what == "taken_back":
        text = f"taken back from {where} before it had begun, for others to run"
    elif happened.what == "taken_out":
        text = "taken out of a run that ended for another's sake; it runs again"
    elif happened.what == "failed":
        wait = f"; tried again after {due - ended:.3f} s" if due is not None and ended is not None else ""
        text = f"attempt {facts['attempt']} failed: {facts.get('code')}: {facts.get('message')}{wait}"
    elif happened.what == "worker_lost":
        then = "while its tool ran" if facts["begun"] else "before its tool was called"
        text = f"{where} was lost {then}: {facts['cause']}"
    elif happened.what == "joined":
        text = f"waited for the answer of job {facts['job']}, which has the same key or arguments"
    elif happened.what == "calls_failed":
        codes = ", ".join(f"{code} {count:,}" for code, count in facts["failed"].items())
        text = f"{sum(facts['failed'].values()):,} of its {facts['calls']:,} calls failed: {codes}"
    elif happened.what == "waited":
        until = ", until then" if ended is not None else ""
        text = f"waited for {facts['waits_for']}, by the limits of {facts['of']}{until}"
    elif happened.what == "moved":
        text = "its tool's code was reloaded: it waits in another line, or for other limits"
    yield {"at": _since(entry, ended), "what": happened.what, **facts, "text": text}


def _lacked_workers(core: Core, entry: Entry, runs: Entry) -> Iterator[Event]:
    """How long no worker had room for it, and what they ran meanwhile; after whatever else held it."""
    until = runs.sent if runs.sent and runs.sent >= runs.waits_since else entry.ended
    past = [] if runs.past is None else runs.past.events
    held = [float(one.facts["ended"]) for one in past if one.what == "waited" and one.facts.get("ended")]
    since = max([runs.waits_since, *held])
    never_free = any(one.what == "waited" and not one.facts.get("ended") for one in past)
    group = runs.tool.group
    if until - since < WORTH_TELLING or never_free or runs.members is not None:
        return
    with_what = [(name, seconds) for name, seconds in busy_with(core, group, since, until) if seconds >= WORTH_TELLING]
    shown = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in with_what[:MOST_TOOLS])
    ran = f"; meanwhile they ran {shown}" if shown else ""
    text = f"waited for a worker of group {group.name} for {until - since:.3f} s{ran}"
    yield {"at": _since(entry, until), "what": "queued", "group": group.name, "ran": dict(with_what), "text": text}


def _in_hand(core: Core, entry: Entry, runs: Entry, now: float) -> Iterator[Event]:
    """Of one that isn't over."""
    if joined(entry):
        text = f"waits for the answer of job {runs.name}, which has the same key or arguments"
        yield {"at": None, "what": "joined", "job": runs.name, "text": text}
    if runs.state is State.DISPATCHED:
        yield _sent(entry, runs)
        runs_now = state_of(runs) == "running"
        text = "its tool runs" if runs_now else "it has not begun there"
        yield {"at": _since(entry, now), "what": state_of(runs), "text": f"{text}, {now - runs.sent:.3f} s after that"}
        return
    found = place(core, runs, now)
    if found:
        ahead = f", {found['position']} before it" if "position" in found else ""
        text = f"waits for {found['waits_for']}{ahead}; about {found['wait']:.3f} s more"
        yield {"at": _since(entry, now), "what": "waits", **found, "text": text}


def _sent(entry: Entry, runs: Entry) -> Event:
    worker = runs.worker
    if worker is None:
        return {"at": _since(entry, runs.sent), "what": "sent", "text": "sent to a worker"}
    many = f", in one run of {runs.chunk} calls" if runs.chunk else ""
    text = f"attempt {runs.attempt}: sent to worker {worker.slot.index} (pid {worker.pid}){many}: {_why(runs)}"
    return {
        "at": _since(entry, runs.sent),
        "what": "sent",
        "attempt": runs.attempt,
        "worker": worker.pid,
        "slot": worker.slot.index,
        "why": _why(runs),
        "text": text,
    }


def _why(entry: Entry) -> str:
    """Why it ran where it did."""
    worker, tool = entry.worker, entry.tool
    assert worker is not None
    group = worker.slot.group
    if entry.alone:
        return "to be alone, since it may have killed a worker"
    balancer = tool.balancer
    if balancer is None or balancer.broken:
        return f"it had the least work in hand of group {group.name}"
    if not balancer.keyed or entry.point < 0:
        return f"the balancer {balancer.name} chose it"
    home = balancer.place(entry.point, [0.0] * len(group.slots))
    if home is None or group is not tool.group:
        return f"its key's place, by the balancer {balancer.name}"
    if home == worker.slot.place:
        return f"its key belongs there, by the balancer {balancer.name}"
    slot = group.slots[home].index
    return (
        f"its key belongs to worker {slot}, by the balancer {balancer.name}, which had too much to do, or was not there"
    )


def _answered(entry: Entry, runs: Entry, layers: tuple[str, ...]) -> Iterator[Event]:
    at = _since(entry, entry.ended)
    said = _cache(entry, runs, layers)
    if said:
        yield {"at": at, "what": "cache", "text": said}
    if runs.begun:
        yield {"at": at, "what": "interrupted", "text": "its tool was running, and was made to end"}
    error = error_of(entry)
    ran = f"; its run took {runs.run_us * 1e-6:.6f} s" if runs.run_us else ""
    if error is None:
        yield {"at": at, "what": "answered", "text": f"answered: done{ran}"}
    else:
        text = f"answered: {error.get('code')}: {error.get('message')}{ran}"
        yield {"at": at, "what": "answered", "code": error.get("code"), "text": text}


def _cache(entry: Entry, runs: Entry, layers: tuple[str, ...]) -> str:
    flags = entry.flags
    if flags & REPLAYED:
        return "the answer was that of an earlier submission under its key"
    if flags & CACHED:
        layer = flags >> LAYER_SHIFT & _LAYER_BITS
        name = layers[layer] if layer < len(layers) else f"layer {layer}"
        more = ", past its time: it is renewed" if flags & STALE else ""
        return f"the result was found in the cache: {name}{more}"
    return "the result was in no cache" if entry.tool.spec.cache and runs.run_us else ""


def _since(entry: Entry, when: float | None) -> float | None:
    return None if when is None else round(max(0.0, when - entry.accepted), 6)

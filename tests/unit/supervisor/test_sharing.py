from __future__ import annotations

from msgspec import Raw

from toolring.protocol import INLINE, Job
from toolring.spec import ToolSpec
from toolring.stamps import BYTES, SOME_TAG, Stamps, of_tool, some_key
from toolring.stamps import place as place_of
from toolring.supervisor.sharing import OVERHEAD, Flight, Name, Sharing, places

PLAIN = ToolSpec(name="look", read_only=True, cache=60.0)
TAGGED = ToolSpec(name="tagged", read_only=True, cache=60.0, tags=("x",))


class Place:
    def __init__(self, max_bytes: int = 100_000) -> None:
        self.stamps = Stamps(bytearray(BYTES))
        self.sharing = Sharing(self.stamps, max_bytes)

    def hold(self, name: Name, value: bytes = b"\xa1v", until: float = 60.0, spec: ToolSpec = PLAIN) -> None:
        self.sharing.put(Flight(name, self.sharing.seen(places(spec)), False), Raw(value), until)

    def value(self, name: Name, now: float = 0.0, spec: ToolSpec = PLAIN) -> bytes | None:
        found = self.sharing.get(name, places(spec), now)
        return None if found is None else bytes(found)


ONE: Name = ("look", "", b"1", "")


def test_what_is_held_is_given_until_its_time() -> None:
    place = Place()
    place.hold(ONE)
    assert place.value(ONE, 59.9) == b"\xa1v"
    assert place.value(("look", "", b"2", "")) is None
    assert place.value(("look", "other", b"1", "")) is None
    assert place.value(ONE, 60.0) is None
    assert len(place.sharing) == place.sharing.bytes == 0


def test_an_invalidation_that_may_concern_it_takes_it_away() -> None:
    for tag, plain_stays, tagged_stays in (
        (b"*", False, False),
        (of_tool("look"), False, True),
        (some_key("tagged"), True, False),
        (SOME_TAG, True, False),
        (of_tool("third"), True, True),
    ):
        place = Place()
        place.hold(ONE)
        place.hold(("tagged", "", b"1", ""), spec=TAGGED)
        place.stamps.invalidate([tag])
        assert (place.value(ONE) is not None) == plain_stays, tag
        assert (place.value(("tagged", "", b"1", ""), spec=TAGGED) is not None) == tagged_stays, tag


def test_what_was_invalidated_while_it_was_loaded_is_never_given() -> None:
    place = Place()
    flight = Flight(ONE, place.sharing.seen(places(PLAIN)), False)
    place.stamps.invalidate([of_tool("look")])
    place.sharing.put(flight, Raw(b"\xa1v"), 60.0)
    assert place.value(ONE) is None


def test_its_bytes_are_bounded_and_what_was_used_longest_ago_leaves() -> None:
    place = Place(3 * (OVERHEAD + 101))
    for number in range(3):
        place.hold(("look", "", b"%d" % number, ""), b"x" * 100)
    assert place.value(("look", "", b"0", ""))
    place.hold(("look", "", b"3", ""), b"x" * 100)
    assert place.value(("look", "", b"1", "")) is None
    assert place.value(("look", "", b"0", ""))
    assert place.sharing.bytes <= 3 * (OVERHEAD + 101)
    place.hold(("look", "", b"4", ""), b"x" * 2000)
    assert place.value(("look", "", b"4", "")) is None, "larger than all"
    place.hold(("look", "", b"0", ""), b"y" * 10)
    assert place.value(("look", "", b"0", "")) == b"y" * 10


def test_with_no_room_at_all_nothing_is_held() -> None:
    place = Place(0)
    place.hold(ONE)
    assert place.value(ONE) is None


def test_who_shares_nothing_has_no_name() -> None:
    sharing = Place().sharing
    args = Raw(b"\x80")
    assert sharing.name(PLAIN, "", Job(1, "look", args)) == ("look", "", b"\x80", "")
    assert sharing.name(PLAIN, None, Job(1, "look", args)) is None
    assert sharing.name(PLAIN, "", Job(1, "look", args, key="k")) is None
    assert sharing.name(PLAIN, "", Job(1, "look", Raw(bytes(INLINE + 1)))) is None


def test_only_the_flight_itself_is_taken_off_the_board() -> None:
    sharing = Place().sharing
    old, new = Flight(ONE, (1,), False), Flight(ONE, (2,), False)
    sharing.flights[ONE] = new
    sharing.landed(old)
    assert sharing.flights == {ONE: new}
    sharing.landed(new)
    assert not sharing.flights


def test_what_was_found_true_is_looked_at_again_after_any_invalidation() -> None:
    place = Place()
    place.hold(ONE)
    for _ in range(3):
        place.stamps.invalidate([of_tool("third")])
        assert place.value(ONE) is not None
        assert place.value(ONE) is not None
    place.stamps.invalidate([of_tool("look")])
    assert place.value(ONE) is None


def test_in_doubt_nothing_is_given_and_what_comes_later_is() -> None:
    place = Place()
    place.hold(ONE)
    assert place.value(ONE) is not None
    place.sharing.doubt()
    assert place.value(ONE) is None
    place.hold(ONE)
    assert place.value(ONE) is not None


def test_what_it_holds_is_a_copy() -> None:
    """What came in a large message would keep all of that alive."""
    place = Place()
    message = bytearray(b"\xa1v" + bytes(1000))
    place.sharing.put(Flight(ONE, place.sharing.seen(places(PLAIN)), False), Raw(memoryview(message)[:2]), 60.0)
    message[1:2] = b"w"
    assert place.value(ONE) == b"\xa1v"


def test_its_bytes_are_the_sum_of_what_is_there() -> None:
    place = Place(4000)
    for number in range(50):
        place.hold(("look", "", b"%d" % (number % 7), ""), b"x" * (number * 37 % 900))
        assert place.sharing.bytes == sum(one.size for one in place.sharing._held.values()) <= 4000
    assert place.sharing.evictions > 0
    for number in range(7):
        assert place.value(("look", "", b"%d" % number, ""), 61.0) is None
    assert place.sharing.bytes == len(place.sharing) == 0


def test_untagged_tools_do_not_look_at_tags() -> None:
    assert set(places(PLAIN)) < {*places(TAGGED), *places(PLAIN)}
    assert place_of(SOME_TAG) in places(TAGGED)
    assert place_of(SOME_TAG) not in places(PLAIN)


def test_a_renewal_is_not_what_callers_wait_for() -> None:
    sharing = Place().sharing
    flight, renewal = Flight(ONE, (1,), False), Flight(ONE, (1,), True)
    sharing.flights[ONE], sharing.renewals[ONE] = flight, renewal
    sharing.landed(renewal)
    assert sharing.flights == {ONE: flight}
    assert not sharing.renewals

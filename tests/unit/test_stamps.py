from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolring.stamps import ALL, ANY, BYTES, DEBTS, MAX_LAYERS, SOME_TAG, WORDS, Stamps, fresh, of_tool, place, some_key


@given(st.binary(max_size=50))
def test_tags_have_places_beyond_those_with_a_meaning(tag: bytes) -> None:
    assert place(tag) == (ALL if tag == b"*" else place(tag))
    assert tag == b"*" or DEBTS + 2 * MAX_LAYERS <= place(tag) < WORDS


def test_an_invalidation_changes_the_words_of_its_tags_and_no_other() -> None:
    stamps = Stamps(bytearray(BYTES))
    stamps.invalidate([b"tag:x", b"*"])
    changed = {at for at in range(WORDS) if stamps.words[at]}
    assert changed == {place(b"tag:x"), ALL, ANY}
    before = stamps.words[ALL]
    stamps.invalidate([b"*"])
    assert stamps.words[ALL] != before


def test_the_words_lie_at_the_end_of_what_is_shared() -> None:
    memory = bytearray(1000 * 8 + BYTES)
    Stamps(memory).words[ALL] = 7
    assert memory[1000 * 8] == 7
    assert not any(memory[: 1000 * 8])


def test_in_doubt_nothing_is_true_and_every_store_is_to_be_cleared() -> None:
    stamps = Stamps(bytearray(BYTES))
    stamps.doubt()
    assert stamps.words[ALL]
    for layer in range(MAX_LAYERS):
        owed, paid = stamps.debts(layer)
        assert owed != paid


def test_no_stamp_comes_twice() -> None:
    assert len({fresh() for _ in range(1000)} - {0}) == 1000


def test_each_doubt_is_owed_anew() -> None:
    """A worker that made up for the first while the second came still finds the layer owed."""
    stamps = Stamps(bytearray(BYTES))
    stamps.doubt()
    debts = stamps.debts(3)
    debts[1] = debts[0]
    stamps.doubt()
    assert debts[0] != debts[1]


def test_a_tags_own_stamp_stays_in_doubt_and_everythings_tells() -> None:
    stamps = Stamps(bytearray(BYTES))
    stamps.invalidate([b"tag:x"])
    before = list(stamps.words)
    stamps.doubt()
    changed = {at for at in range(WORDS) if stamps.words[at] != before[at]}
    assert changed == {ALL, ANY, *(DEBTS + 2 * layer for layer in range(MAX_LAYERS))}


def test_debts_of_layers_share_no_word() -> None:
    stamps = Stamps(bytearray(BYTES))
    for layer in range(MAX_LAYERS):
        stamps.debts(layer)[:] = memoryview(bytearray(16)).cast("Q")
        stamps.debts(layer)[0], stamps.debts(layer)[1] = 2 * layer + 1, 2 * layer + 2
    assert list(stamps.words[DEBTS : DEBTS + 2 * MAX_LAYERS]) == list(range(1, 2 * MAX_LAYERS + 1))
    assert stamps.words[ALL] == stamps.words[ANY] == 0


def test_that_anything_changed_is_written_last() -> None:
    """Whoever sees it new sees all the others new: else what was just invalidated would count as checked."""
    written: dict[int, int] = {}
    stamps = Stamps(bytearray(BYTES))
    stamps.words = written  # type: ignore[assignment]
    stamps.invalidate([b"tag:x", b"tag:y", b"*"])
    assert list(written) == [place(b"tag:x"), place(b"tag:y"), ALL, ANY]


def test_names_of_tools_and_of_their_keys_are_not_each_others() -> None:
    names = [of_tool("a"), some_key("a"), of_tool("b"), some_key("b"), SOME_TAG]
    assert len(set(names)) == len({place(name) for name in names}) == 5

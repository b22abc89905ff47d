from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolring.stamps import ALL, ANY, BYTES, DEBTS, MAX_LAYERS, WORDS, Stamps, fresh, place


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

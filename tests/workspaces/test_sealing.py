"""Sealing, without a database: what was sealed opens for the same key and place, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.domain.sealing import Unreadable, bound, key_id, open_sealed, seal

KEY, OTHER, NONCE = bytes(range(32)), bytes(range(1, 33)), bytes(12)
PLACE = bound("provider key", "7", "c1", "openai", "d1")
BLOB = seal(KEY, b"sk-secret", nonce=NONCE, associated=PLACE)


@given(
    plain=st.binary(max_size=5000), nonce=st.binary(min_size=12, max_size=12), fields=st.lists(st.text(), max_size=5)
)
def test_what_was_sealed_opens_unchanged(plain: bytes, nonce: bytes, fields: list[str]) -> None:
    try:
        place = bound("x", *fields)
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    assert open_sealed(KEY, seal(KEY, plain, nonce=nonce, associated=place), associated=place) == plain


@pytest.mark.parametrize("place", range(len(BLOB)))
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_one_flipped_byte_anywhere_is_the_same_clean_error(place: int, flip: int) -> None:
    broken = bytearray(BLOB)
    broken[place] ^= flip
    with pytest.raises(Unreadable) as caught:
        open_sealed(KEY, bytes(broken), associated=PLACE)
    assert str(caught.value) == ""


@pytest.mark.parametrize("length", range(len(BLOB)))
def test_a_cut_blob_is_unreadable(length: int) -> None:
    with pytest.raises(Unreadable):
        open_sealed(KEY, BLOB[:length], associated=PLACE)


def test_another_key_or_place_does_not_open_it() -> None:
    with pytest.raises(Unreadable):
        open_sealed(OTHER, BLOB, associated=PLACE)
    for other in (
        bound("provider key", "8", "c1", "openai", "d1"),
        bound("provider key", "7", "c2", "openai", "d1"),
        bound("provider key", "7", "c1", "groq", "d1"),
        bound("provider key", "7", "c1", "openai", "d2"),
        bound("data key", "7", "c1", "openai", "d1"),
    ):
        with pytest.raises(Unreadable):
            open_sealed(KEY, BLOB, associated=other)


@given(
    a=st.lists(st.text(alphabet="ab|/\0", max_size=4), max_size=4),
    b=st.lists(st.text(alphabet="ab|/\0", max_size=4), max_size=4),
)
def test_two_places_never_have_the_same_associated_data(a: list[str], b: list[str]) -> None:
    assert (bound("x", *a) == bound("x", *b)) == (a == b)


def test_a_master_keys_fingerprint_tells_nothing_but_which_one_it_is() -> None:
    assert key_id(KEY) != key_id(OTHER)
    assert KEY.hex()[:8] not in key_id(KEY)

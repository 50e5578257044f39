"""The text of keys: minted ones are ours, everything else is refused before any store is asked."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.domain import keytext
from workspaces.domain.keytext import KeyKind, MalformedKey, build, digest, parse, pepper_version

KEY = build(KeyKind.VIRTUAL_KEY, locator_random=123456789, secret=bytes(range(32)))


@given(kind=st.sampled_from(KeyKind), locator=st.integers(0, 62**12 - 1), secret=st.binary(min_size=32, max_size=32))
def test_every_key_that_is_built_is_read_back_and_found_by_secret_scanners(
    kind: KeyKind, locator: int, secret: bytes
) -> None:
    key = build(kind, locator_random=locator, secret=secret)
    assert parse(key.text, kind) == key
    assert re.fullmatch(keytext.SCANNING_PATTERN, key.text)


@given(a=st.binary(min_size=32, max_size=32), b=st.binary(min_size=32, max_size=32))
def test_two_secrets_never_share_a_text(a: bytes, b: bytes) -> None:
    same = build(KeyKind.VIRTUAL_KEY, locator_random=1, secret=a) == build(
        KeyKind.VIRTUAL_KEY, locator_random=1, secret=b
    )
    assert same == (a == b)


@pytest.mark.parametrize("place", range(len(KEY.text)))
def test_one_wrong_character_anywhere_is_refused(place: int) -> None:
    other = "x" if KEY.text[place] != "x" else "y"
    with pytest.raises(MalformedKey):
        parse(KEY.text[:place] + other + KEY.text[place + 1 :], KeyKind.VIRTUAL_KEY)


@given(st.text())
def test_any_text_is_refused_without_another_error_and_without_repeating_it(text: str) -> None:
    with pytest.raises(MalformedKey) as caught:
        parse(text, KeyKind.VIRTUAL_KEY)
    assert str(caught.value) == "not a key of this installation"


@pytest.mark.parametrize(
    "text",
    ["", KEY.text + "\n", " " + KEY.text, KEY.text[:-1], KEY.text + "0", KEY.text.upper(), KEY.text.replace("0", "٠")],
)
def test_a_key_with_something_around_it_or_missing_is_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse(text, KeyKind.VIRTUAL_KEY)


def test_a_token_is_no_virtual_key() -> None:
    with pytest.raises(MalformedKey):
        parse(KEY.text, KeyKind.API_TOKEN)


def test_a_key_shows_its_locator_only() -> None:
    assert KEY.text not in f"{KEY} {KEY!r} {[KEY]}"
    assert KEY.text[17:] not in repr(KEY)


def test_the_digest_depends_on_every_part_and_on_the_pepper() -> None:
    other_locator = build(KeyKind.VIRTUAL_KEY, locator_random=987654321, secret=bytes(range(32)))
    other_kind = build(KeyKind.API_TOKEN, locator_random=123456789, secret=bytes(range(32)))
    digests = {
        digest(KEY, b"p" * 32),
        digest(KEY, b"q" * 32),
        digest(other_locator, b"p" * 32),
        digest(other_kind, b"p" * 32),
    }
    assert len(digests) == 4
    assert all(len(one) == 32 for one in digests)


def test_a_pepper_has_a_version_that_fits_the_column() -> None:
    assert 0 <= pepper_version(b"p" * 32) < 2**15
    assert pepper_version(b"p" * 32) != pepper_version(b"q" * 32)

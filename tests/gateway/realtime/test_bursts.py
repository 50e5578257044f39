"""How many turns can end in sound that passed faster than it was spoken, and in which pieces it passes."""

from __future__ import annotations

import base64
import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.realtime.bursts import ANSWERED_WITHIN_S, LONGEST_TURN_WAIT_S, Bursts, pieces


def test_one_turn_can_end_in_sound_no_longer_than_the_silence_that_ends_one() -> None:
    assert Bursts().turns(500, 500, 0.0) == 1
    assert Bursts().turns(501, 500, 0.0) == 2
    assert Bursts().turns(2_000, 500, 0.0) == 4


@given(st.integers(10, 400), st.integers(100, 900))
def test_live_speech_needs_one_hold_however_long_it_lasts(piece_ms: int, silence_ms: int) -> None:
    bursts, now = Bursts(), 0.0
    for _ in range(50):
        if piece_ms <= silence_ms // 8:
            assert bursts.turns(piece_ms, silence_ms, now) == 1
        bursts.passed(piece_ms, now)
        now += piece_ms / 1000


def test_what_passed_a_moment_ago_counts_until_its_end_would_have_been_told() -> None:
    bursts = Bursts()
    bursts.passed(500, 0.0)
    assert bursts.turns(500, 500, 0.1) == 2
    assert bursts.wait_s(500, 0.1) == ANSWERED_WITHIN_S - 0.1
    assert bursts.turns(500, 500, ANSWERED_WITHIN_S) == 1


def test_a_turn_that_was_heard_needs_a_hold_until_it_is_answered_or_will_not_be() -> None:
    bursts = Bursts()
    bursts.heard(0.0)
    assert bursts.turns(20, 500, 0.1) == 2
    bursts.answered()
    assert bursts.turns(20, 500, 0.2) == 1
    bursts.heard(1.0)
    assert bursts.turns(20, 500, 1.0 + LONGEST_TURN_WAIT_S) == 1


@given(st.binary(max_size=4_000), st.integers(1, 2_000), st.integers(100, 600))
def test_sound_in_pieces_is_the_same_sound_and_no_piece_has_room_for_two_ends(
    sound: bytes, ms: int, silence: int
) -> None:
    text = base64.b64encode(sound).decode()
    parts = list(pieces(text, ms, silence))

    assert b"".join(base64.b64decode(piece) for piece, _ in parts) == sound
    assert sum(length for _, length in parts) >= ms
    for (piece, _), _next in itertools.pairwise(parts):
        assert len(base64.b64decode(piece)) % 2 == 0, "whole samples of 16 bits"
    if len(text) * silence > 32 * ms:
        assert all(length <= silence + 1 for _, length in parts)

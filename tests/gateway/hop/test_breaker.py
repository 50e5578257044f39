"""The breaker alone: what opens it, what closes it, and that it never keeps anybody away for ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.hop.breaker import (
    BUCKETS,
    IN_A_ROW,
    LEAST_OUTCOMES,
    LONGEST_OPEN_S,
    OPEN_S,
    PROBE_S,
    WINDOW_S,
    Breaker,
    State,
)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(at)
    for _ in range(IN_A_ROW):
        breaker.failed(at)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(0)
    for _ in range(3):
        for _ in range(IN_A_ROW - 1):
            assert not breaker.failed(1)
        breaker.succeeded(1)
    assert breaker.state(1) is State.CLOSED
    assert opened().state(0) is State.OPEN


def test_a_share_of_failures_opens_it_and_what_left_the_window_does_not_count() -> None:
    breaker = Breaker(0)
    for _ in range(LEAST_OUTCOMES):
        breaker.succeeded(0)
        breaker.failed(0)
        if breaker.state(0) is State.OPEN:
            break
    assert breaker.state(0) is State.OPEN
    slow = Breaker(0)
    for turn in range(200):  # half of them fail, and never so many in one window
        slow.failed(turn * 5.0)
        slow.succeeded(turn * 5.0)
        assert slow.state(turn * 5.0) is State.CLOSED


def test_after_its_time_one_probe_passes_and_decides() -> None:
    breaker = opened()
    assert not breaker.enter(OPEN_S - 0.01)
    assert breaker.enter(OPEN_S)
    assert not breaker.enter(OPEN_S), "a second one at once"
    breaker.succeeded(OPEN_S + 1)
    assert breaker.enter(OPEN_S + 1)
    assert breaker.state(OPEN_S + 1) is State.CLOSED


def test_each_failed_probe_doubles_the_time_up_to_a_limit() -> None:
    breaker, now = opened(), 0.0
    waits = []
    for _ in range(8):
        waits.append(breaker.wait_s(now))
        now += breaker.wait_s(now)
        assert breaker.enter(now)
        assert breaker.failed(now)
    assert waits[:4] == [OPEN_S, OPEN_S * 2, OPEN_S * 4, OPEN_S * 8]
    assert waits[-1] == LONGEST_OPEN_S


def test_a_late_answer_from_before_it_opened_does_not_close_it() -> None:
    breaker = opened()
    breaker.succeeded(1)
    assert breaker.state(1) is State.OPEN


_STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "good", "bad"]), st.floats(0, WINDOW_S / BUCKETS * 2)), max_size=60
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STEPS)
def test_whatever_happens_somebody_may_ask_again_and_only_one_probe_at_a_time(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(0), 0.0
    for step, passed in steps:
        now += passed
        state = breaker.state(now)
        if step == "enter":
            free = breaker.wait_s(now) == 0
            entered = breaker.enter(now)
            assert entered == free
            assert not (entered and state is State.OPEN)
            if entered and state is State.HALF_OPEN:
                assert not breaker.enter(now)
        elif step == "good":
            breaker.succeeded(now)
        else:
            breaker.failed(now)
            if state is State.CLOSED and breaker.state(now) is State.OPEN:
                assert breaker.wait_s(now) == pytest.approx(OPEN_S)
        assert 0 <= breaker.wait_s(now) <= LONGEST_OPEN_S + 1e-9
    assert breaker.enter(now + LONGEST_OPEN_S + PROBE_S)

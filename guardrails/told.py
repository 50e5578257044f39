"""What an answer's headers say of its rate limits: `x-ratelimit-*` in OpenAI's form, the tightest limit on requests and the tightest on tokens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from guardrails.domain.rates import Metric, RateMatch

_WORDS = (("requests", (Metric.RPM, Metric.RPH)), ("tokens", (Metric.TPM,)))


class Told(msgspec.Struct, frozen=True):
    """All but where it stands: the limits of a call that are told under one word."""

    places: list[int]
    """Where they are among the limits that the call meets."""
    limits: list[bytes]
    """What each of them allows."""
    limit_name: bytes
    left_name: bytes
    reset_name: bytes


def told_of(rates: Sequence[RateMatch]) -> list[Told]:
    found = []
    for word, metrics in _WORDS:
        places = [place for place, match in enumerate(rates) if match.rate.metric in metrics]
        names = [f"x-ratelimit-{what}-{word}".encode() for what in ("limit", "remaining", "reset")]
        if places:
            found.append(Told(places, [b"%d" % rates[place].rate.limit for place in places], *names))
    return found


def rate_headers(all_told: Sequence[Told], left: Sequence[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    """`left`, for each limit of the call: how many more would pass now, and in how many ms it is full again."""
    headers: list[tuple[bytes, bytes]] = []
    for told in all_told:
        tight = 0
        if len(told.places) > 1:
            tight = min(range(len(told.places)), key=lambda n: left[told.places[n]][0])
        remaining, reset_ms = left[told.places[tight]]
        headers += (
            (told.limit_name, told.limits[tight]),
            (told.left_name, b"%d" % remaining),
            (told.reset_name, b"%dms" % reset_ms),
        )
    return headers

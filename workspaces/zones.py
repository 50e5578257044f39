"""The time zones there are."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

_AREAS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


@cache
def names() -> frozenset[str]:
    """All of them. Python looks through every file of its data to tell, twenty milliseconds a time, so it is asked once a process."""
    return frozenset(available_timezones())


@cache
def places() -> tuple[str, ...]:
    """Those that are named after a place, in order."""
    return tuple(sorted(zone for zone in names() if zone.partition("/")[0] in _AREAS))

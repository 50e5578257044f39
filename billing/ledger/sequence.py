"""The gapless numbers of a workspace's events: which were seen, which are missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Gap = tuple[int, int]
MOST_GAPS = 1000


def advance(seq: int, gaps: Iterable[Gap], seen: Iterable[int]) -> tuple[int, list[Gap]]:
    """(highest number seen, numbers missing below it) and newly seen numbers -> the same, afterwards.

    Any order, any repetition. Beyond `MOST_GAPS` gaps the oldest are merged with what lies between: an alarm must not grow without bound.
    """
    missing = list(gaps)
    for number in sorted(set(seen)):
        if number > seq:
            if number > seq + 1:
                missing.append((seq + 1, number - 1))
            seq = number
        elif missing:
            missing = [part for gap in missing for part in _without(gap, number)]
    if len(missing) > MOST_GAPS:
        surplus = len(missing) - MOST_GAPS
        missing = [(missing[0][0], missing[surplus][1]), *missing[surplus + 1 :]]
    return seq, missing


def _without(gap: Gap, number: int) -> list[Gap]:
    first, last = gap
    if not first <= number <= last:
        return [gap]
    return [part for part in ((first, number - 1), (number + 1, last)) if part[0] <= part[1]]

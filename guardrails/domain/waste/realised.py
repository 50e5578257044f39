"""What a lever has saved since it was pulled, where no call says so by itself: the same place before and after, by its number of calls.

Spend follows volume. What is compared is therefore waste a call: the calls of afterwards, had they wasted as much each as those of before. A
negative saving is said, too.
"""

from __future__ import annotations

from typing import NamedTuple


class Before(NamedTuple):
    """A place in the days up to the lever."""

    calls: int
    waste_nano: int


def saved_nano(before: Before, *, calls: int, waste_nano: int) -> int:
    """Of some days afterwards. Nothing is claimed where nothing was called before."""
    if before.calls <= 0:
        return 0
    return expected_nano(before, calls) - waste_nano


def expected_nano(before: Before, calls: int) -> int:
    """What so many calls would have wasted as things were. Rounded down: a saving is never made larger by rounding."""
    return before.waste_nano * calls // before.calls if before.calls > 0 else 0

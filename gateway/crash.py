"""Named points of a call at which a test build can be told to die, for the fault tests (FAULTS.md, "Kill points"). Nothing in production."""

from __future__ import annotations

import os

from django.conf import settings

_POINT, _, _NTH = settings.CRASH_AT.partition(":")
ARMED = bool(_POINT)
"""For where even asking `point` counts."""
_passes = 0

POINTS = ("before_admit", "after_admit", "after_headers_sent", "after_chunk", "after_last_byte", "after_finish")
"""`after_chunk:3` dies after the third chunk. The seventh point, `after_commit`, is the ledger writer's."""


def point(name: str) -> None:
    """Die here, as `kill -9` would, when this is the point the test named."""
    if name == _POINT:
        _die_at_nth()


def _die_at_nth() -> None:
    global _passes
    _passes += 1
    if _passes >= int(_NTH or 1):
        os._exit(137)

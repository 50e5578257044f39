"""The kinds of anomaly, what may be done about one by itself, and how strict the look is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    LOOP = "loop"
    """One session, agent or key fires far beyond its habit, seen within a minute."""
    VOLUME = "volume"
    """More calls than usual for this hour of the week."""
    COST_PER_CALL = "cost_per_call"
    """Calls became dearer: prompt injection, a context that runs away."""
    MODEL_MIX = "model_mix"
    """Calls became dearer because they go to other models."""
    ERROR_STORM = "error_storm"
    """Far more attempts fail than usual."""
    NEW_SPENDER = "new_spender"
    """A model or customer that was not there before spends fast."""


class Response(StrEnum):
    OFF = "off"
    """Not even told."""
    NOTIFY = "notify"
    THROTTLE = "throttle"
    PAUSE_KEY = "pause_key"


class Sensitivity(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


DEVIATIONS: Final = {Sensitivity.LOW: 9.0, Sensitivity.NORMAL: 6.0, Sensitivity.HIGH: 4.0}
"""How many robust standard deviations above habit are out of the ordinary."""
TOLERANCE: Final = 1.3
"""How far above a level that somebody called expected is still expected."""

FINEST_FIRST: Final = (
    "session", "user", "agent", "customer", "virtual_key", "feature", "member", "model", "department", "provider", "environment", "",
)  # fmt: skip
"""From the most specific driver to the whole workspace."""
FINENESS: Final = {name: place for place, name in enumerate(FINEST_FIRST)}


@dataclass(frozen=True, slots=True)
class Taught:
    """What somebody called expected of one series, above its habit. `slots`: hours of the week (0 is Monday midnight) it holds in; empty: any."""

    kind: Kind
    per_hour_nano: int = 0
    per_call_nano: int = 0
    """Not above habit: what a call may cost."""
    per_minute: int = 0
    """Attempts."""
    slots: frozenset[int] = frozenset()

    def holds_at(self, slot: int) -> bool:
        return not self.slots or slot in self.slots


@dataclass(frozen=True, slots=True)
class Rules:
    """How strict the look is. `least_nano`: the least an incident costs above habit; of a loop, in a week at its pace."""

    least_nano: int
    deviations: float = DEVIATIONS[Sensitivity.NORMAL]
    ratio: float = 2.0
    """And this many times the habit."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a series is of: a dimension and its value; both empty for the whole workspace."""

    dimension: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A series that left its habit for a while. Moments are in any unit that sorts (hours or Unix seconds), the end is exclusive."""

    kind: Kind
    series: Series
    start: int
    end: int
    excess_nano: int
    """Cost above habit."""
    observed: float
    """In the kind's own measure: nano-USD an hour, nano-USD a call, attempts a minute, or the share that failed."""
    usual: float
    score: float = 0.0
    """Robust standard deviations above habit."""
    ongoing: bool = False
    facts: dict[str, float | str] = field(default_factory=dict, compare=False)


def taught_for(taught: Sequence[Taught], kinds: Sequence[Kind], slot: int) -> list[Taught]:
    return [one for one in taught if one.kind in kinds and one.holds_at(slot)]

"""One incident a cause: the same loop shows as session, agent, key, customer, model and workspace; the most specific is told. Pure.

What was really called in the time of a deviation (`Line`s: combinations of dimensions) says which series are the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from guardrails.domain.anomalies.kinds import FINENESS, FINEST_FIRST, Deviation, Kind, Series

CARRIES: Final = 0.7
"""The share of a deviation's calls, cost or failures that one finer value must have to be its driver."""
MOSTLY: Final = 0.75
"""The share of its cost above habit from which a series did little else."""
SAME: Final = 0.5
"""The share of a deviation that lies in a cause already found, from which it is that cause seen from further away."""


@dataclass(frozen=True, slots=True)
class Line:
    """Calls with the same dimensions, in the time looked at."""

    dims: Mapping[str, str]
    attempts: int
    errors: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Cause:
    """A deviation and what drives it."""

    deviation: Deviation
    driver: Series
    beside: tuple[Series, ...]
    """What else nearly all of its calls have in common, the finest first."""


@dataclass(frozen=True, slots=True)
class Told:
    """An incident that is told already. Moments in the unit of the deviations it is compared with."""

    driver: Series
    start: int
    end: int
    excess_nano: int


LinesOf = Callable[[int, int], Sequence[Line]]
"""(start, end) of a deviation -> what was called in that time."""


def causes(deviations: Iterable[Deviation], lines_of: LinesOf, known: Sequence[Told] = ()) -> list[Cause]:
    """The causes behind deviations, the most specific first. What is only the reflection of a cause, or of a `known` incident, is left out."""
    ranked = [(driver_of(one, lines_of(one.start, one.end)), one) for one in deviations]
    ranked.sort(
        key=lambda pair: (
            _usual_share(pair[1], lines_of(pair[1].start, pair[1].end)),
            _fineness(*pair),
            FINENESS[pair[1].series.dimension],
            _FIRST.index(pair[1].kind),
            -pair[1].excess_nano,
            pair[0].value,
        )
    )
    found: list[Cause] = []
    told = list(known)
    for driver, one in ranked:
        own = _of(lines_of(one.start, one.end), one.series)
        overlapping = [cause for cause in told if cause.start <= one.end and one.start <= cause.end]
        if _is_reflection(one, driver, own, overlapping):
            continue
        told.append(Told(driver, one.start, one.end, one.excess_nano))
        found.append(Cause(one, driver, _beside(_of(own, driver), driver)))
    return found


def _usual_share(one: Deviation, lines: Sequence[Line]) -> int:
    """How much of a deviation's cost is habit: 0 little, 1 up to half, 2 most. Where a key serves several features, and one of them left its
    habit, the feature is the cause although keys are finer: nearly all of its cost is above habit, and less of the key's."""
    if one.kind in _COUNTED:
        return 0
    cost = sum(line.cost_nano for line in _of(lines, one.series))
    above = one.excess_nano / cost if cost else 1.0
    return 0 if above >= MOSTLY else 1 if above >= SAME else 2


def _fineness(driver: Series, one: Deviation) -> float:
    """Where a driver stands between the most specific and the whole. A customer who is new explains the agents, keys and features that serve it:
    whoever looks at the agent would look for what is wrong with it."""
    if one.kind is Kind.NEW_SPENDER and driver.dimension == "customer":
        return FINENESS["agent"] - 0.5
    return FINENESS[driver.dimension]


def driver_of(deviation: Deviation, lines: Sequence[Line]) -> Series:
    """The finest value that carries a deviation; its own series where none finer does.

    Sessions and users have no habit of their own, so theirs is held against what is above habit; others against all of it. Of a newcomer
    only itself is new, whoever else its calls go through.
    """
    if deviation.kind is Kind.NEW_SPENDER:
        return deviation.series
    own = _of(lines, deviation.series)
    weigh = _weigher(deviation.kind)
    whole = sum(weigh(line) for line in own)
    above = min(whole, deviation.excess_nano) if deviation.kind not in _COUNTED else whole
    for dimension in FINEST_FIRST[: FINENESS[deviation.series.dimension]]:
        value, share = _top(own, dimension, deviation.kind)
        if value and share >= CARRIES * (above if dimension in _FLEETING else whole) > 0:
            return Series(dimension, value)
    return deviation.series


def shares_of(lines: Sequence[Line], series: Series, dimension: str) -> list[float]:
    """How the attempts of a series are spread over the values of a dimension: shares of those that have one, largest first."""
    sums: dict[str, int] = {}
    for line in _of(lines, series):
        if value := line.dims.get(dimension, ""):
            sums[value] = sums.get(value, 0) + line.attempts
    whole = sum(sums.values())
    return sorted((count / whole for count in sums.values()), reverse=True) if whole else []


def key_of(lines: Sequence[Line], driver: Series, *, least: float = 0.8) -> str:
    """The virtual key that carries a driver's calls, empty where there are several."""
    if driver.dimension == "virtual_key":
        return driver.value
    own = _of(lines, driver)
    value, attempts = _top(own, "virtual_key", Kind.LOOP)
    whole = sum(line.attempts for line in own)
    return value if whole and attempts / whole >= least else ""


def _is_reflection(one: Deviation, driver: Series, own: Sequence[Line], causes_: Sequence[Told]) -> bool:
    """Whether causes already found account for most of what a deviation is above habit."""
    weigh = _weigher(one.kind)
    explained = 0
    for cause in causes_:
        if cause.driver in (one.series, driver):
            return True
        inside = sum(weigh(line) for line in own if _has(line, cause.driver))
        explained += inside if one.kind in _COUNTED else min(inside, cause.excess_nano or inside)
    above = sum(weigh(line) for line in own) if one.kind in _COUNTED else one.excess_nano
    return explained > 0 and explained >= SAME * above


def _of(lines: Sequence[Line], series: Series) -> list[Line]:
    return [line for line in lines if _has(line, series)]


def _has(line: Line, series: Series) -> bool:
    return not series.dimension or line.dims.get(series.dimension, "") == series.value


def _top(lines: Sequence[Line], dimension: str, kind: Kind) -> tuple[str, int]:
    weigh = _weigher(kind)
    sums: dict[str, int] = {}
    for line in lines:
        if value := line.dims.get(dimension, ""):
            sums[value] = sums.get(value, 0) + weigh(line)
    return max(sums.items(), key=lambda pair: (pair[1], pair[0]), default=("", 0))


def _weigher(kind: Kind) -> Callable[[Line], int]:
    if kind is Kind.ERROR_STORM:
        return lambda line: line.errors
    if kind is Kind.LOOP:
        return lambda line: line.attempts
    return lambda line: line.cost_nano


def _beside(own: Sequence[Line], driver: Series) -> tuple[Series, ...]:
    whole = sum(line.attempts for line in own)
    found = []
    for dimension in FINEST_FIRST[:-1]:
        value, attempts = _top(own, dimension, Kind.LOOP)
        if dimension != driver.dimension and value and whole and attempts >= 0.9 * whole:
            found.append(Series(dimension, value))
    return tuple(found)


_FIRST: Final = (Kind.LOOP, Kind.ERROR_STORM, Kind.NEW_SPENDER, Kind.MODEL_MIX, Kind.COST_PER_CALL, Kind.VOLUME)
"""Of two kinds at the same driver the one that says more comes first."""
_COUNTED: Final = frozenset({Kind.LOOP, Kind.ERROR_STORM})
"""Kinds whose reflections are found by counting attempts or failures; the others by their cost above habit."""
_FLEETING: Final = frozenset({"session", "user"})

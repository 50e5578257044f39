"""A second source of labelled traffic, of another hand and other shapes than `traces`: nothing here knows how the detectors think.

Companies differ: offices in three time zones, jobs in the night and at weekends, launches every week, a feature that ramps up, growth, an hour
that moves with daylight saving, office hours that move, a public holiday. Counts scatter more than chance (a gamma mood every hour), costs of
calls have a heavy tail. What goes wrong goes wrong slowly as well as at once: a stolen key, a context that snowballs, a client that asks
everything several times, a model swapped in stages, an archive run through a nightly job, a customer who starts fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, sqrt
from random import Random
from typing import Final

from guardrails.domain.anomalies.kinds import Kind, Series
from tests.guardrails.anomalies.traces import FIRST, HOURS, JUDGED, Label, Trace

PRICES: Final = {"nano": 90_000, "turbo": 900_000, "pro": 6_000_000, "max": 40_000_000}
"""The median cost of a call in nano-USD."""
LAST: Final = FIRST + HOURS
SIGMA: Final = 0.8
"""Of a call's cost, as a logarithm: the mean is 1.38 times the median, one call in a hundred 6 times it."""

Curve = Callable[[int], float]
"""Calls an hour on average, by the hour."""


@dataclass(frozen=True)
class Source:
    """Who calls, what, and how often."""

    feature: str
    key: str
    agent: str
    model: str
    customer: str
    rate: Curve

    def dims(self, model: str = "") -> tuple[str, str, str, str, str, str]:
        return self.feature, self.key, self.agent, model or self.model, self.customer, ""


# --- Shapes -----------------------------------------------------------------------------------------------------------
def weekday(hour: int) -> int:
    return (hour // 24 - FIRST // 24) % 7


def never(_: int) -> float:
    return 0.0


def office(rate: float, noon: float, *, weekend: float = 0.1, width: float = 3.2, moves: Curve = never) -> Curve:
    """A working day around `noon`; `moves`: by how many hours it is moved at an hour of the trace."""

    def at(hour: int) -> float:
        off = (hour % 24 - noon - moves(hour) + 12) % 24 - 12
        return rate * exp(-0.5 * (off / width) ** 2) * (weekend if weekday(hour) >= 5 else 1.0)

    return at


def job(rate: float, begins: int, hours: int, days: range = range(7)) -> Curve:
    return lambda hour: rate if weekday(hour) in days and 0 <= hour % 24 - begins < hours else 0.0


def launches(rate: float, on: int, at: int, times: float) -> Curve:
    """People all day long, and many more after the launch of every week."""

    def shape(hour: int) -> float:
        since = (hour - FIRST - on * 24 - at) % 168
        return rate * (0.5 + 0.5 * exp(-0.5 * ((hour % 24 - 16) / 5) ** 2)) * (1 + times * 0.5 ** (since / 5))

    return shape


def grown(curve: Curve, a_day: float) -> Curve:
    return lambda hour: curve(hour) * (1 + a_day) ** ((hour - FIRST) / 24)


def ramped(curve: Curve, first_day: int, days: int) -> Curve:
    """Nothing, then more every day, then all of it."""
    return lambda hour: curve(hour) * min(1.0, max(0.0, ((hour - FIRST) / 24 - first_day) / days))


def without(curve: Curve, day: int, left: float = 0.15) -> Curve:
    """A public holiday."""
    return lambda hour: curve(hour) * (left if (hour - FIRST) // 24 == day else 1.0)


# --- Companies --------------------------------------------------------------------------------------------------------
def worldwide(chance: Random) -> list[Source]:
    """Offices in three time zones; in the last week but one daylight saving moves one of them by an hour."""
    size = chance.uniform(3.5, 12)
    summer = FIRST + (26 + chance.randrange(5)) * 24
    places = (("apac", 3.0, 110.0), ("emea", 11.0, 240.0), ("amer", 18.5, 300.0))
    found = [
        Source("copilot", "prod", "", "turbo", name, office(size * rate, noon, moves=lambda hour: 1.0 if hour >= summer else 0.0))
        for name, noon, rate in places
    ]  # fmt: skip
    found += [Source("email", "prod", "", "nano", name, office(size * rate * 2, noon)) for name, noon, rate in places]
    return [*found, Source("triage", "support", "sorter", "pro", "", office(size * 14, 12.0, width=4.5))]


def nightly(chance: Random) -> list[Source]:
    """Most is done while nobody looks: an indexer every night, reports on Sunday; by day a small office that moves from early to late."""
    size, moved = chance.uniform(4, 10), FIRST + 22 * 24
    return [
        Source("index", "jobs", "indexer", "turbo", "", job(size * 900, 2, 2)),
        Source("report", "jobs", "reporter", "pro", "", job(size * 70, 4, 4, range(6, 7))),
        Source("chat", "desk", "", "turbo", "", office(size * 160, 9.0, moves=lambda hour: 3.0 if hour >= moved else 0.0)),
        Source("review", "ci", "critic", "pro", "", office(size * 18, 13.0, weekend=0.3)),
    ]  # fmt: skip


def launching(chance: Random) -> list[Source]:
    """A consumer product that launches something every week, grows, and has a new feature that takes off."""
    size, a_day = chance.uniform(3, 8), chance.uniform(0.004, 0.02)
    base = launches(size * 420, on=3, at=17, times=chance.uniform(1.5, 4))
    return [
        Source("story", "app", "", "turbo", "", grown(base, a_day)),
        Source("image", "app", "", "pro", "", grown(lambda hour: base(hour) * 0.06, a_day)),
        Source("assistant", "app", "guide", "turbo", "", ramped(lambda hour: base(hour) * 0.8, 16, 24)),
        Source("moderation", "app", "guard", "nano", "", lambda hour: base(hour) * 1.5),
    ]  # fmt: skip


def office_bound(chance: Random) -> list[Source]:
    """A company of one office and five clients of very different size, with a public holiday in the last two weeks."""
    size, day = chance.uniform(3.5, 9), 21 + chance.randrange(12)
    clients = (("aster", 190.0), ("birch", 70.0), ("cedar", 30.0), ("dahlia", 8.0), ("elm", 3.0))
    found = [
        Source("contracts", "web", "", "pro" if name in ("birch", "elm") else "turbo", name, without(office(size * rate, 13.0, width=2.6), day))
        for name, rate in clients
    ]  # fmt: skip
    return [*found, Source("review", "ci", "critic", "pro", "", without(office(size * 20, 14.0, weekend=0.05), day))]


COMPANIES: Final = (worldwide, nightly, launching, office_bound)


def counted(rate: float, chance: Random) -> int:
    """So many calls in an hour: a Poisson count of a rate that has moods of its own."""
    if rate <= 0.01:
        return 0
    moody = rate * chance.gammavariate(9, 1 / 9)
    if moody > 30:
        return max(0, round(chance.gauss(moody, sqrt(moody))))
    limit, product, count = exp(-moody), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def costing(calls: int, median_nano: float, chance: Random) -> float:
    """What so many calls cost together, each with a heavy tail."""
    if calls <= 60:
        return sum(median_nano * chance.lognormvariate(0, SIGMA) for _ in range(calls))
    mean = median_nano * exp(SIGMA**2 / 2)
    return max(calls * mean * 0.5, chance.gauss(calls * mean, sqrt(calls * (exp(SIGMA**2) - 1)) * mean))


def call(trace: Trace, hour: int, source: Source, calls: int, chance: Random, *, model: str = "", times: float = 1.0) -> None:  # fmt: skip
    if calls:
        trace.add(hour, source.dims(model), calls, costing(calls, PRICES[model or source.model] * times, chance))


def ordinary(chance: Random, company: Callable[[Random], list[Source]]) -> tuple[Trace, list[Source]]:
    trace, sources = Trace({}), company(chance)
    days = [chance.lognormvariate(0, 0.1) for _ in range(HOURS // 24)]
    for hour in range(FIRST, LAST):
        for source in sources:
            call(trace, hour, source, counted(source.rate(hour) * days[(hour - FIRST) // 24], chance), chance)
    return trace, sources


# --- What goes wrong --------------------------------------------------------------------------------------------------
Wrong = Callable[[Trace, list[Source], int, Random], Label]
_DEARER: Final = frozenset({Kind.COST_PER_CALL, Kind.MODEL_MIX})
_MORE: Final = frozenset({Kind.VOLUME, Kind.LOOP})


def _of(source: Source) -> frozenset[Series]:
    """The series that name a source."""
    named = (
        ("agent", source.agent),
        ("customer", source.customer),
        ("feature", source.feature),
        ("virtual_key", source.key),
    )
    return frozenset(Series(name, value) for name, value in named if value)  # fmt: skip


def stolen_key(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """Somebody else asks the dearest model with one of the keys, more every hour."""
    source, hours = chance.choice(sources), chance.randint(5, 14)
    thief = Source("", source.key, "", "max", "", source.rate)
    for n in range(hours):
        call(trace, start + n, thief, counted(chance.uniform(20, 60) * 1.15**n, chance), chance)
    drivers = frozenset({Series("virtual_key", source.key), Series("model", "max"), Series("feature", "")})
    return Label(_MORE | _DEARER | {Kind.NEW_SPENDER}, start, start + hours, drivers, "stolen key")


def snowball(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """A conversation is sent again whole with every call, and grows by a fifth every hour until somebody restarts the thing."""
    agents = [source for source in sources if source.agent] or sources
    source, hours = chance.choice(agents), chance.randint(9, 16)
    for n in range(hours):
        row = trace.hours.get(start + n, {}).get(source.dims())
        if row is not None:
            row[1] = round(row[1] * 1.2 ** (n + 2))
    return Label(_DEARER, start, start + hours, _of(source) | {Series("model", source.model)}, "snowball")


def asks_again(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """A client that takes every answer for a failure and asks several times."""
    source, hours, times = chance.choice(sources), chance.randint(8, 20), chance.randint(4, 8)
    for n in range(hours):
        row = trace.hours.get(start + n, {}).get(source.dims())
        if row is not None:
            row[0], row[1] = row[0] * times, row[1] * times
    return Label(_MORE, start, start + hours, _of(source) | {Series("model", source.model)}, "asks again")


def swapped(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """A dearer model is rolled out in stages, and rolled back the next day."""
    source, hours = chance.choice([one for one in sources if one.model in ("nano", "turbo")]), chance.randint(20, 34)
    dearer = {"nano": "pro", "turbo": "pro"}[source.model]
    for n in range(hours):
        row = trace.hours.get(start + n, {}).get(source.dims())
        if row is None:
            continue
        moved = round(row[0] * min(1.0, 0.1 + n / 12))
        row[1] = round(row[1] * (1 - moved / max(1, row[0])))
        row[0] -= moved
        call(trace, start + n, source, moved, chance, model=dearer)
    return Label(_DEARER, start, start + hours, _of(source) | {Series("model", dearer)}, "swapped model")


def archive(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """The nightly job is given everything there ever was."""
    agents = [source for source in sources if source.agent] or sources
    source, hours = chance.choice(agents), chance.randint(3, 6)
    busiest = max(source.rate(hour) for hour in range(LAST - 336, LAST))
    for n in range(hours):
        call(trace, start + n, source, counted(busiest * chance.uniform(6, 15), chance), chance)
    return Label(_MORE, start, start + hours, _of(source) | {Series("model", source.model)}, "whole archive")


def fast_start(trace: Trace, sources: list[Source], start: int, chance: Random) -> Label:
    """A customer of yesterday spends more than most, from its second hour on."""
    like, hours = chance.choice(sources), chance.randint(20, 40)
    new = Source(like.feature, like.key, like.agent, "pro", "newcomer", like.rate)
    for n in range(hours):
        call(trace, start + n, new, counted(chance.uniform(60, 120) * min(1.0, (n + 1) / 4), chance), chance)
    drivers = frozenset({Series("customer", "newcomer"), Series("model", "pro")})
    return Label(frozenset({Kind.NEW_SPENDER}) | _MORE, start, start + hours, drivers, "fast start")


WRONGS: Final[tuple[Wrong, ...]] = (stolen_key, snowball, asks_again, swapped, archive, fast_start)


def labelled(seed: int) -> Trace:
    """Five weeks of one of the companies; in the last week none to two things go wrong. Four seeds in a row are the four companies."""
    chance = Random(f"other {seed}")
    trace, sources = ordinary(chance, COMPANIES[seed % len(COMPANIES)])
    for place, wrong in enumerate(chance.sample(WRONGS, k=seed % 3)):
        start = LAST - JUDGED + 6 + place * 84 + chance.randrange(30)
        before = trace.cost(start, start + 48)
        label = wrong(trace, sources, start, chance)
        label.cost_nano = trace.cost(start, start + 48) - before
        trace.labels.append(label)
    return trace

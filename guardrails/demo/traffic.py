"""When the calls of the story happened, and how large each was: planned from a seed, in order of time. Pure but for the `Random` it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from guardrails.demo import story
from guardrails.demo.story import FEATURES, Feature

_WEEKDAYS: Final = (1.0, 1.08, 1.1, 1.05, 0.92, 0.36, 0.3)
_OFFICE: Final = (
    0,
    0,
    0,
    0,
    0,
    0,
    0.05,
    0.4,
    1.3,
    2.2,
    2.4,
    2.1,
    1.2,
    1.8,
    2.3,
    2.1,
    1.6,
    0.8,
    0.3,
    0.1,
    0.05,
    0,
    0,
    0,
)
_ALWAYS: Final = (
    0.25, 0.18, 0.14, 0.12, 0.14, 0.2, 0.4, 0.8, 1.4, 1.9, 2.0, 1.9, 1.7, 1.8, 1.9, 1.8, 1.6, 1.4, 1.3, 1.2, 1.0, 0.8, 0.6, 0.4,
)  # fmt: skip
_GROWTH: Final = (1.045, 1.055, 1.02)
"""A day over the day before, in each month."""
_LAST_WEEK_FACTOR: Final = 2.1
"""How much more the largest customer calls in its last seven days."""


@dataclass(slots=True)
class Planned:
    """One call to come into the books."""

    at_ms: int
    feature: Feature
    provider: str
    model: str
    fresh: int
    cached: int
    written: int
    output: int
    duration_ms: int
    question: int = 0
    """64 bits that stand for what was asked: equal where it is asked again, word for word"""
    customer: str = ""
    plan: str = ""
    user: str = ""
    session: str = ""
    person: str = ""
    fate: str = "ok"
    """ok, refused (429), overloaded (529), hung_up, lost (expired), late (expired, then corrected), fallback (a 429, then another model)"""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month of the story as far as it has passed."""

    number: int
    """0, 1 or 2"""
    first: date
    target_usd: float
    """What its calls shall come to."""
    share: float
    """Of the story's calls."""


def months(now: datetime) -> list[Month]:
    """The three calendar months that end with `now` (aware, in the workspace's zone)."""
    third = now.date().replace(day=1)
    second = (third - timedelta(days=1)).replace(day=1)
    first = (second - timedelta(days=1)).replace(day=1)
    share = min(1.0, now.day / story.WHOLE_AFTER_DAYS)
    return [
        Month(0, first, story.MONTH_ONE_USD, 1.0),
        Month(1, second, story.MONTH_TWO_USD, 1.0),
        Month(2, third, story.MONTH_THREE_USD * share, share),
    ]


def planned(month: Month, now: datetime, *, size: float, chance: Random) -> list[Planned]:
    """A month's calls, oldest first. `size` scales how many there are."""
    calls: list[Planned] = []
    for feature in FEATURES:
        count = max(1, round(feature.calls[month.number] * month.share * size))
        calls += _of_feature(feature, month, now, count, chance)
    if month.number == 2:
        calls += _runaway(now, max(20, round(story.RUNAWAY_CALLS * month.share * size)), chance)
    calls.sort(key=lambda call: call.at_ms)
    return calls


def _of_feature(feature: Feature, month: Month, now: datetime, count: int, chance: Random) -> Iterator[Planned]:
    slots, weights = _slots(feature, month, now)
    if not slots:
        return
    sessions = max(1, round(count / feature.turns))
    now_ms = int(now.timestamp() * 1000)
    names, customer_weights = _customers()
    made = 0
    for start_ms in chance.choices(slots, cum_weights=weights, k=sessions):
        recent = now_ms - start_ms < 7 * 86_400_000
        customer = chance.choices(names, cum_weights=customer_weights, k=1)[0] if feature.customers else ""
        if recent and feature.customers and chance.random() < (_LAST_WEEK_FACTOR - 1) * 0.17:
            customer = story.BIG_CUSTOMERS[0][0]
        turns = 1 if feature.turns == 1 else min(24, 1 + int(chance.expovariate(1 / feature.turns)))
        at_ms = start_ms + chance.randrange(3_600_000)
        session = f"s-{chance.randrange(16**8):08x}" if feature.turns > 1 else ""
        user = f"u-{chance.randrange(9000):04d}" if feature.customers else ""
        for turn in range(turns):
            if at_ms >= now_ms or made >= count:
                break
            made += 1
            call = _call(feature, at_ms, customer, user, session, turn, chance)
            yield call
            again_ms = at_ms + 2_500 + chance.randrange(20_000)
            if chance.random() < feature.repeats and call.fate == "ok" and again_ms < now_ms and made < count:
                made += 1
                yield replace(call, at_ms=again_ms)
            at_ms += 15_000 + int(chance.expovariate(1 / 45_000))


def _call(feature: Feature, at_ms: int, customer: str, user: str, session: str, turn: int, chance: Random) -> Planned:
    provider, model, _ = chance.choices(feature.models, weights=[weight for _, _, weight in feature.models], k=1)[0]
    spread = chance.lognormvariate(0, 0.45)
    cached = int(feature.cached * (1 + turn * 0.6) * (chance.random() < 0.78))
    written = int(feature.cached * 0.5) if provider == "anthropic" and feature.cached and not cached else 0
    output = int(feature.output * chance.lognormvariate(0, 0.5))
    dice = chance.random()
    fate = "ok"
    if dice < 0.004:
        fate = "refused"
    elif dice < 0.0065:
        fate = "fallback" if feature.models[0][0] == "openai" and output else "refused"
    elif dice < 0.0085:
        fate = "hung_up" if feature.streamed and output else "ok"
    elif dice < 0.0088:
        fate = "late"
    elif dice < 0.0089:
        fate = "lost"
    return Planned(
        at_ms=at_ms, feature=feature, provider=provider, model=model, fresh=max(20, int(feature.fresh * spread)), cached=cached,
        written=written, output=output, duration_ms=int(feature.milliseconds * chance.lognormvariate(0, 0.35)),
        question=chance.getrandbits(64), customer=customer, plan=_plan_of(customer), user=user, session=session,
        person=chance.choice(feature.people) if feature.people else "", fate=fate,
    )  # fmt: skip


def _runaway(now: datetime, count: int, chance: Random) -> Iterator[Planned]:
    """An agent that asks itself the same question through a night, its context longer each time."""
    feature = next(one for one in FEATURES if one.name == story.RUNAWAY_FEATURE)
    night = _runaway_began(now)
    step_ms = story.RUNAWAY_HOURS * 3_600_000 / count
    provider, model, _ = feature.models[0]
    start_ms, now_ms = int(night.timestamp() * 1000), int(now.timestamp() * 1000)
    for number in range(count):
        at_ms = start_ms + int(number * step_ms + chance.random() * step_ms)
        if at_ms >= now_ms:
            return
        context = 6000 + (number * 37) % 26_000
        yield Planned(
            at_ms=at_ms, feature=feature, provider=provider, model=model, fresh=1800 + int(chance.random() * 900), cached=context, written=0,
            output=700 + int(chance.random() * 500), duration_ms=1200 + int(chance.random() * 800), session=story.RUNAWAY_SESSION,
            question=chance.getrandbits(64),
        )  # fmt: skip


def _runaway_began(now: datetime) -> datetime:
    day = max(now.date() - timedelta(days=story.RUNAWAY_DAYS_AGO), now.date().replace(day=1))
    began = datetime(day.year, day.month, day.day, 1, 40, tzinfo=now.tzinfo)
    return min(began, now - timedelta(hours=story.RUNAWAY_HOURS))


def runaway_ended(now: datetime) -> datetime:
    return _runaway_began(now) + timedelta(hours=story.RUNAWAY_HOURS)


def _slots(feature: Feature, month: Month, now: datetime) -> tuple[list[int], list[float]]:
    """The hours of the month that have begun (in ms), and their cumulative weights."""
    zone = now.tzinfo or ZoneInfo(story.TIME_ZONE)
    hours = _OFFICE if feature.office else _ALWAYS
    growth = _GROWTH[month.number]
    slots: list[int] = []
    weights: list[float] = []
    day = month.first
    while day.month == month.first.month and day <= now.date():
        weekday = _WEEKDAYS[day.weekday()] if feature.customers or feature.office else 1.0
        for hour, weight in enumerate(hours):
            begins = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
            if weight and begins < now:
                slots.append(int(begins.timestamp() * 1000))
                weights.append(weight * weekday * growth ** (day.day - 1))
        day += timedelta(days=1)
    return slots, list(accumulate(weights))


def _customers() -> tuple[Sequence[str], Sequence[float]]:
    return _NAMES, _CUMULATIVE


_NAMES: Final = tuple(name for name, _ in story.BIG_CUSTOMERS) + tuple(
    story.tail_customer(number) for number in range(story.TAIL_CUSTOMERS)
)
_TAIL: Final = [1 / (number + 10) for number in range(story.TAIL_CUSTOMERS)]
_CUMULATIVE: Final = tuple(
    accumulate(
        [weight for _, weight in story.BIG_CUSTOMERS] + [story.TAIL_WEIGHT * weight / sum(_TAIL) for weight in _TAIL]
    )
)
_PLANS: Final = {
    name: story.PLANS[0] if place < 5 else story.PLANS[1] if place < 60 else story.PLANS[2]
    for place, name in enumerate(_NAMES)
}


def _plan_of(customer: str) -> str:
    return _PLANS.get(customer, "")

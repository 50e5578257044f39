"""Labelled synthetic traffic from a seed: weeks of ordinary seasonal calls with growth, and anomalies whose place is known. Pure but for `Random`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from guardrails.domain.anomalies.baseline import Cell, History, is_weekend
from guardrails.domain.anomalies.causes import Line
from guardrails.domain.anomalies.kinds import Kind, Series

WEEKS = 5
HOURS = WEEKS * 168
JUDGED = 168
"""The last week is judged."""
FIRST = 20_000 * 24 - 72 + 1344 * 24
"""A Monday."""
MODELS = {"mini": 400_000, "mid": 2_500_000, "large": 15_000_000}
"""What an ordinary call costs, in nano-USD."""
_DAY = (
    0.2,
    0.15,
    0.1,
    0.1,
    0.12,
    0.2,
    0.4,
    0.8,
    1.4,
    1.9,
    2.0,
    1.9,
    1.7,
    1.8,
    1.9,
    1.8,
    1.6,
    1.4,
    1.3,
    1.2,
    1.0,
    0.8,
    0.6,
    0.4,
)


@dataclass(frozen=True)
class Product:
    """An ordinary source of calls; `rate`: calls an hour on average."""

    feature: str
    key: str
    agent: str
    model: str
    rate: float
    customers: int = 0
    steady: bool = False


PRODUCTS = (
    Product("chat", "app", "", "mini", 220, customers=6),
    Product("summary", "app", "", "mid", 60, customers=6),
    Product("review", "ci", "reviewer", "mid", 25),
    Product("extract", "office", "reader", "mini", 90),
    Product("research", "lab", "scout", "large", 4, steady=True),
)


@dataclass
class Label:
    kind: frozenset[Kind]
    start: int
    end: int
    drivers: frozenset[Series]
    name: str
    cost_nano: int = 0
    """What it cost above what was there before."""


Dims = tuple[str, str, str, str, str, str]
"""feature, key, agent, model, customer, session"""
NAMES = ("feature", "virtual_key", "agent", "model", "customer", "session")


@dataclass
class Trace:
    hours: dict[int, dict[Dims, list[int]]]
    """hour -> dimensions -> [calls, cost]"""
    labels: list[Label] = field(default_factory=list)
    _lines: dict[tuple[int, int], list[Line]] = field(default_factory=dict)

    @cached_property
    def histories(self) -> dict[Series, History]:
        sums: dict[tuple[str, str], dict[int, list[int]]] = {}
        for hour, rows in self.hours.items():
            for (feature, key, agent, model, customer, _), (calls, cost) in rows.items():
                for name in (
                    ("agent", agent),
                    ("virtual_key", key),
                    ("customer", customer),
                    ("feature", feature),
                    ("model", model),
                    ("", ""),
                ):
                    if name[1] or not name[0]:
                        known = sums.setdefault(name, {}).setdefault(hour, [0, 0])
                        known[0] += calls
                        known[1] += cost
        return {
            Series(*name): History({hour: Cell(calls, calls, 0, cost) for hour, (calls, cost) in at.items()}, FIRST)
            for name, at in sums.items()
        }

    def lines(self, start: int, end: int) -> list[Line]:
        if (start, end) not in self._lines:
            self._lines[start, end] = self._read(start, end)
        return self._lines[start, end]

    def cost(self, start: int, end: int) -> int:
        return sum(cost for hour in range(start, end) for _, cost in self.hours.get(hour, {}).values())

    def _read(self, start: int, end: int) -> list[Line]:
        sums: dict[Dims, list[int]] = {}
        for hour in range(start, end):
            for dims, (calls, cost) in self.hours.get(hour, {}).items():
                known = sums.setdefault(dims, [0, 0])
                known[0] += calls
                known[1] += cost
        return [Line(dict(zip(NAMES, dims, strict=True)), calls, 0, cost) for dims, (calls, cost) in sums.items()]

    def add(self, hour: int, dims: Dims, calls: int, cost: float) -> None:
        row = self.hours.setdefault(hour, {}).setdefault(dims, [0, 0])
        row[0] += calls
        row[1] += round(cost)


def poisson(rate: float, chance: Random) -> int:
    if rate <= 0:
        return 0
    if rate > 12:
        return max(0, round(chance.gauss(rate, rate**0.5)))
    count, left = 0, chance.expovariate(rate)
    while left < 1:
        count += 1
        left += chance.expovariate(rate)
    return count


def ordinary(chance: Random) -> Trace:
    """Five weeks of people's traffic: by day and weekday, growing up to 2% a day, each day a little busier or quieter than it should be."""
    trace = Trace({})
    growth = 1 + chance.uniform(0, 0.02)
    size = chance.choice((0.6, 1.0, 2.0))
    weights = [1 / (place + 1.5) for place in range(6)]
    for day in range(WEEKS * 7):
        moods = [chance.lognormvariate(0, 0.12) for _ in PRODUCTS]
        for hour_of_day in range(24):
            hour = FIRST + day * 24 + hour_of_day
            for product, mood in zip(PRODUCTS, moods, strict=True):
                season = 1.0 if product.steady else _DAY[hour_of_day] * (0.35 if is_weekend(hour) else 1.0)
                rate = product.rate * size * season * mood * growth**day
                if not product.customers:
                    spend(trace, hour, product, "", poisson(rate, chance), chance)
                    continue
                for place, weight in enumerate(weights):
                    spend(trace, hour, product, f"c{place}", poisson(rate * weight / sum(weights), chance), chance)
    return trace


def spend(
    trace: Trace, hour: int, product: Product, customer: str, calls: int, chance: Random,
    *, times: float = 1.0, model: str = "", session: str = "", agent: str = "",
) -> None:  # fmt: skip
    if not calls:
        return
    model = model or product.model
    mean = MODELS[model] * times
    cost = max(calls * mean * 0.3, chance.gauss(calls * mean, calls**0.5 * mean * 0.6))
    trace.add(hour, (product.feature, product.key, agent or product.agent, model, customer, session), calls, cost)


# --- What goes wrong --------------------------------------------------------------------------------------------------
def night_loop(trace: Trace, start: int, chance: Random) -> Label:
    """An agent asks itself the same through the night, in one session."""
    length, product = chance.randint(2, 6), PRODUCTS[4]
    for hour in range(start, start + length):
        spend(trace, hour, product, "", poisson(chance.uniform(80, 900), chance), chance, session="run-1", times=1.2)
    return Label(
        frozenset({Kind.VOLUME, Kind.LOOP}), start, start + length,
        frozenset({Series("session", "run-1"), Series("agent", "scout")}), "runaway loop",
    )  # fmt: skip


def surge(trace: Trace, start: int, chance: Random) -> Label:
    """One customer sends many times its usual calls."""
    length, who, product = chance.randint(2, 5), f"c{chance.randrange(4)}", PRODUCTS[1]
    for hour in range(start, start + length):
        spend(trace, hour, product, who, poisson(chance.uniform(500, 4000), chance), chance)
    return Label(frozenset({Kind.VOLUME}), start, start + length, frozenset({Series("customer", who)}), "volume spike")


def dear_calls(trace: Trace, start: int, chance: Random) -> Label:
    """Every call of an agent carries a context that ran away."""
    length, times = chance.randint(4, 9), chance.uniform(4, 20)
    for hour in range(start, start + length):
        for dims, row in trace.hours.get(hour, {}).items():
            if dims[2] == "reviewer":
                row[1] = round(row[1] * times)
        spend(trace, hour, PRODUCTS[2], "", poisson(45, chance), chance, times=times)
    return Label(
        frozenset({Kind.COST_PER_CALL}), start, start + length,
        frozenset({Series("agent", "reviewer"), Series("virtual_key", "ci"), Series("feature", "review")}), "cost per call",
    )  # fmt: skip


def other_model(trace: Trace, start: int, chance: Random) -> Label:
    """Someone points a feature at a model that costs forty times as much."""
    length, share = chance.randint(10, 20), chance.uniform(0.2, 1.0)
    for hour in range(start, start + length):
        for dims, (calls, cost) in list(trace.hours.get(hour, {}).items()):
            if dims[0] == "extract" and dims[3] == "mini":
                moved = round(calls * share)
                trace.hours[hour][dims] = [calls - moved, round(cost * (1 - share))]
                spend(trace, hour, PRODUCTS[3], "", moved, chance, model="large")
    return Label(
        frozenset({Kind.MODEL_MIX}), start, start + length,
        frozenset({Series("agent", "reader"), Series("virtual_key", "office"), Series("feature", "extract")}), "model mix",
    )  # fmt: skip


def new_customer(trace: Trace, start: int, chance: Random) -> Label:
    """A customer nobody knew spends like the largest."""
    length = chance.randint(14, 30)
    for hour in range(start, start + length):
        spend(trace, hour, PRODUCTS[1], "newco", poisson(chance.uniform(60, 400), chance), chance)
    return Label(
        frozenset({Kind.NEW_SPENDER, Kind.VOLUME}),
        start,
        start + length,
        frozenset({Series("customer", "newco")}),
        "new customer",
    )


PATTERNS = (night_loop, surge, dear_calls, other_model, new_customer)


def labelled(seed: int) -> Trace:
    """Ordinary weeks and, in the last one, none to three anomalies at times of their own."""
    chance = Random(seed)
    trace = ordinary(chance)
    last = FIRST + HOURS
    patterns = chance.sample(PATTERNS, k=seed % 4)
    for place, pattern in enumerate(patterns):
        start = last - JUDGED + 4 + place * 54 + chance.randrange(20)
        before = trace.cost(start, start + 60)
        label = pattern(trace, start, chance)
        label.cost_nano = trace.cost(start, start + 60) - before
        trace.labels.append(label)
    return trace


__all__ = ["FIRST", "HOURS", "JUDGED", "Label", "Trace", "labelled", "ordinary", "poisson"]

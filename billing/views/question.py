"""A cost question as it stands in an address: range, comparison, groups, filters, metric. Read from a query string and written back to one.

Whatever is not understood is left out and said, so that a bad or old link still answers something. Pure but for the day it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from billing.domain.dimensions import MAX_VALUE_CHARS, Dimension
from billing.ledger.queries import MOST_DAYS_BY_HOUR, TAG, CannotAnswer, Days, Granularity, check_dimension
from billing.views.metrics import METRICS, Metric
from workspaces.domain.names import plain

TITLES: Final = {
    Dimension.CUSTOMER: "Customer", Dimension.FEATURE: "Feature", Dimension.AGENT: "Agent", Dimension.MEMBER: "Member",
    Dimension.DEPARTMENT: "Department", Dimension.MODEL: "Model", Dimension.PROVIDER: "Provider", Dimension.VIRTUAL_KEY: "Virtual key",
    Dimension.ENVIRONMENT: "Environment", Dimension.USER: "User", Dimension.SESSION: "Session",
}  # fmt: skip
PRESETS: Final = {
    "today": "Today", "yesterday": "Yesterday", "week": "This week", "last_week": "Last week", "7d": "Last 7 days", "30d": "Last 30 days",
    "month": "This month", "last_month": "Last month", "90d": "Last 90 days", "12m": "Last 12 months",
}  # fmt: skip
DEFAULT_RANGE: Final = "30d"
_FOLLOWING: Final = (
    Dimension.CUSTOMER, Dimension.FEATURE, Dimension.MODEL, Dimension.USER, Dimension.AGENT, Dimension.VIRTUAL_KEY,
)  # fmt: skip
"""What one asks next, after a value was clicked: the first of these that is not fixed yet."""
_CONTROLS: Final = frozenset({"range", "from", "to", "compare", "by", "then", "metric", "grain", "view"})
_OLDEST: Final = date(2020, 1, 1)


@dataclass(frozen=True, slots=True)
class Question:
    days: Days
    preset: str
    """A key of `PRESETS`, or "" for a range of one's own."""
    by: str = Dimension.CUSTOMER
    then: str = ""
    metric: Metric = METRICS["cost"]
    grain: Granularity = Granularity.DAY
    asked_grain: str = ""
    compares: bool = True
    filters: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def before(self) -> Days:
        return period_before(self.days, self.preset)

    @property
    def dimensions(self) -> tuple[str, ...]:
        return (self.by, self.then) if self.then else (self.by,)

    def query(self, **changes: Any) -> str:
        """The query string of this question, with some of its parts changed."""
        return urlencode(replace(self, **changes).parameters() if changes else self.parameters())

    def parameters(self) -> list[tuple[str, str]]:
        pairs = [("range", self.preset)] if self.preset else []
        if not self.preset:
            pairs += [("from", self.days.first.isoformat()), ("to", self.days.last.isoformat())]
        pairs.append(("by", self.by))
        if self.then:
            pairs.append(("then", self.then))
        if self.metric.name != "cost":
            pairs.append(("metric", self.metric.name))
        if self.asked_grain:
            pairs.append(("grain", self.asked_grain))
        if not self.compares:
            pairs.append(("compare", "none"))
        return [*pairs, *sorted(self.filters.items())]

    def with_filter(self, dimension: str, value: str) -> str:
        """The query string after a value was clicked: a filter more, grouped by the next dimension."""
        filters = {**self.filters, dimension: value}
        following = next((name for name in _FOLLOWING if name not in filters), Dimension.MODEL)
        if self.then and self.then not in filters:
            following = Dimension(self.then) if self.then in TITLES else following
        return self.query(filters=filters, by=following, then="")

    def without_filter(self, dimension: str) -> str:
        return self.query(filters={name: value for name, value in self.filters.items() if name != dimension})


def title_of(dimension: str) -> str:
    if dimension.startswith(TAG):
        return f"Tag: {plain(dimension.removeprefix(TAG))}"
    return TITLES[Dimension(dimension)]


def read(pairs: Iterable[tuple[str, str]], today: date, *, is_narrowed: bool = False) -> Question:
    """A query string's pairs -> the question, with what was not understood in `problems`. `is_narrowed`: to a lead's department."""
    reader = _Reader(pairs, today)
    days, preset = reader.range()
    by = reader.dimension("by", Dimension.CUSTOMER)
    then = reader.dimension("then", "")
    if then == by and then:
        reader.problems.append("Group by two different dimensions.")
        then = ""
    filters = reader.filters()
    metric = METRICS.get(reader.one("metric") or "cost")
    if metric is None:
        reader.problems.append(f"There is no metric “{plain(reader.one('metric')[:40])}”: cost is shown.")
        metric = METRICS["cost"]
    grain, asked = reader.grain(days, {by, *filters, *(["department"] if is_narrowed else [])})
    return Question(
        days=days, preset=preset, by=by, then=then, metric=metric, grain=grain, asked_grain=asked,
        compares=reader.one("compare") != "none", filters=filters, problems=tuple(dict.fromkeys(reader.problems)),
    )  # fmt: skip


def read_narrowing(
    pairs: Iterable[tuple[str, str]], today: date, controls: Iterable[str]
) -> tuple[dict[str, str], Days | None, tuple[str, ...]]:
    """Filters and a range alone, as the call log has them: (filters, days or None for all, problems). `controls`: names of other fields."""
    others = set(controls)
    reader = _Reader([(name, value) for name, value in pairs if name not in others], today)
    days = reader.range()[0] if any(reader.one(name) for name in ("range", "from", "to")) else None
    filters = reader.filters()
    return filters, days, tuple(dict.fromkeys(reader.problems))


class _Reader:
    def __init__(self, pairs: Iterable[tuple[str, str]], today: date) -> None:
        self.problems: list[str] = []
        self.today = today
        self._given: dict[str, str] = {}
        for name, value in pairs:
            if name in self._given and value != self._given[name]:
                self.problems.append(f"“{plain(name[:40])}” is given more than once: its first value counts.")
            self._given.setdefault(name, value)

    def one(self, name: str) -> str:
        return self._given.get(name, "")

    def range(self) -> tuple[Days, str]:
        preset = self.one("range")
        if preset and preset not in PRESETS:
            self.problems.append(f"There is no range “{plain(preset[:40])}”.")
            preset = ""
        if not preset and (self.one("from") or self.one("to")):
            own = self._own_range()
            if own is not None:
                return own, ""
        preset = preset or DEFAULT_RANGE
        return preset_days(preset, self.today), preset

    def _own_range(self) -> Days | None:
        try:
            last = _day(self.one("to")) if self.one("to") else self.today
            first = _day(self.one("from")) if self.one("from") else last - timedelta(days=29)
        except ValueError:
            self.problems.append("Write days like 2026-11-21. The last 30 days are shown.")
            return None
        if last < first:
            self.problems.append("The range ended before it began: it was turned around.")
            first, last = last, first
        kept_first, kept_last = max(first, _OLDEST), min(last, self.today)
        if kept_first > kept_last:
            self.problems.append("The books have nothing of that range. The last 30 days are shown.")
            return None
        if kept_first != first:
            self.problems.append(f"There are no books before {_OLDEST.year}: the range begins there.")
        return Days(kept_first, kept_last)

    def dimension(self, name: str, default: str) -> str:
        given = self.one(name)
        if not given:
            return default
        try:
            return check_dimension(given)
        except CannotAnswer:
            self.problems.append(f"There is no dimension “{plain(given[:40])}”.")
            return default

    def filters(self) -> dict[str, str]:
        filters: dict[str, str] = {}
        for name, value in self._given.items():
            if name in _CONTROLS or not value:
                continue
            try:
                check_dimension(name)
            except CannotAnswer:
                self.problems.append(f"“{plain(name[:40])}” is nothing to filter by: it was left out.")
                continue
            if len(value) > MAX_VALUE_CHARS or "\x00" in value:
                self.problems.append(
                    f"A value of {title_of(name)} has at most {MAX_VALUE_CHARS} characters: it was left out."
                )
                continue
            filters[name] = value
        return filters

    def grain(self, days: Days, names: set[str]) -> tuple[Granularity, str]:
        asked = self.one("grain")
        length = (days.last - days.first).days + 1
        by_itself = Granularity.DAY if length <= 92 else Granularity.WEEK if length <= 370 else Granularity.MONTH
        one_dimension = len(names) <= 1 and not names & {Dimension.USER, Dimension.SESSION}
        if length <= 2 and one_dimension:
            by_itself = Granularity.HOUR
        if not asked:
            return by_itself, ""
        try:
            grain = Granularity(asked)
        except ValueError:
            self.problems.append(f"There is no step “{plain(asked[:40])}”: use hour, day, week or month.")
            return by_itself, ""
        if grain is Granularity.HOUR and (not one_dimension or length > MOST_HOURLY_DAYS):
            self.problems.append(
                f"Hours are kept for one dimension at a time, not for users or sessions, and shown for at most {MOST_HOURLY_DAYS} days."
            )
            return by_itself, ""
        if grain is Granularity.DAY and length > MOST_DAILY_DAYS:
            self.problems.append("So many days are shown by the week.")
            return Granularity.WEEK, ""
        return grain, asked


MOST_HOURLY_DAYS: Final = min(7, MOST_DAYS_BY_HOUR)
MOST_DAILY_DAYS: Final = 186


def _day(text: str) -> date:
    if len(text) != 10:
        raise ValueError(text)
    return date.fromisoformat(text)


def preset_days(preset: str, today: date) -> Days:
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    yesterday = today - timedelta(days=1)
    ranges = {
        "today": (today, today),
        "yesterday": (yesterday, yesterday),
        "week": (monday, today),
        "last_week": (monday - timedelta(days=7), monday - timedelta(days=1)),
        "7d": (today - timedelta(days=6), today),
        "30d": (today - timedelta(days=29), today),
        "90d": (today - timedelta(days=89), today),
        "month": (first, today),
        "last_month": ((first - timedelta(days=1)).replace(day=1), first - timedelta(days=1)),
        "12m": (date(today.year - 1, today.month, 1), today),
    }
    return Days(*ranges[preset])


def period_before(days: Days, preset: str = "") -> Days:
    """What a range is compared with: as many days before; for months and weeks the same days of the one before."""
    if preset == "week":
        return Days(days.first - timedelta(days=7), days.last - timedelta(days=7))
    if preset in ("month", "last_month"):
        before_last = days.first - timedelta(days=1)
        first = before_last.replace(day=1)
        if preset == "last_month":
            return Days(first, before_last)
        return Days(first, min(before_last, first + (days.last - days.first)))
    return days.before()

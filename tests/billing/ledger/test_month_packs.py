"""Months of packs that are merged answer as their days do, for any range, grain, filter and two dimensions, and what comes late counts once."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from billing.ledger import queries, reconcile, values
from billing.ledger.packs import gathering, merging, packing
from billing.ledger.queries import Days, Granularity
from billing.models import DayMonthPack, DetailMonthPack
from tests.billing.ledger import test_packs, test_value_packs
from tests.cast import Cast
from workspaces import tenancy
from workspaces.models import Workspace

NOW = datetime.now(UTC)
FIRST = (NOW.date().replace(day=1) - timedelta(days=80)).replace(day=1)
"""Three months and the running one."""
LAST = NOW.date()
OF = {
    "customer": ("ann", "ben", "çy", "dee", *(f"c{number}" for number in range(6))),
    "feature": ("chat", "search"),
    "model": ("m1", "m2", "m3"),
}


class Book:
    """A random book, and what a naive sum over its calls says."""

    def __init__(self, events: Any, books: Any, workspace: Workspace, seed: int) -> None:
        self.chance = random.Random(seed)
        self.calls: list[tuple[date, dict[str, str], int]] = []
        self._events, self._books, self.workspace = events, books, workspace
        every = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
        self._days = sorted({*every[:2], LAST, *self.chance.sample(every, 14)})

    def call(self, count: int) -> None:
        for number in range(count):
            day = self._days[number % len(self._days)]
            at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            own = {name: self.chance.choice(some) for name, some in OF.items()}
            cost = self.chance.randrange(1, 10**12)
            dims = {"customer": own["customer"], "feature": own["feature"], "user": f"u{self.chance.randrange(40)}"}
            self._events.call(
                self.workspace.id, cost=cost, at_ms=int(at.timestamp() * 1000), dims=dims, model=own["model"]
            )
            self.calls.append((day, own, cost))
        self._books.drain(self.workspace.id)

    def naive(self, days: Days, by: tuple[str, ...], filters: dict[str, str]) -> list[tuple[tuple[str, ...], int, int]]:
        cost: Counter[tuple[str, ...]] = Counter()
        calls: Counter[tuple[str, ...]] = Counter()
        for day, own, amount in self.calls:
            if days.first <= day <= days.last and filters.items() <= own.items():
                group = tuple(own[name] for name in by)
                cost[group] += amount
                calls[group] += 1
        return sorted(((one, cost[one], calls[one]) for one in cost), key=lambda one: (-one[1], one[0]))

    def naive_over_time(
        self, days: Days, grain: Granularity, value: str, by: str, filters: dict[str, str]
    ) -> list[tuple[date, int]]:
        sums: Counter[date] = Counter()
        for day, own, amount in self.calls:
            if days.first <= day <= days.last and filters.items() <= own.items() and value in ("", own[by]):
                week = day - timedelta(days=day.weekday())
                start = {Granularity.DAY: day, Granularity.WEEK: week, Granularity.MONTH: day.replace(day=1)}[grain]
                sums[start] += amount
        return sorted(sums.items())

    def check(self, questions: int) -> None:
        """Random questions."""
        chance, cost = self.chance, ("calls", "cost_nano")
        for _ in range(questions):
            ends = sorted(FIRST + timedelta(days=chance.randrange((LAST - FIRST).days + 1)) for _ in range(2))
            days = Days(*chance.choice([ends, [FIRST, LAST]]))
            by = tuple(chance.sample(sorted(OF), chance.choice([1, 1, 2])))
            filters = {name: chance.choice(OF[name]) for name in chance.sample(sorted(OF), chance.choice([0, 0, 1, 2]))}
            grain = chance.choice([Granularity.DAY, Granularity.WEEK, Granularity.MONTH])
            limit, charted = chance.choice([2, 100]), chance.choice([0, 3])
            with tenancy.entered(self.workspace):
                rows, points = queries.answered(
                    self.workspace, days, by, grain, filters=filters, limit=limit, measures=cost, charted=charted
                )
            asked = f"{days} {by} {filters} {grain} {limit} {charted}"
            expected = self.naive(days, by, filters)[:limit]
            assert [(row.values, row.totals.cost_nano, row.totals.calls) for row in rows] == expected, asked
            shown = list(dict.fromkeys(group[0] for group, _, _ in expected))[:charted]
            for value in ("", *shown):
                line = [(point.start, point.totals.cost_nano) for point in points if point.value == value]
                assert line == self.naive_over_time(days, grain, value, by[0], filters), f"{asked} {value}"
            assert {point.value for point in points} == {*shown, *([""] if expected else [])}


def pack_days(workspace: Workspace) -> None:
    """As the worker would if there was enough of each."""
    with tenancy.every_workspace("tests pack"), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT day FROM billing_rollup_detail WHERE workspace_id = %s", [workspace.pk])
        days = [day for (day,) in cursor.fetchall()]
        cursor.execute(
            "SELECT DISTINCT dimension, day FROM billing_rollup_day WHERE workspace_id = %s AND dimension = ANY(%s)",
            [workspace.pk, ["customer", "feature", "model", "user", "session", "tag:team"]],
        )
        of_values = cursor.fetchall()
    for day in days:
        assert packing.pack(workspace.id, day)
    for dimension, day in of_values:
        assert gathering.pack(values.DAY, workspace.id, dimension, day)


def later() -> datetime:
    """When all months but the running one may be merged."""
    return NOW + merging.CLOSED_FOR


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [1, 2])
def test_any_question_is_answered_as_a_sum_over_the_calls_before_and_after_merging(
    events: Any, books: Any, cast: Cast, seed: int
) -> None:
    book = Book(events, books, cast.acme, seed)
    book.call(90)
    pack_days(cast.acme)
    book.check(12)
    assert merging.merge_due(later()) > 0
    assert books.value("SELECT count(*) FROM billing_detail_month_pack") > 0
    book.check(40)
    # What comes late: rows, packs of their days, and joined to their months.
    book.call(25)
    book.check(15)
    pack_days(cast.acme)
    book.check(15)
    merging.merge_due(later())
    book.check(15)
    found = reconcile.books(cast.acme).differences
    assert not [one for one in found if "rollup" in one.what or "packs" in one.what]


@pytest.mark.django_db
def test_everything_that_reads_days_of_values_answers_as_before(events: Any, books: Any, cast: Cast) -> None:
    acme, chance = cast.acme, random.Random(4)
    test_value_packs._book(events, books, acme, chance, 60)
    before = [test_value_packs.answers(acme), test_packs.answers(acme)]
    pack_days(acme)
    # The running month, too: every question then meets merged days.
    assert merging.merge_due(later() + timedelta(days=35)) > 0
    assert books.value("SELECT count(*) FROM billing_detail_pack WHERE workspace_id = %s", acme.id) <= 1
    assert [test_value_packs.answers(acme), test_packs.answers(acme)] == before
    with tenancy.entered(acme):
        assert set(values.names(acme.id, ["user"], NOW.date() - timedelta(days=70), 1000)) >= {"user-1"}


@pytest.mark.django_db
def test_a_correction_of_a_merged_day_counts_once_wherever_it_stands(events: Any, books: Any, cast: Cast) -> None:
    acme, calls = cast.acme, []
    days = Days(FIRST, LAST)
    for number in range(3):
        at_ms = int(datetime(FIRST.year, FIRST.month, 1 + number, 12, tzinfo=UTC).timestamp() * 1000)
        calls.append((events.emit("expire", acme.id, cost=100, held=100, dims={"customer": "ann"}, at_ms=at_ms), at_ms))
    books.drain(acme.id)
    pack_days(acme)
    merging.merge_due(later())
    rid, at_ms = calls[0]
    events.emit("adjust", acme.id, rid, cost=-40, held=100, dims={"customer": "ann"}, at_ms=at_ms)
    books.drain(acme.id)

    def sums() -> list[tuple[int, int]]:
        with tenancy.entered(acme):
            asked = [queries.by_value(acme, days, "customer"), queries.grouped(acme, days, ("customer", "model"))]
            return [(row.totals.cost_nano, row.totals.calls) for (row,) in asked]

    assert sums() == [(260, 3)] * 2
    pack_days(acme)
    assert sums() == [(260, 3)] * 2
    for _ in range(2):
        merging.merge_due(later())
        assert sums() == [(260, 3)] * 2
    for table in ("billing_detail_month_pack", "billing_day_month_pack WHERE dimension = 'customer'"):
        assert books.rows(f"SELECT rows, sum_cost_nano FROM {table}") == [(3, 260)]
    assert not [one for one in reconcile.books(acme).differences if "rollup" in one.what or "packs" in one.what]


@pytest.mark.django_db
def test_a_kill_between_taking_days_and_keeping_the_month_takes_nothing(
    events: Any, books: Any, cast: Cast, monkeypatch: Any
) -> None:
    book = Book(events, books, cast.acme, 3)
    book.call(30)
    pack_days(cast.acme)

    class Killed(BaseException):
        pass

    def dies(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(merging, "_keep", dies)
        with pytest.raises(Killed):
            merging.merge_due(later())
    assert books.value("SELECT count(*) FROM billing_detail_month_pack") == 0
    book.check(5)


@pytest.mark.django_db
def test_only_months_that_ended_long_ago_are_merged_and_not_users_or_months_too_large(
    events: Any, books: Any, cast: Cast, monkeypatch: Any
) -> None:
    for workspace in (cast.acme, cast.globex):
        Book(events, books, workspace, 5).call(40)
        pack_days(workspace)
    monkeypatch.setattr(merging, "MOST_ROWS", 1)
    assert merging.merge_due(later()) == 0
    monkeypatch.undo()
    now = NOW + timedelta(days=40)
    assert merging.merge_due(now) > 0
    border = (now - merging.CLOSED_FOR).date().replace(day=1)
    for table in ("billing_detail", "billing_day"):
        assert books.value(f"SELECT max(day) FROM {table}_month_pack") < border
        assert books.value(f"SELECT count(DISTINCT date_trunc('month', day)) FROM {table}_pack WHERE day >= %s", border)
    assert books.value("SELECT count(*) FROM billing_day_month_pack WHERE dimension = 'user'") == 0
    assert merging.merge_due(now) == 0, "once is enough"
    with tenancy.entered(cast.acme):
        for model in (DayMonthPack, DetailMonthPack):
            assert set(model.objects.values_list("workspace_id", flat=True)) == {cast.acme.id}

"""Hours and days of a dimension's values answer the same whether they stand in rows, in packs or in both; nothing is lost on the way between."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from billing.ledger import queries, reconcile, retention, sums, values
from billing.ledger.packs import gathering
from billing.ledger.queries import Days, Granularity
from billing.ledger.values import DAY, HOUR
from billing.models import DayPack, HourPack
from guardrails import drafts
from guardrails.anomalies import reading
from guardrails.domain.anomalies.kinds import Series
from guardrails.domain.budgets import Budget, Scope
from guardrails.domain.periods import Era, Period
from tests.cast import Cast
from workspaces import narrowing, tenancy
from workspaces.directory.models import Department
from workspaces.models import Membership, Role, Workspace

NOW = datetime.now(UTC)
TODAY = NOW.date()
RANGE = Days(TODAY - timedelta(days=70), TODAY)
WEEK = Days(TODAY - timedelta(days=6), TODAY)
BY = ("customer", "user", "session", "model", "tag:team")
CUSTOMERS = ("ann", "ben", "", "çy", *(f"c{number}" for number in range(7)))


def _book(events: Any, books: Any, workspace: Workspace, chance: random.Random, calls: int) -> None:
    for _ in range(calls):
        at = NOW - timedelta(minutes=int(70 * 24 * 60 * chance.random() ** 3))
        dims = {
            "customer": chance.choice(CUSTOMERS), "feature": chance.choice(["chat", "search"]), "department": chance.choice("xy"),
            "user": f"user-{chance.randrange(30)}", "session": f"s-{chance.randrange(60)}",
        }  # fmt: skip
        events.call(
            workspace.id, cost=chance.randrange(1, 10**9), at_ms=int(at.timestamp() * 1000), dims=dims, http_status=chance.choice([200, 500]),
            tags=chance.choice([{}, {"team": "x"}, {"team": "y", "plan": "pro"}]), model=chance.choice(["m1", "m2"]),
        )  # fmt: skip
    books.drain(workspace.id)


def answers(workspace: Workspace) -> list[Any]:
    """What everybody who reads hours and days of values makes of them."""
    found: list[Any] = []
    yesterday = Days(TODAY - timedelta(days=1), TODAY)
    with tenancy.entered(workspace):
        for days in (RANGE, WEEK, Days(RANGE.first, TODAY - timedelta(days=5))):
            for by in BY:
                found += [queries.by_value(workspace, days, by, limit=limit) for limit in (3, 100)]
                found += [queries.ranked(workspace, days, (by,), limit=4, rank_by="tokens")]
                found += [queries.series(workspace, days, Granularity.WEEK, dimension=by)]
                found += [queries.series(workspace, days, Granularity.MONTH, dimension=by)]
            found += [queries.grouped(workspace, days, ("customer",), only=[("ann",), ("nobody",), ("c3",)])]
            found += [queries.totals(workspace, days, {"customer": "ann"}), queries.totals(workspace, days)]
            found += [queries.movers(workspace, days, ("customer", "model"), limit=5)]
            found += [queries.series(workspace, days, Granularity.DAY, filters={"customer": "c1"})]
            asked = sums.answered(workspace, days, ("customer",), Granularity.MONTH, limit=4, charted=2)
            found += [asked]
        found += [queries.series(workspace, yesterday, Granularity.HOUR, dimension="customer", values=["ann", "ben"])]
        found += [queries.series(workspace, yesterday, Granularity.HOUR, filters={"model": "m1"})]
        found += [queries.dimensions_with(workspace, word, TODAY) for word in ("s-1", "user-2", "ann", "nothing")]
        since = NOW - timedelta(hours=30)
        found += [reading.dear_series(workspace, ("customer", "model"), since, 10**6)]
        found += [reading.histories(workspace, "customer", ["ann", "ben"], since)]
        found += [
            reading.first_days(workspace, "customer", CUSTOMERS),
            reading.usual_days(workspace, "customer", WEEK.first, TODAY),
        ]
        found += [reading.day_costs(workspace, "customer", "ann", RANGE.first)]
        found += [reading.since_yesterday(workspace, Series("customer", one), NOW) for one in ("ann", "nobody")]
        found += [sorted(values.names(workspace.id, ["customer", "session"], RANGE.first, 1000))]
        lead = Membership(role=Role.LEAD, department_id=Department.objects.get_or_create(name="x")[0].pk)
        with narrowing.narrowed_to(lead):
            found += [
                queries.days_and_hours_so_far(workspace, WEEK, NOW, [TODAY - timedelta(days=1), WEEK.first]),
                queries.by_value(workspace, WEEK, "department"),
            ]
    for period, by in (
        (Period.DAY, "user"),
        (Period.HOUR, "customer"),
        (Period.MONTH, "tag:team"),
        (Period.DAY, "session"),
    ):
        draft = _each(by, period)
        found += [drafts.run_backtest(workspace, draft, NOW), drafts.preview(workspace, draft, NOW)]
    return found


def _each(by: str, period: Period) -> Budget:
    return Budget("0198c0de-0000-7000-8000-000000000001", "b", 300_000_000, period, (Era("UTC"),), Scope(by, None))


def _pack(workspace: Workspace, every: int = 1) -> None:
    """Every so manieth day of each dimension."""
    for grain, day in ((DAY, "day"), (HOUR, "(hour AT TIME ZONE 'UTC')::date")):
        with tenancy.every_workspace("tests pack"), connection.cursor() as cursor:
            cursor.execute(
                f"SELECT DISTINCT dimension, {day} FROM {grain.rows} WHERE workspace_id = %s AND dimension <> '' ORDER BY 1, 2",
                [workspace.pk],
            )
            found = cursor.fetchall()
        for dimension, on in found[::every]:
            assert gathering.pack(grain, workspace.id, dimension, on)


@pytest.mark.django_db
def test_answers_are_the_same_before_between_and_after_packing(events: Any, books: Any, cast: Cast) -> None:
    acme, chance = cast.acme, random.Random(11)
    _book(events, books, acme, chance, 60)
    _book(events, books, cast.globex, chance, 3)
    before = answers(acme)
    with tenancy.entered(acme):
        shown = {row.value: row.totals.cost_nano for row in queries.by_value(acme, RANGE, "session")}
    by_hand = "SELECT value, sum(cost_nano)::bigint FROM billing_rollup_day WHERE workspace_id = %s AND dimension = 'session' GROUP BY 1"
    assert shown == dict(books.rows(by_hand, acme.id))

    _pack(acme, 2)
    assert answers(acme) == before, "half of them packed"
    _pack(acme)
    for grain in (DAY, HOUR):
        assert (
            books.value(
                f"SELECT count(*) FROM {grain.rows} WHERE workspace_id = %s AND dimension = 'customer'", acme.id
            )
            == 0
        )
    assert answers(acme) == before, "all of them packed"

    # What comes after its day was packed is a row beside the pack, until it joins it.
    _book(events, books, acme, chance, 12)
    late = answers(acme)
    assert late != before
    _pack(acme)
    assert answers(acme) == late
    assert not [one for one in reconcile.books(acme).differences if "rollup" in one.what or "packs" in one.what]


@pytest.mark.django_db
def test_a_late_correction_joins_the_pack_of_its_day_and_hour(events: Any, books: Any, cast: Cast) -> None:
    acme, at_ms = cast.acme, int((NOW - timedelta(days=3)).timestamp() * 1000)
    rid = events.emit("expire", acme.id, cost=100, held=100, dims={"customer": "ann"}, at_ms=at_ms)
    books.drain(acme.id)
    _pack(acme)
    events.emit("adjust", acme.id, rid, cost=-40, held=100, dims={"customer": "ann"}, at_ms=at_ms)
    books.drain(acme.id)
    for _ in range(2):
        with tenancy.entered(acme):
            (row,) = queries.by_value(acme, WEEK, "customer")
            ((*_, cost),) = values.over_time(acme.id, HOUR, "customer", NOW - timedelta(days=4), NOW, ("cost_nano",))
        assert (row.totals.cost_nano, row.totals.calls, row.totals.assumed_nano, cost) == (60, 1, 0, 60)
        _pack(acme)
    assert books.rows(
        "SELECT rows, sum_cost_nano FROM billing_day_pack WHERE workspace_id = %s AND dimension = 'customer'", acme.id
    ) == [(1, 60)]


@pytest.mark.django_db
def test_a_kill_between_taking_rows_and_keeping_the_pack_takes_nothing(
    events: Any, books: Any, cast: Cast, monkeypatch: Any
) -> None:
    _book(events, books, cast.acme, random.Random(3), 40)
    before = answers(cast.acme)

    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(gathering, "_joined", dies)
        with pytest.raises(Killed):
            _pack(cast.acme)
    assert books.value("SELECT count(*) FROM billing_hour_pack") == 0
    assert answers(cast.acme) == before


@pytest.mark.django_db
def test_many_rows_are_packed_in_portions_and_not_while_the_writer_is_at_work(
    events: Any, books: Any, cast: Cast, monkeypatch: Any
) -> None:
    for number in range(7):
        events.call(cast.acme.id, dims={"customer": f"c{number}"})
    books.drain(cast.acme.id)
    day = books.value("SELECT day FROM billing_rollup_day WHERE dimension = 'customer' LIMIT 1")
    monkeypatch.setattr(gathering, "MOST_ROWS", 3)
    for left in (4, 1, 0, 0):
        gathering.pack(DAY, cast.acme.id, "customer", day)
        assert books.value("SELECT count(*) FROM billing_rollup_day WHERE dimension = 'customer'") == left
    assert books.value("SELECT rows FROM billing_day_pack WHERE dimension = 'customer'") == 7


@pytest.mark.django_db
def test_what_has_gathered_is_packed_by_the_worker_and_a_day_that_is_over_nearly_whole(
    events: Any, books: Any, cast: Cast
) -> None:
    for back in (0, 5):
        at = NOW - timedelta(days=back)
        for number in range(5):
            events.call(cast.acme.id, dims={"customer": f"c{number}"}, at_ms=int(at.timestamp() * 1000) - number)
    books.drain(cast.acme.id)
    assert gathering.pack_due(NOW) == 0, "five rows of today are read as they are; the other day is for the daily look"
    assert gathering.pack_left_over(NOW) >= 2
    days = books.rows("SELECT DISTINCT day FROM billing_day_pack WHERE dimension = 'customer'")
    assert [day < TODAY for (day,) in days] == [True]
    assert gathering.pack_left_over(NOW) == 0
    assert books.value("SELECT count(*) FROM billing_rollup_day WHERE dimension = ''") == 2, "the total is never packed"


@pytest.mark.django_db
def test_packs_of_others_are_hidden_and_old_hours_leave(events: Any, books: Any, cast: Cast) -> None:
    for workspace in (cast.acme, cast.globex):
        _book(events, books, workspace, random.Random(5), 3)
        _pack(workspace)
    with tenancy.entered(cast.acme):
        for model in (DayPack, HourPack):
            assert set(model.objects.values_list("workspace_id", flat=True)) == {cast.acme.id}
    assert retention.retire_hours(NOW + timedelta(days=40)) > 0
    assert books.value("SELECT count(*) FROM billing_hour_pack") == 0
    assert books.value("SELECT count(*) FROM billing_day_pack") > 0

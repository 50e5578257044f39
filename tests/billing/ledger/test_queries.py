"""Pages and API ask the rollups; the answers are those of the ledger."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from billing.ledger import queries
from billing.ledger.queries import CannotAnswer, Days, Granularity
from tests.cast import Cast
from workspaces import tenancy
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)
RANGE = Days(NOW.date() - timedelta(days=100), NOW.date())


@pytest.fixture
def traffic(events: Any, books: Any, cast: Cast) -> Workspace:
    """Two hundred calls of Acme over ninety days, and some of Globex that must never show."""
    chance = random.Random(5)
    for _ in range(200):
        at = NOW - timedelta(minutes=chance.randrange(90 * 24 * 60))
        dims = {"customer": chance.choice(["ann", "ben", "", "cy"]), "feature": chance.choice(["chat", "search"])}
        events.call(
            cast.acme.id, cost=chance.randrange(1, 10**9), at_ms=int(at.timestamp() * 1000), dims=dims,
            tags={"team": chance.choice(["x", "y"])}, model=chance.choice(["m1", "m2"]), error=chance.choice(["", "", "provider_timeout"]),
        )  # fmt: skip
    events.call(cast.globex.id, cost=10**15, dims={"customer": "ann"})
    for workspace in (cast.acme, cast.globex):
        books.drain(workspace.id)
    return cast.acme


def ledger(books: Any, workspace: Workspace, columns: str, where: str = "true") -> dict[tuple[str, ...], int]:
    rows = books.rows(
        f"SELECT {columns}, sum(cost_nano)::bigint FROM billing_entry AS e JOIN billing_caller AS c ON c.id = caller_id "
        f"WHERE e.workspace_id = %s AND {where} GROUP BY {columns}",
        workspace.id,
    )
    return {tuple(row[:-1]): row[-1] for row in rows}


def test_totals_over_any_range_are_those_of_the_ledger(traffic: Workspace, books: Any) -> None:
    chance = random.Random(1)
    for _ in range(12):
        first = NOW.date() - timedelta(days=chance.randrange(95))
        days = Days(first, first + timedelta(days=chance.randrange(95)))
        with tenancy.entered(traffic):
            found = queries.totals(traffic, days).cost_nano
        where = f"(at AT TIME ZONE 'UTC')::date BETWEEN '{days.first}' AND '{days.last}'"
        assert found == sum(ledger(books, traffic, "model", where).values())


@pytest.mark.parametrize("dimensions", [("customer",), ("model",), ("customer", "feature"), ("model", "customer")])
def test_groups_by_one_and_two_dimensions_are_those_of_the_ledger(
    traffic: Workspace, books: Any, dimensions: tuple[str, ...]
) -> None:
    with tenancy.entered(traffic):
        rows = queries.grouped(traffic, RANGE, dimensions)
    expected = ledger(
        books, traffic, ", ".join(dimensions), "customer <> ''" if dimensions == ("customer",) else "true"
    )
    assert {row.values: row.totals.cost_nano for row in rows} == expected
    costs = [row.totals.cost_nano for row in rows]
    assert costs == sorted(costs, reverse=True)


def test_any_filter_may_be_combined_with_any_group_tags_included(traffic: Workspace, books: Any) -> None:
    with tenancy.entered(traffic):
        rows = queries.grouped(traffic, RANGE, ("tag:team", "model"), filters={"customer": "ann", "feature": "chat"})
        by_team = queries.by_value(traffic, RANGE, "model", filters={"tag:team": "x"})
    assert {row.values: row.totals.cost_nano for row in rows} == ledger(
        books, traffic, "tags ->> 'team', model", "customer = 'ann' AND feature = 'chat'"
    )
    assert {row.values: row.totals.cost_nano for row in by_team} == ledger(
        books, traffic, "model", "tags ->> 'team' = 'x'"
    )


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("filters", [{}, {"customer": "ann"}, {"customer": "ann", "model": "m1"}])
def test_a_series_adds_up_to_the_total(traffic: Workspace, granularity: Granularity, filters: dict[str, str]) -> None:
    days = Days(NOW.date() - timedelta(days=40), NOW.date())
    with tenancy.entered(traffic):
        if granularity is Granularity.HOUR and len(filters) > 1:
            with pytest.raises(CannotAnswer, match="one dimension at a time"):
                queries.series(traffic, days, granularity, filters=filters)
            return
        points = queries.series(traffic, days, granularity, filters=filters)
        assert sum(point.totals.cost_nano for point in points) == queries.totals(traffic, days, filters).cost_nano
        assert [point.start for point in points] == sorted(point.start for point in points)


def test_the_call_log_is_read_page_by_page_without_gap_or_repetition(traffic: Workspace, books: Any) -> None:
    seen: list[UUID] = []
    with tenancy.entered(traffic):
        after = None
        while page := queries.recent_calls(traffic, limit=30, after=after):
            seen += [call.charge.rid for call in page]
            after = UUID(page[-1].cursor)
    assert seen == [
        row[0]
        for row in books.rows(
            "SELECT rid FROM billing_entry WHERE workspace_id = %s ORDER BY at DESC, rid DESC", traffic.id
        )
    ]


def test_a_corrected_call_shows_its_true_cost(events: Any, books: Any, cast: Cast) -> None:
    rid = events.emit("expire", cast.acme.id, cost=100, held=100)
    events.emit("adjust", cast.acme.id, rid, cost=-40, held=100)
    books.drain(cast.acme.id)
    with tenancy.entered(cast.acme):
        (call,) = queries.recent_calls(cast.acme)
        assert (call.cost_nano, call.basis) == (60, "measured")
        assert [one.cost_nano for one in queries.attempts_of(cast.acme, call.charge.call_id)] == [60]


def test_a_question_from_outside_the_workspace_is_an_error_and_not_zero(traffic: Workspace, cast: Cast) -> None:
    with pytest.raises(RuntimeError, match="not inside"):
        queries.totals(traffic, RANGE)
    with tenancy.entered(cast.globex), pytest.raises(RuntimeError, match="not inside"):
        queries.recent_calls(traffic)


def test_nonsense_is_refused_with_what_to_ask_instead(traffic: Workspace) -> None:
    with pytest.raises(CannotAnswer, match="ends before"):
        Days(date(2026, 2, 1), date(2026, 1, 1))
    with pytest.raises(CannotAnswer, match="ten years"):
        Days(date(1990, 1, 1), date(2026, 1, 1))
    with tenancy.entered(traffic):
        for dimensions in (("password",), ("tag:",), ("model", "model"), ("model", "customer", "user")):
            with pytest.raises(CannotAnswer):
                queries.grouped(traffic, RANGE, dimensions)
        with pytest.raises(CannotAnswer, match="rank"):
            queries.by_value(traffic, RANGE, "model", rank_by="id; DROP")


def test_lag_is_the_age_of_the_oldest_event_that_waits(events: Any, books: Any, cast: Cast) -> None:
    acme = cast.acme
    events.call(acme.id)
    with tenancy.entered(acme):
        assert queries.trust(acme, books.stream, datetime.now(UTC) + timedelta(seconds=30)).lag_s == pytest.approx(
            30, abs=2
        )
    books.drain(acme.id)
    with tenancy.entered(acme):
        found = queries.trust(acme, books.stream, datetime.now(UTC))
    assert (found.lag_s, found.quarantined, found.missing) == (0.0, 0, 0)

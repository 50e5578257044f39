"""A page about budgets reads the few values at the top, however many there are."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.domain import keys
from billing.models import BudgetTotal
from guardrails import actions, queries
from guardrails.domain.periods import FOREVER_MS
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import SeedCounter
from guardrails.models import Budget
from tests.cast import Person
from workspaces import tenancy

pytestmark = pytest.mark.django_db
CENT = 10**7


def each_user(alice: Person, values: int) -> Budget:
    """A dollar a month for each user; user n has used n cents, as the ledger and the money Redis know."""
    made = actions.create_budget(
        workspace=alice.workspace, by=alice.actor, cap="1", period="month", scope="user", value=None
    )
    start_ms = made.rule().bounds_at(time.time_ns() // 1_000_000).start_ms
    start = datetime.fromtimestamp(start_ms / 1000, UTC)
    used = {f"user {n}": n * CENT for n in range(1, values + 1)}
    suffixes = {value: keys.counter_suffix(made.pk, start_ms, keys.value_digest(value)) for value in used}
    common = {"workspace_id": alice.workspace.pk, "budget_id": made.pk, "period_start": start, "unit": "nano"}
    with tenancy.entered(alice.workspace):
        BudgetTotal.objects.bulk_create(
            (BudgetTotal(**common, counter=suffixes[value], settled=amount) for value, amount in used.items()),
            batch_size=5000,
        )
    store, workspace_id = sync_store(), alice.workspace.pk
    seeds = [SeedCounter(suffixes[value], amount, 0, FOREVER_MS, value) for value, amount in used.items()]
    control.begin_rebuild(store, workspace_id, 1)
    control.seed(store, workspace_id, 1, seeds, [])
    control.commit_rebuild(store, workspace_id, epoch=1, seq=0, ver=1, state="active", counters=len(seeds))
    return made


@pytest.mark.parametrize("count", [103, 403])
def test_the_values_that_used_most_are_shown_with_how_many_there_are_and_how_many_are_stopped(
    alice: Person, count: int
) -> None:
    made = each_user(alice, count)
    status = queries.budget(alice.workspace, made.pk, timezone.now())
    assert status is not None
    assert (status.value_count, status.stopped_count) == (count, count - 99)
    assert [standing.value for standing in status.values] == [f"user {count - n}" for n in range(queries.TOP_VALUES)]


def test_of_many_values_the_order_is_remembered_a_moment_for_all_who_look(alice: Person) -> None:
    made = each_user(alice, 600)
    queries.budget(alice.workspace, made.pk, timezone.now())
    with CaptureQueriesContext(
        connection,
    ) as asked:
        status = queries.budget(alice.workspace, made.pk, timezone.now())
    assert status is not None
    assert status.value_count == 600
    assert not [query for query in asked.captured_queries if "billing_budget_total" in query["sql"]]


@pytest.mark.long
def test_a_hundred_thousand_values_are_read_in_a_fraction_of_a_second(alice: Person) -> None:
    made = each_user(alice, 100_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_budget_total")
    started = time.monotonic()
    status = queries.budget(alice.workspace, made.pk, timezone.now())
    first_s, started = time.monotonic() - started, time.monotonic()
    queries.budget(alice.workspace, made.pk, timezone.now())
    assert status is not None
    assert status.value_count == 100_000
    print(f"first {first_s * 1000:.0f} ms, then {(time.monotonic() - started) * 1000:.0f} ms")
    assert first_s < 1.5

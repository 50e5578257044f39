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
from guardrails.models import Budget
from tests.cast import Person
from workspaces import tenancy

pytestmark = pytest.mark.django_db
CENT = 10**7


def each_user(alice: Person, values: int) -> Budget:
    """A dollar a month for each user; user n has used n cents, as the ledger knows."""
    made = actions.create_budget(
        workspace=alice.workspace, by=alice.actor, cap="1", period="month", scope="user", value=None
    )
    start_ms = made.rule().bounds_at(time.time_ns() // 1_000_000).start_ms
    start = datetime.fromtimestamp(start_ms / 1000, UTC)
    with tenancy.entered(alice.workspace):
        BudgetTotal.objects.bulk_create(
            (
                BudgetTotal(
                    workspace_id=alice.workspace.pk, budget_id=made.pk, period_start=start, unit="nano", settled=n * CENT,
                    counter=keys.counter_suffix(made.pk, start_ms, keys.value_digest(f"user {n}")),
                )
                for n in range(1, values + 1)
            ),
            batch_size=5000,
        )  # fmt: skip
    return made


def test_the_values_that_used_most_are_shown_with_how_many_there_are_and_how_many_are_stopped(alice: Person) -> None:
    made = each_user(alice, 103)
    status = queries.budget(alice.workspace, made.pk, timezone.now())
    assert status is not None
    assert (status.value_count, status.stopped_count, len(status.values)) == (103, 4, queries.TOP_VALUES)


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

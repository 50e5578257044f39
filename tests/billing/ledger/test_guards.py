"""What the database itself promises of the books: tenants apart, entries never edited."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from billing import actions
from billing.ledger.packs import gathering, merging, packing
from billing.models import BudgetLine, Entry, Forgotten, UnknownUsage
from tests.cast import Cast
from workspaces import tenancy
from workspaces.audit import SYSTEM

pytestmark = pytest.mark.django_db

TENANT_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname LIKE 'billing\\_%' ORDER BY 1
"""


@pytest.fixture
def two_tenants(events: Any, books: Any, cast: Cast) -> Cast:
    for workspace in (cast.acme, cast.globex):
        line = f"0198c0de-0000-7000-8000-{workspace.id:012d}"
        with tenancy.entered(workspace):
            BudgetLine.objects.create(
                budget_id=line, workspace_id=workspace.id, name="all", unit="nano", cap=10, thresholds=[50]
            )
            Forgotten.objects.create(workspace_id=workspace.id, what="entries", amount=1)
            now = timezone.now()
            UnknownUsage.objects.create(workspace_id=workspace.id, provider="p", model="m", path="x", day=now, at=now)
        actions.create_price(workspace=workspace, by=SYSTEM, provider="ollama", free=True)
        events.call(
            workspace.id, cost=7, dims={"customer": f"of-{workspace.slug}"}, charges=[[f"b:{line}:0", "nano", 7]]
        )
        events.emit("hold", workspace.id, held=3)
        events.add(workspace.id, events.fields("settle", workspace.id, "poison"))
        books.drain(workspace.id)
        day = books.value("SELECT day FROM billing_rollup_detail WHERE workspace_id = %s LIMIT 1", workspace.id)
        for is_merged in (True, False):  # packs of a month and of a day, and rows that are not packed yet
            assert packing.pack(workspace.id, day)
            assert gathering.pack_due(datetime.now(UTC), least=1)
            if is_merged:
                assert merging.merge(merging.DETAILS, (workspace.id,), day.replace(day=1))
                assert merging.merge(merging.VALUES, (workspace.id, "customer"), day.replace(day=1))
            events.call(workspace.id, cost=7, dims={"customer": f"of-{workspace.slug}"})
            books.drain(workspace.id)
    return cast


def tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(TENANT_TABLES)
        return [row[0] for row in cursor.fetchall()]


def counts(where: str = "true") -> dict[str, int]:
    found = {}
    with connection.cursor() as cursor:
        for table in tables():
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {where}")
            found[table] = cursor.fetchone()[0]
    return found


def test_a_connection_that_entered_no_workspace_sees_no_row_of_any_table_or_partition(
    two_tenants: Cast, books: Any
) -> None:
    everything = {table: books.value(f"SELECT count(*) FROM {table}") for table in tables()}
    assert len(everything) >= 14  # eleven tables and at least three partitions
    assert all(everything.values()), everything
    assert set(counts().values()) == {0}


def test_a_workspace_sees_its_own_rows_and_none_of_another(two_tenants: Cast) -> None:
    with tenancy.entered(two_tenants.globex):
        own = counts(f"workspace_id = {two_tenants.globex.id}")
        assert all(own.values()), own
        assert counts() == own
        assert set(Entry.objects.values_list("customer", flat=True)) == {"of-globex"}


def test_a_workspace_cannot_write_rows_of_another(two_tenants: Cast) -> None:
    with (
        tenancy.entered(two_tenants.globex),
        pytest.raises(DatabaseError, match="row-level security"),
        transaction.atomic(),
    ):
        BudgetLine.objects.create(
            workspace_id=two_tenants.acme.id,
            budget_id="0198c0de-0000-7000-8000-0000000000ff",
            cap=1,
            thresholds=[],
            name="x",
            unit="nano",
        )


@pytest.mark.parametrize("statement", ["UPDATE {} SET cost_nano = 0", "DELETE FROM {}", "TRUNCATE {}"])
def test_entries_are_never_edited_not_even_by_the_writer(two_tenants: Cast, books: Any, statement: str) -> None:
    partition = books.value(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'billing_entry'::regclass LIMIT 1"
    )
    for table in ("billing_entry", partition):
        with (
            pytest.raises(DatabaseError, match="never edited"),
            tenancy.every_workspace("tests try to edit"),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement.format(table))


def test_a_charge_cannot_be_negative_and_a_void_cannot_cost(events: Any, books: Any) -> None:
    events.emit("settle", 42, cost=-1)
    events.emit("void", 42, cost=1)
    assert books.drain(42).buried == 2

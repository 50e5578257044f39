"""How long budget totals and crossings outlive their period: so that their tables are bounded by what is going on, not by time.

The ledger itself is kept; any total can be added up from it again. All workspaces share these tables: no tenant's schema is walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection

from billing.domain.keys import budget_of
from workspaces import tenancy

KEPT: Final = timedelta(days=396)
"""Of a whole budget: thirteen months, so that a month can be seen beside the same one a year ago."""
VALUES_KEPT: Final = timedelta(days=94)
"""Of the single values of an each-value budget, of which a workspace may have a hundred thousand a day."""
BATCH: Final = 5_000
MOST_BATCHES: Final = 400


@dataclass(frozen=True, slots=True)
class Retired:
    totals: int = 0
    crossings: int = 0


def retire(now: datetime, *, batch: int = BATCH, most_batches: int = MOST_BATCHES) -> Retired:
    """Delete what is not kept any more, a batch a transaction; what is left over waits for the next time."""
    return Retired(
        *(_retire(table, now, batch, most_batches) for table in ("billing_budget_total", "billing_crossing"))
    )


def retire_hours(before: datetime) -> int:
    """Delete packs of hours that are older, by whole months as the rows' partitions go. Answers how many."""
    with tenancy.every_workspace("packed hours of long ago leave"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_hour_pack WHERE day < %s", [before.astimezone(UTC).date().replace(day=1)])
        return int(cursor.rowcount)


def is_kept(counter: str, now: datetime) -> bool:
    """Whether a counter's total is (still) to be found. A name that is no counter's is kept: a person should see it."""
    try:
        _, start_ms, value = budget_of(counter)
    except ValueError:
        return True
    kept = VALUES_KEPT if value else KEPT
    return start_ms == 0 or start_ms >= (now - kept).timestamp() * 1000


def _retire(table: str, now: datetime, batch: int, most_batches: int) -> int:
    """As `is_kept` says. A period that never ends begins in 1970; a value's counter has three colons."""
    gone = 0
    for _ in range(most_batches):
        with tenancy.every_workspace("totals of long-ended periods leave"), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} "  # noqa: S608 - the two names above
                "WHERE period_start < %s AND period_start > to_timestamp(0) "
                "AND (period_start < %s OR counter LIKE 'b:%%:%%:%%') LIMIT %s FOR UPDATE SKIP LOCKED))",
                [now - VALUES_KEPT, now - KEPT, batch],
            )
            gone += cursor.rowcount
            if cursor.rowcount < batch:
                break
    return gone

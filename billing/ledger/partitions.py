"""Monthly partitions of the ledger's big tables: made ahead, made on demand, dropped when their time is over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import connection

# parent -> fillfactor: rollups are updated in place, entries never.
PARENTS: Final = {"billing_entry": 100, "billing_rollup_detail": 80, "billing_rollup_hour": 80}


def month_of(at_s: float) -> str:
    """The month a moment is kept in (UTC), as its first day."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-01")


def ensure(cursor: Any, months: Iterable[tuple[str, str]]) -> None:
    """Make the partitions (parent, first day) that do not exist. Always in one order, so that two writers cannot wait for each other."""
    wanted = sorted(set(months))
    if wanted:
        cursor.execute(
            "SELECT public.sluice_make_partition(parent, month, fillfactor) "
            "FROM unnest(%s::text[], %s::date[], %s::int[]) AS wanted(parent, month, fillfactor)",
            [
                [parent for parent, _ in wanted],
                [month for _, month in wanted],
                [PARENTS[parent] for parent, _ in wanted],
            ],
        )


def make_ahead(now: datetime, months: int = 3) -> None:
    """Make this month's partitions and those of the months to come."""
    first = now.astimezone(UTC).date().replace(day=1)
    wanted = []
    for _ in range(months + 1):
        wanted += [(parent, first.isoformat()) for parent in PARENTS]
        first = (first + timedelta(days=32)).replace(day=1)
    with connection.cursor() as cursor:
        ensure(cursor, wanted)


def drop_before(parent: str, month: date) -> list[str]:
    """Drop the partitions that end by `month`; answers their names. This is how retention forgets: never by DELETE."""
    if parent not in PARENTS:
        raise ValueError(f"not partitioned by month: {parent}")
    dropped = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = %s::regclass",
            [f"public.{parent}"],
        )
        for (name,) in cursor.fetchall():
            year, number = name.removeprefix(f"{parent}_").split("_")
            if date(int(year), int(number), 1) < month.replace(day=1):
                cursor.execute(f'DROP TABLE public."{name}"')  # a name from the catalogue
                dropped.append(name)
    return sorted(dropped)

"""Sums leave after four months, decided and gone findings after fourteen, and all of it with its workspace."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from workspaces import tenancy

REASON: Final = "old sums of waste leave"
DAYS_KEPT: Final = timedelta(days=124)
FINDINGS_KEPT: Final = timedelta(days=425)
MOST: Final = 20_000
_BY_WORKSPACE: Final = ("waste_saving", "waste_finding", "waste_day", "waste_look")


def retire(now: datetime) -> int:
    """Answers how many days' sums were old."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM waste_day WHERE id = ANY(ARRAY(SELECT id FROM waste_day WHERE day < %s ORDER BY day LIMIT %s))",
            [(now - DAYS_KEPT).date(), MOST],
        )
        old: int = cursor.rowcount
        before = now - FINDINGS_KEPT
        cursor.execute("DELETE FROM waste_saving WHERE day < %s", [before.date()])
        cursor.execute(
            "DELETE FROM waste_finding f WHERE last_day < %s AND state <> 'open' "
            "AND NOT EXISTS (SELECT 1 FROM waste_saving s WHERE s.finding_id = f.id)",
            [before.date()],
        )
        for table in _BY_WORKSPACE:
            cursor.execute(
                f"DELETE FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM workspaces_workspace w WHERE w.id = t.workspace_id)"  # noqa: S608 - names of ours
            )
    return old

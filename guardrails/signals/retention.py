"""Notices, their deliveries and incidents leave after fourteen months, and with their workspace."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from workspaces import tenancy

REASON: Final = "old notices of every workspace leave"
KEPT: Final = timedelta(days=425)
MOST: Final = 10_000
_OLD: Final = "SELECT id FROM signals_notice WHERE made_at < %(before)s ORDER BY made_at LIMIT %(most)s"
_BY_WORKSPACE: Final = (
    "signals_delivery", "signals_notice", "signals_endpoint", "signals_preference", "signals_stagemark", "signals_fullcounter",
    "billing_unknown_usage", "signals_lookahead", "anomalies_incident", "anomalies_expectation", "anomalies_wishes", "anomalies_look",
)  # fmt: skip
"""In an order that foreign keys allow."""


def retire(now: datetime) -> int:
    """Delete what is old and what belonged to workspaces that are gone. Answers how many notices were old."""
    given: dict[str, Any] = {"before": now - KEPT, "most": MOST}
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_OLD, given)
        old = [row[0] for row in cursor.fetchall()]
        if old:
            cursor.execute("DELETE FROM signals_delivery WHERE notice_id = ANY(%s)", [old])
            cursor.execute("DELETE FROM signals_notice WHERE id = ANY(%s)", [old])
        cursor.execute("DELETE FROM anomalies_incident WHERE ended_at < %(before)s", given)
        cursor.execute("DELETE FROM billing_unknown_usage WHERE day < %(before)s::date", given)
        cursor.execute("DELETE FROM signals_delivery WHERE notice_id IS NULL AND made_at < %(before)s", given)
        for table in _BY_WORKSPACE:
            cursor.execute(
                f"DELETE FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM workspaces_workspace w WHERE w.id = t.workspace_id)"  # noqa: S608 - names of ours
            )
    return len(old)

"""A provider's answer stated usage that we do not know: the workspace's owners are told, once a day for each provider, model and key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from billing.domain.events import PriceStatus
from guardrails.rounds import go_round, waiting
from guardrails.signals import facts as facts_of
from guardrails.signals.links import address
from guardrails.signals.models import Kind, Notice, Severity
from guardrails.signals.telling import notify
from guardrails.signals.text import one_line
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "unknown usage of every workspace waits to be told"
MOST_WORKSPACES: Final = 200
MOST_MAILS_A_DAY: Final = 5
"""A provider that renames everything is one mail's worth; the inbox has the rest."""


def tell(now: datetime) -> int:
    """Hand on what waits. Answers how many notices that made."""
    ids = waiting(
        "SELECT DISTINCT workspace_id FROM billing_unknown_usage WHERE told_at IS NULL ORDER BY 1 LIMIT %s",
        [MOST_WORKSPACES],
        reason=REASON,
    )
    return go_round(ids, lambda workspace: tell_workspace(workspace, now), what="telling of unknown usage")


def tell_workspace(workspace: Workspace, now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_unknown_usage SET told_at = %s WHERE workspace_id = %s AND told_at IS NULL "
                "RETURNING provider, model, path, day, at, call_id::text, price_status",
                [now, workspace.pk],
            )
            rows = cursor.fetchall()
        if workspace.state == WorkspaceState.DELETING:
            return 0
        lately = Notice.objects.filter(
            workspace_id=workspace.pk, kind=Kind.UNKNOWN_USAGE, made_at__gt=now - timedelta(days=1)
        ).count()
        return sum(_tell_one(workspace, row, now, by_mail=lately + n < MOST_MAILS_A_DAY) for n, row in enumerate(rows))


def _tell_one(workspace: Workspace, row: tuple[Any, ...], now: datetime, *, by_mail: bool) -> int:
    provider, model, path, day, at, call_id, status = row
    made = notify(
        workspace, kind=Kind.UNKNOWN_USAGE, severity=Severity.WARNING, key=f"unknown:{day}:{provider}:{model}:{path}",
        title=one_line(f"An answer of {provider} contains usage we do not know: {path}", 240),
        facts=_facts(workspace, provider, model, path, call_id, status), at=at, now=now, by_mail=by_mail,
    )  # fmt: skip
    return 0 if made is None else 1


def _facts(
    workspace: Workspace, provider: str, model: str, path: str, call_id: str | None, status: str
) -> dict[str, Any]:
    calls = facts_of.calls_link(workspace, {"provider": provider, "model": model})
    partial = status == PriceStatus.PARTIAL
    so = (
        "It may be a line of the bill, so its entries are marked partial: their cost is what we know, and may be too low."
        if partial
        else "It stated none of it, or no number, so the cost stands; were it billed, entries would be marked partial."
    )
    buttons = [["See these calls", calls]]
    if call_id:
        buttons.insert(0, ["Open the first call", address("call", workspace.slug, call_id)])
    return {
        "unknown": {"provider": provider, "model": model, "path": path, "call_id": call_id, "price_status": status},
        "letter": {
            "lead": [f"{provider} answered a call of {model} with usage under “{path}”, which nobody has taught Sluice.", so],
            "points_title": "What happens next",
            "points": [
                "Update Sluice: a release that knows the key prices it, and re-rates what is marked partial.",
                "Compare the provider's invoice until then. You are told once a day for each provider, model and key.",
            ],
            "buttons": buttons,
        },
    }  # fmt: skip

"""The line of the Monthly Spend Alert."""

from __future__ import annotations

from typing import Any

from guardrails.actions import delete_budget, spend_alert
from guardrails.domain.budgets import Kind as BudgetKind
from guardrails.models import Budget
from guardrails.signals.models import LookAhead
from workspaces.actions.base import changing
from workspaces.audit import Actor
from workspaces.errors import Invalid
from workspaces.models import Workspace


def set_spend_line(*, workspace: Workspace, by: Actor, line_usd: Any) -> None:
    """The amount of the Monthly Spend Alert in dollars; None or "": none of its own (the monthly budget, or the month before, is the line).

    The amount is the cap of the budget that tells at 50, 75, 90 and 100% of it: what the Guardrails page shows as a control is this same row.
    """
    with changing(workspace):
        if line_usd in (None, ""):
            known = Budget.objects.filter(kind=BudgetKind.SPEND_ALERT).first()
            if known is not None:
                delete_budget(workspace=workspace, by=by, budget_id=known.pk)
        else:
            try:
                spend_alert(workspace=workspace, by=by, cap_usd=line_usd)
            except Invalid as error:
                error.field = "line"
                raise
        LookAhead.objects.update_or_create(workspace_id=workspace.pk, defaults={"looked_at": None})

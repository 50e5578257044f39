"""Keeps the ledger's `BudgetLine`s in step with the budgets, so that its writer sees thresholds crossed."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from billing.models import BudgetLine
from guardrails import plans
from guardrails.models import DEFAULT_NOTIFY, Budget
from workspaces import tenancy
from workspaces.models import Workspace


def refresh(workspace: Workspace) -> None:
    """Write every line of the workspace anew and drop those of deleted budgets."""
    with transaction.atomic(), tenancy.entered(workspace):
        wanted = [
            BudgetLine(
                budget_id=budget.id,
                workspace_id=workspace.pk,
                name=budget.name,
                unit=budget.rule().unit.counted_in,
                cap=budget.cap,
                thresholds=budget.notify,
            )
            for budget in Budget.objects.all()
        ]
        quota = plans.quota_of(workspace)
        if quota is not None:
            wanted.append(
                BudgetLine(
                    budget_id=UUID(quota.id),
                    workspace_id=workspace.pk,
                    name=quota.name,
                    unit=quota.unit.counted_in,
                    cap=quota.cap,
                    thresholds=list(DEFAULT_NOTIFY),
                )
            )
        BudgetLine.objects.filter(workspace_id=workspace.pk).exclude(
            budget_id__in=[line.budget_id for line in wanted]
        ).delete()
        BudgetLine.objects.bulk_create(
            wanted,
            update_conflicts=True,
            unique_fields=["budget_id"],
            update_fields=["name", "unit", "cap", "thresholds"],
        )

"""Keeps the ledger's `BudgetLine`s in step with the budgets and their raises, so that its writer sees thresholds crossed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction

from billing.models import BudgetLine
from guardrails import plans
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.models import DEFAULT_NOTIFY, Budget, Raise, RaiseState
from workspaces import tenancy
from workspaces.models import Workspace

SETTLES = timedelta(seconds=3)
"""A batch that the ledger's writer began before a change of a cap is committed after this: then crossings are looked for."""

Raises = list[tuple[int, datetime, datetime]]
"""(amount, from, until)"""


def refresh(workspace: Workspace) -> None:
    """Write every line of the workspace anew and drop those of deleted budgets."""
    now = datetime.now(UTC)
    with transaction.atomic(), tenancy.entered(workspace):
        raised: dict[UUID, Raises] = {}
        approved = Raise.objects.filter(state=RaiseState.APPROVED)
        for budget_id, amount, since, until in approved.values_list("budget_id", "amount", "decided_at", "expires_at"):
            raised.setdefault(budget_id, []).append((amount, since or now, until))
        wanted = [
            _line(workspace, budget.rule(), _percents(budget), raised.get(budget.id, []), now)
            for budget in Budget.objects.all()
        ]
        quota = plans.quota_of(workspace)
        if quota is not None:
            wanted.append(_line(workspace, quota, list(DEFAULT_NOTIFY), [], now))
        BudgetLine.objects.filter(workspace_id=workspace.pk).exclude(
            budget_id__in=[line.budget_id for line in wanted]
        ).delete()
        BudgetLine.objects.bulk_create(
            wanted,
            update_conflicts=True,
            unique_fields=["budget_id"],
            update_fields=["name", "unit", "cap", "thresholds", "raises", "recheck_at", "recheck_start_ms"],
        )


def _percents(budget: Budget) -> list[int]:
    """The list of its mails, and where its stages begin: those are told, too."""
    stages = [budget.throttle_percent, budget.kill_percent]
    return sorted({*budget.notify, *(percent for percent in stages if percent is not None)})


def _line(workspace: Workspace, rule: BudgetRule, thresholds: list[int], raises: Raises, now: datetime) -> BudgetLine:
    def start_ms(moment: datetime) -> int:
        return rule.bounds_at(_ms(moment)).start_ms

    return BudgetLine(
        budget_id=UUID(rule.id),
        workspace_id=workspace.pk,
        name=rule.name,
        unit=rule.unit.counted_in,
        cap=rule.cap,
        thresholds=thresholds,
        raises=[[amount, start_ms(since), start_ms(until), _ms(until)] for amount, since, until in raises],
        cap_before=rule.cap,
        recheck_at=now + SETTLES,
        recheck_start_ms=start_ms(now),
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

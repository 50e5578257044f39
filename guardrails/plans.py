"""What a plan allows: its quota of calls is a budget like any other, in calls, from the first call on."""

from __future__ import annotations

from uuid import UUID, uuid5

from guardrails.domain.budgets import Budget, Kind, Strategy, Unit
from guardrails.domain.periods import Era, Period
from workspaces.models import Plan, Workspace

CALLS_A_MONTH = {Plan.FREE: 10_000}
PLANS_WITH_MEMBER_CAPS = frozenset({Plan.TEAM})
_QUOTAS = UUID("5b4a3f0e-6f5e-4d43-9c6a-0d7b6f1c2e11")


def quota_of(workspace: Workspace) -> Budget | None:
    """The plan's quota; None for a plan without one. Its month is UTC's: another time zone must not start it anew."""
    calls = CALLS_A_MONTH.get(Plan(workspace.plan))
    if calls is None:
        return None
    return Budget(
        id=str(uuid5(_QUOTAS, f"{workspace.pk}:{workspace.plan}")),
        name=f"{Plan(workspace.plan).label} plan",
        cap=calls,
        period=Period.MONTH,
        eras=(Era("UTC"),),
        unit=Unit.CALLS,
        kind=Kind.PLAN_QUOTA,
        strategy=Strategy.REJECT,
        alert_percent=70,
    )

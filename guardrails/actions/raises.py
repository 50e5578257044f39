"""Temporary raises of a cap: a member asks with a reason, somebody who manages budgets decides, and it ends by itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from guardrails import lines
from guardrails.actions import checked
from guardrails.domain.budgets import MAX_CAP, Unit
from guardrails.models import NEXT_OF_RAISE, Budget, Raise, RaiseState
from workspaces import audit, policy_signal, roles
from workspaces.actions.base import changing, future, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotAllowed, NotThere, WrongState
from workspaces.models import Workspace

MOST_OPEN_REQUESTS = 50
LONGEST = timedelta(days=366)


def request_raise(
    *, workspace: Workspace, by: Actor, budget_id: UUID | str, amount: Any, reason: str, expires_at: datetime
) -> Raise:
    """Ask for more: nothing changes until somebody approves."""
    with changing(workspace):
        budget = Budget.objects.filter(pk=identity(budget_id)).first()
        if budget is None:
            raise NotThere("There is no such budget in this workspace.")
        if Raise.objects.filter(budget=budget, state=RaiseState.REQUESTED).count() >= MOST_OPEN_REQUESTS:
            raise Invalid("There are too many open requests for this budget already.")
        wanted = checked.amount(amount, Unit(budget.unit), field="amount")
        if budget.cap + wanted > MAX_CAP:
            raise Invalid("With this raise the cap would be above the largest there can be.", field="amount")
        ends = future(expires_at)
        if ends is None or ends > timezone.now() + LONGEST:
            raise Invalid("A raise ends within a year. For longer, change the cap.", field="expires_at")
        row = Raise.objects.create(
            budget=budget,
            amount=wanted,
            reason=words(reason, field="reason", longest=300),
            requested_by=by.name[:254],
            expires_at=ends,
        )
        audit.record(workspace=workspace, by=by, action="raise.request", target=str(row.pk), after=_shown(row))
    return row


def decide_raise(*, workspace: Workspace, by: Actor, raise_id: UUID | str, approve: bool) -> Raise:
    """Approve (in force from the next call on) or decline. Needs the right to manage budgets; the answer is recorded with its giver."""
    if not _manages(by):
        raise NotAllowed("Only somebody who manages budgets can decide about a raise.")
    return _move(workspace, by, raise_id, RaiseState.APPROVED if approve else RaiseState.DECLINED)


def grant_raise(
    *, workspace: Workspace, by: Actor, budget_id: UUID | str, amount: Any, reason: str, expires_at: datetime
) -> Raise:
    """Ask and approve in one step, for those who may."""
    with changing(workspace):
        row = request_raise(
            workspace=workspace, by=by, budget_id=budget_id, amount=amount, reason=reason, expires_at=expires_at
        )
        return decide_raise(workspace=workspace, by=by, raise_id=row.pk, approve=True)


def withdraw_raise(*, workspace: Workspace, by: Actor, raise_id: UUID | str) -> Raise:
    """End a raise before its time, or take a request back (one's own, or anybody's for those who manage budgets)."""
    with changing(workspace):
        row = _found(raise_id)
        mine = row.requested_by == by.name and row.state == RaiseState.REQUESTED
        if not (_manages(by) or mine):
            raise NotThere("There is no such request in this workspace.")
        return _move(workspace, by, raise_id, RaiseState.WITHDRAWN)


def _manages(by: Actor) -> bool:
    """A member whose role manages budgets, or the installation itself."""
    return by.installation or (by.role is not None and roles.may(by.role, roles.Action.MANAGE_BUDGETS))


def _move(workspace: Workspace, by: Actor, raise_id: UUID | str, state: RaiseState) -> Raise:
    with changing(workspace):
        row = _found(raise_id)
        if state not in NEXT_OF_RAISE[row.state]:
            raise WrongState(f"This raise is {row.state} already.")
        now = timezone.now()
        if state == RaiseState.APPROVED and row.expires_at <= now:
            raise WrongState("This request has expired. Ask again.")
        before = _shown(row)
        row.state, row.decided_by, row.decided_at = state, by.name[:254], now
        row.save(update_fields=["state", "decided_by", "decided_at"])
        policy_signal.bump(workspace)
        lines.refresh(workspace)
        audit.record(
            workspace=workspace,
            by=by,
            action=f"raise.{state.value}",
            target=str(row.pk),
            before=before,
            after=_shown(row),
        )
    return row


def _found(raise_id: UUID | str) -> Raise:
    row = Raise.objects.select_related("budget").filter(pk=identity(raise_id)).first()
    if row is None:
        raise NotThere("There is no such request in this workspace.")
    return row


def _shown(row: Raise) -> dict[str, Any]:
    return {
        "budget": str(row.budget_id),
        "amount": row.amount,
        "reason": row.reason,
        "state": str(row.state),
        "requested_by": row.requested_by,
        "expires_at": row.expires_at.isoformat(),
    }

"""Who hears of a notice, when, and at which address.

Without a choice of their own, owners, admins and billing hear of every budget at once, members of the cap that is theirs, viewers of nothing.
Whoever has chosen is told what they chose. Mail only goes to addresses that were verified, which is looked at when it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from allauth.account.models import EmailAddress
from django.db.models.functions import Lower

from billing.domain.dimensions import Dimension
from guardrails.domain.alerting import minutes_until_loud
from guardrails.domain.budgets import Scope
from guardrails.signals.models import Kind, Notice, Pace, Preference, Severity
from workspaces.models import Membership, Role, User, Workspace

TOLD_BY_DEFAULT: Final = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
MORNING: Final = 8
"""The hour, on the reader's clock, of daily and weekly mails."""


@dataclass(frozen=True, slots=True)
class Hearer:
    user: User
    role: Role
    preference: Preference
    zone: ZoneInfo


def hearers(workspace: Workspace) -> list[Hearer]:
    """Every member with what they want to hear; their own choice or their role's default."""
    chosen = {one.user_id: one for one in Preference.objects.filter(workspace_id=workspace.pk)}
    rows = Membership.objects.select_related("user").filter(workspace=workspace, user__is_active=True)
    rows = rows.exclude(role=Role.LEAD)  # notices and digests tell of the whole workspace
    return [
        Hearer(
            row.user,
            Role(row.role),
            _in_force(chosen.get(row.user_id), workspace, row),
            ZoneInfo(row.user.time_zone or workspace.time_zone),
        )
        for row in rows.order_by("created_at")
    ]


def preference_of(workspace: Workspace, membership: Membership) -> Preference:
    found = Preference.objects.filter(workspace_id=workspace.pk, user_id=membership.user_id).first()
    return _in_force(found, workspace, membership)


def _in_force(found: Preference | None, workspace: Workspace, membership: Membership) -> Preference:
    """What a member chose, or what their role hears until they do. A member's "immediate" reaches only as far as `wants` lets it."""
    preference = found or Preference(workspace_id=workspace.pk, user_id=membership.user_id)
    if preference.chosen_at is None:
        told = membership.role in TOLD_BY_DEFAULT
        preference.mail = Pace.IMMEDIATE if told or membership.role == Role.MEMBER else Pace.OFF
        preference.weekly = membership.role == Role.OWNER
    return preference


def wants(hearer: Hearer, notice: Notice, scope: Scope | None, value: str) -> bool:
    """Whether somebody is to be mailed of a notice at all. `scope` and `value`: of its budget, where it has one."""
    preference = hearer.preference
    if notice.kind == Kind.DIGEST:
        return preference.weekly
    if preference.mail == Pace.OFF:
        return False
    if notice.kind == Kind.UNKNOWN_USAGE:
        return hearer.role == Role.OWNER
    if preference.budgets is not None and notice.budget_id is not None and notice.budget_id not in preference.budgets:
        return False
    if hearer.role in TOLD_BY_DEFAULT or preference.chosen_at is not None:
        return True
    return scope is not None and scope.by == Dimension.MEMBER and hearer.user.email == (value or scope.value)


def due(hearer: Hearer, notice: Notice, now: datetime) -> datetime:
    """When the mail may be sent: at once, or when the person's quiet hours are over."""
    if notice.kind == Kind.DIGEST:
        return next_morning(hearer.zone, now)
    preference = hearer.preference
    if notice.severity == Severity.CRITICAL and preference.wake_for_critical:
        return now
    local = now.astimezone(hearer.zone)
    wait = minutes_until_loud(local.hour * 60 + local.minute, preference.quiet_from, preference.quiet_to)
    return now + timedelta(minutes=wait)


def next_morning(zone: ZoneInfo, now: datetime) -> datetime:
    local = now.astimezone(zone)
    morning = local.replace(hour=MORNING, minute=0, second=0, microsecond=0)
    return morning if morning > local else morning + timedelta(days=1)


def verified_address(user_id: UUID) -> str | None:
    """The address a person's mail goes to, if they proved it theirs and may still sign in."""
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return None
    rows = EmailAddress.objects.annotate(lower=Lower("email")).filter(
        user=user, lower=user.email.lower(), verified=True
    )
    return user.email if rows.exists() else None

"""What a member wants to hear, when; and how far they have read."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from guardrails.models import Budget
from guardrails.signals import audience
from guardrails.signals.models import (
    Pace,
    Preference,
)
from workspaces import audit
from workspaces.actions.base import changing, identity
from workspaces.audit import Actor
from workspaces.errors import Invalid
from workspaces.models import Membership, Workspace


def mark_seen(*, workspace: Workspace, membership: Membership, newest: UUID) -> None:
    """A member has looked at the inbox. No audit: reading changes nothing."""
    own = Preference.objects.filter(workspace_id=workspace.pk, user_id=membership.user_id)
    if not own.filter(Q(seen_id=None) | Q(seen_id__lt=newest)).update(seen_id=newest) and not own.exists():
        _keep(audience.preference_of(workspace, membership), seen_id=newest)


def set_preference(*, workspace: Workspace, membership: Membership, by: Actor, **changes: Any) -> Preference:
    """A member's own choice: mail (immediate, daily, off), budgets (ids, or None for all), weekly, quiet_from and quiet_to ("22:00", None for no
    quiet hours), wake_for_critical. What is not given stays."""
    unknown = set(changes) - set(_READ)
    if unknown:
        raise Invalid(f"There is no such setting: {', '.join(sorted(unknown))}.", field=min(unknown))
    with changing(workspace):
        before = audience.preference_of(workspace, membership)
        shown = {name: _plain(getattr(before, name)) for name in changes}
        for name, value in changes.items():
            setattr(before, name, _READ[name](value))
        if (before.quiet_from is None) != (before.quiet_to is None):
            raise Invalid(
                "Quiet hours have a beginning and an end.",
                field="quiet_to" if before.quiet_to is None else "quiet_from",
            )
        saved = _keep(before, chosen_at=timezone.now())
        audit.record(
            workspace=workspace, by=by, action="preference.change", target=membership.user.email[:160], before=shown,
            after={name: _plain(getattr(saved, name)) for name in changes},
        )  # fmt: skip
    return saved


def unsubscribe(*, workspace: Workspace, user_id: UUID, what: str) -> bool:
    """What a mail's link does: no more alert mails, or no more weekly ones. False when the person is no member any more."""
    membership = Membership.objects.select_related("user").filter(workspace=workspace, user_id=user_id).first()
    if membership is None:
        return False
    changes: dict[str, Any] = {"weekly": False} if what == "weekly" else {"mail": Pace.OFF}
    set_preference(
        workspace=workspace, membership=membership, by=Actor(f"{membership.user.email} (link in a mail)"), **changes
    )
    return True


def _keep(preference: Preference, **more: Any) -> Preference:
    """Save it, whether or not there is a row already."""
    for name, value in more.items():
        setattr(preference, name, value)
    chosen = [*_READ, "chosen_at"] if preference.chosen_at is not None else []
    (saved,) = Preference.objects.bulk_create(
        [preference],
        update_conflicts=True,
        unique_fields=["workspace_id", "user_id"],
        update_fields=[*chosen, "seen_id"],
    )
    return saved


def _plain(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, list) else value


def _pace(value: Any) -> str:
    if value not in Pace.values:
        raise Invalid(f"Choose among: {', '.join(Pace.values)}.", field="mail")
    return str(value)


def _flag(field: str) -> Any:
    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Invalid("Write true or false.", field=field)
        return value

    return read


def _budgets(value: Any) -> list[UUID] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > 500:
        raise Invalid("Write a list of budgets, or null for all.", field="budgets")
    wanted = {identity(one) for one in value}
    known = set(Budget.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    if wanted - known:
        raise Invalid("One of these budgets is not there.", field="budgets")
    return sorted(known)


def _minute(field: str) -> Any:
    def read(value: Any) -> int | None:
        if value in (None, ""):
            return None
        hours, colon, minutes = str(value).partition(":")
        parts = (hours, minutes)
        if not colon or not all(part.isascii() and part.isdigit() and len(part) == 2 for part in parts):
            raise Invalid("Write a time like 22:00.", field=field)
        minute = int(hours) * 60 + int(minutes)
        if int(minutes) > 59 or minute > 1439:
            raise Invalid("Write a time like 22:00.", field=field)
        return minute

    return read


_READ: Final[dict[str, Any]] = {
    "mail": _pace,
    "budgets": _budgets,
    "weekly": _flag("weekly"),
    "quiet_from": _minute("quiet_from"),
    "quiet_to": _minute("quiet_to"),
    "wake_for_critical": _flag("wake_for_critical"),
}

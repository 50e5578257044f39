"""How credentials are used: which goes first, within what times, and what calls found out about them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity, words
from workspaces.audit import SYSTEM, Actor
from workspaces.domain import routes
from workspaces.domain.providers import PROVIDERS
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Workspace
from workspaces.vault import health
from workspaces.vault.models import CredentialState, ProviderCredential

_SETTINGS = ("name", "environment", "priority", "weight", "timeouts")


def change_credential(
    *, workspace: Workspace, by: Actor, credential_id: UUID | str, **changes: Any
) -> ProviderCredential:
    """Change name, environment, priority, weight or timeouts. The key and its address change together (`rotate_credential`)."""
    with changing(workspace):
        row = _found(credential_id)
        wanted = settings_of(**{**{name: getattr(row, name) for name in _SETTINGS}, **changes})
        before = {name: getattr(row, name) for name, value in wanted.items() if getattr(row, name) != value}
        if not before:
            return row
        for name in before:
            setattr(row, name, wanted[name])
        try:
            with transaction.atomic():
                row.save(update_fields=list(before))
        except IntegrityError:
            raise Taken("There is a credential of this provider with this name.", field="name") from None
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="credential.change", target=str(row.id),
            before=before, after={name: wanted[name] for name in before},
        )  # fmt: skip
        return row


def settings_of(
    *, name: str, environment: str, priority: Any = 0, weight: Any = 1, timeouts: Any = None
) -> dict[str, Any]:
    """What may be set of a credential beside its key, checked. Raises Invalid naming the field."""
    return {
        "name": words(name, field="name"),
        "environment": words(environment, field="environment", longest=32, required=False),
        "priority": _whole(priority, 0, routes.MOST_PRIORITY, "priority"),
        "weight": _whole(weight, 1, routes.MOST_WEIGHT, "weight"),
        "timeouts": _timeouts(timeouts or {}),
    }


def note_health(*, workspace: Workspace, credential_id: UUID | str, healthy: bool, status: int = 0) -> bool:
    """What a call found out: the provider refused the credential's key (401, 403), or took a refused one again.

    Returns whether that was news. The audit record is the system's; listeners of `workspaces.vault.health` hear of it after the commit.
    """
    with changing(workspace):
        row = _found(credential_id)
        state = CredentialState.VERIFIED if healthy else CredentialState.REJECTED
        if row.state == state or row.disabled_at is not None:
            return False
        title = PROVIDERS[row.provider].title
        row.state, row.checked_at = state, timezone.now()
        row.check_message = "" if healthy else f"{title} refused this key in a call (HTTP {status})."
        row.save(update_fields=["state", "checked_at", "check_message"])
        policy_signal.bump(workspace)
        action = "credential.accepted" if healthy else "credential.refused"
        audit.record(
            workspace=workspace, by=SYSTEM, action=action, target=str(row.id), after={"message": row.check_message}
        )
        message = row.check_message or f"{title} takes this key again."
        health.announce(health.CredentialHealth(workspace.pk, str(row.id), row.provider, row.name, healthy, message))
        return True


def _timeouts(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not value.keys() <= routes.TIMEOUTS.keys():
        raise Invalid(f"Write an object with some of {', '.join(routes.TIMEOUTS)}.", field="timeouts")
    found = {}
    for name, seconds in value.items():
        low, high = routes.TIMEOUTS[name]
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not low <= seconds <= high:
            raise Invalid(f"{name} is a number of seconds from {low:g} to {high:g}.", field="timeouts")
        found[name] = float(seconds)
    return found


def _whole(value: Any, low: int, high: int, field: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Invalid(f"Write a whole number from {low} to {high:,}.", field=field)
    return value


def _found(credential_id: UUID | str) -> ProviderCredential:
    row = ProviderCredential.objects.select_for_update().filter(pk=identity(credential_id)).first()
    if row is None:
        raise NotThere("There is no such credential in this workspace.")
    return row

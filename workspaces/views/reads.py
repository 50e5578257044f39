"""What the pages of workspaces read: rows of the entered workspace as plain values for the templates."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from workspaces import narrowing
from workspaces.directory.models import Agent, Department
from workspaces.domain.names import plain
from workspaces.domain.providers import PROVIDERS
from workspaces.errors import NotThere
from workspaces.models import ApiToken, AuditRecord, Invitation, Membership, User, VirtualKey, Workspace, WorkspaceState
from workspaces.routes.models import Alias
from workspaces.vault.models import CredentialState, ProviderCredential

TEST_CALL_KEY = "Test call"
"""The name of the keys that "Send a test call" makes, uses once and revokes; lists leave the used ones out."""

GONE = "a deleted key"


def memberships_of(user: Any) -> list[Membership]:
    """A person's workspaces, by name."""
    if not isinstance(user, User):
        return []
    rows = Membership.objects.select_related("workspace").filter(user=user)
    return list(rows.exclude(workspace__state=WorkspaceState.DELETING).order_by("workspace__name", "workspace_id"))


def keys_of(workspace: Workspace) -> list[VirtualKey]:
    """The workspace's keys, working ones first, newest first."""
    rows = VirtualKey.objects.select_related("member__user", "created_by").filter(workspace=workspace)
    rows = rows.exclude(name=TEST_CALL_KEY, revoked_at__isnull=False)
    now = timezone.now()
    return sorted(rows.order_by("-created_at")[:1000], key=lambda key: not is_working(key, now))


def key_of(workspace: Workspace, key_id: UUID) -> VirtualKey:
    """Raises NotThere."""
    found = VirtualKey.objects.select_related("member__user", "created_by").filter(workspace=workspace, pk=key_id)
    key = found.first()
    if key is None:
        raise NotThere("There is no such key in this workspace.")
    return key


def is_working(key: VirtualKey, now: datetime) -> bool:
    return key.revoked_at is None and key.paused_at is None and (key.expires_at is None or key.expires_at > now)


def has_working_key(workspace: Workspace) -> bool:
    rows = VirtualKey.objects.filter(workspace=workspace, revoked_at=None, paused_at=None).exclude(name=TEST_CALL_KEY)
    return rows.exclude(expires_at__lte=timezone.now()).exists()


def key_names(workspace: Workspace, ids: set[str]) -> dict[str, str]:
    """Virtual key id (text) -> its name, for all of `ids`; those that are not the workspace's, or not there any more, say so."""
    wanted = [UUID(text) for text in ids if _is_uuid(text)]
    rows = VirtualKey.objects.filter(workspace=workspace, pk__in=wanted).values_list("id", "name")
    return dict.fromkeys(ids, GONE) | {str(key_id): name for key_id, name in rows}


def masked(key: VirtualKey) -> str:
    return f"slk_{key.locator[:4]}…{key.last_four}"


def credentials() -> list[ProviderCredential]:
    """Of the entered workspace; never with what is sealed."""
    rows = ProviderCredential.objects.defer("sealed").order_by("disabled_at", "provider", "name")
    return list(rows)


def last_touched(workspace: Workspace, kind: str) -> dict[str, dict[str, Any]]:
    """Target -> who last acted on it, what they did and when, from the audit log; of the acts whose names begin with `kind`."""
    rows = AuditRecord.objects.filter(workspace_id=workspace.pk, action__startswith=kind)
    newest = rows.order_by("target", "-number").distinct("target").values_list("target", "actor", "action", "at")
    return {
        target: {"who": plain(actor), "did": _PAST.get(action.removeprefix(kind), "changed"), "at": at}
        for target, actor, action, at in newest
    }


_PAST = {
    "add": "added", "rotate": "replaced", "verify": "checked", "disable": "disabled", "enable": "enabled", "delete": "deleted",
}  # fmt: skip


def aliases() -> list[dict[str, Any]]:
    """The entered workspace's names for models, with their targets in order and when they move on."""
    names = {str(row.id): row.name for row in ProviderCredential.objects.only("id", "name")}
    return [
        {
            "id": row.id,
            "name": row.name,
            "targets": [
                f"{target.name} with {names.get(target.credential, GONE)}" if target.credential else target.name
                for target in row.compiled().targets
            ],
            "conditions": ", ".join(name.replace("_", " ") for name in row.fallback_on) or "never",
        }
        for row in Alias.objects.order_by("name")
    ]


def usable_credentials() -> list[ProviderCredential]:
    """Those a call can go through, not disabled and not refused by their provider; the ones that were checked first."""
    found = [one for one in credentials() if one.disabled_at is None and one.state != CredentialState.REJECTED]
    return sorted(found, key=lambda one: one.state != CredentialState.VERIFIED)


def title_of(provider: str) -> str:
    access = PROVIDERS.get(provider)
    return access.title if access else provider


def members_of(workspace: Workspace) -> list[Membership]:
    rows = Membership.objects.select_related("user").filter(workspace=workspace)
    if narrowing.department() is not None:
        rows = rows.filter(department_id__in=list(departments()))
    return list(rows.order_by("user__email"))


def departments() -> dict[UUID, str]:
    rows, own = Department.objects.values_list("id", "name"), narrowing.department()
    return dict(rows if own is None else rows.filter(name=own))


def agents() -> list[Agent]:
    return list(Agent.objects.select_related("department").order_by("name"))


def open_invitations(workspace: Workspace) -> list[Invitation]:
    if narrowing.department() is not None:  # an invitation is to no department yet
        return []
    rows = Invitation.objects.filter(workspace=workspace, accepted_at=None, withdrawn_at=None)
    return list(rows.filter(expires_at__gt=timezone.now()).order_by("email"))


def tokens_of(membership: Membership) -> list[ApiToken]:
    """A member's own tokens in the workspace, newest first."""
    rows = ApiToken.objects.filter(workspace_id=membership.workspace_id, user_id=membership.user_id)
    return list(rows.order_by("-created_at")[:200])


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True

"""Virtual keys: made and shown once, changed, rotated, revoked. Each takes effect on the next call of every replica."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from workspaces import audit, keys, policy_signal
from workspaces.actions.base import Minted, changing, future, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotThere, WrongState
from workspaces.models import Membership, VirtualKey, Workspace
from workspaces.vault.models import ProviderCredential

PINNABLE = ("member", "agent", "department", "environment")
MOST_KEYS = 10_000
MOST_MODELS = 200
MOST_CREDENTIALS = 20
LONGEST_GRACE = timedelta(days=30)


def create_virtual_key(
    *,
    workspace: Workspace,
    by: Actor,
    name: str,
    environment: str = "production",
    member_id: UUID | str | None = None,
    agent: str = "",
    department: str = "",
    may_override: Sequence[str] = (),
    allowed_models: Sequence[str] = (),
    output_limit: int | None = None,
    expires_at: datetime | None = None,
    credential_ids: Sequence[UUID | str] = (),
) -> Minted[VirtualKey]:
    """A new key. Its text is in the answer and nowhere else. Raises Invalid naming the field, NotThere for an unknown member.

    `credential_ids`: the only credentials that its calls use, of each provider that has one among them.
    """
    wanted = _checked(
        name=name, environment=environment, agent=agent, department=department, may_override=may_override,
        allowed_models=allowed_models, output_limit=output_limit, expires_at=expires_at,
    )  # fmt: skip
    with changing(workspace):
        if VirtualKey.objects.filter(workspace=workspace, revoked_at=None).count() >= MOST_KEYS:
            raise Invalid(f"A workspace has at most {MOST_KEYS:,} keys. Revoke some first.")
        member = None if member_id in (None, "") else _member(workspace, member_id)
        return _mint(workspace, by, member=member, credentials=_by_provider(credential_ids), **wanted)


def change_virtual_key(*, workspace: Workspace, by: Actor, key_id: UUID | str, **changes: Any) -> VirtualKey:
    """Change what a key is called, what it pins and what it may call (the keywords of `create_virtual_key`)."""
    changes = dict(changes)
    with changing(workspace):
        key = _alive(workspace, key_id)
        if "member_id" in changes:
            member_id = changes.pop("member_id")
            changes["member"] = None if member_id in (None, "") else _member(workspace, member_id)
        member = changes.pop("member", key.member)
        ids = changes.pop("credential_ids", None)
        credentials = key.credentials if ids is None else _by_provider(ids)
        wanted = {**_checked(**{**_settings(key), **changes}), "member": member, "credentials": credentials}
        before = {field: getattr(key, field) for field, value in wanted.items() if getattr(key, field) != value}
        if not before:
            return key
        for field in before:
            setattr(key, field, wanted[field])
        key.save(update_fields=list(before))
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="virtual_key.change", target=str(key.id),
            before=before, after={field: wanted[field] for field in before},
        )  # fmt: skip
        return key


def revoke_virtual_key(*, workspace: Workspace, by: Actor, key_id: UUID | str) -> VirtualKey:
    """Refuse the key from the next call on, for good. Revoking a revoked key changes nothing."""
    with changing(workspace):
        key = _found(workspace, key_id)
        if VirtualKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
            policy_signal.bump(workspace)
            audit.record(
                workspace=workspace, by=by, action="virtual_key.revoke", target=str(key.id), before={"name": key.name}
            )
        key.refresh_from_db()
        return key


def pause_virtual_key(*, workspace: Workspace, by: Actor, key_id: UUID | str, why: str = "") -> VirtualKey:
    """Refuse the key from the next call on, until it is resumed. Pausing a paused key changes nothing."""
    return _set_pause(workspace, by, key_id, timezone.now(), "virtual_key.pause", {"why": why} if why else {})


def resume_virtual_key(*, workspace: Workspace, by: Actor, key_id: UUID | str) -> VirtualKey:
    """Let a paused key's calls through again."""
    return _set_pause(workspace, by, key_id, None, "virtual_key.resume", {})


def _set_pause(
    workspace: Workspace, by: Actor, key_id: UUID | str, at: datetime | None, action: str, after: dict[str, Any]
) -> VirtualKey:
    with changing(workspace):
        key = _alive(workspace, key_id)
        if (key.paused_at is None) != (at is None):
            key.paused_at = at
            key.save(update_fields=["paused_at"])
            policy_signal.bump(workspace)
            audit.record(
                workspace=workspace, by=by, action=action, target=str(key.id), before={"name": key.name}, after=after
            )
        return key


def rotate_virtual_key(
    *, workspace: Workspace, by: Actor, key_id: UUID | str, grace: timedelta = timedelta()
) -> Minted[VirtualKey]:
    """A new key like this one; the old one is revoked at once or, with `grace`, expires after it."""
    if not timedelta() <= grace <= LONGEST_GRACE:
        raise Invalid(f"Both keys can be valid for at most {LONGEST_GRACE.days} days.", field="grace")
    with changing(workspace):
        old = _alive(workspace, key_id)
        minted = _mint(workspace, by, member=old.member, credentials=old.credentials, **_settings(old))
        now = timezone.now()
        if grace:
            old.expires_at = min(old.expires_at or now + grace, now + grace)
            old.save(update_fields=["expires_at"])
        else:
            old.revoked_at = now
            old.save(update_fields=["revoked_at"])
        audit.record(
            workspace=workspace, by=by, action="virtual_key.rotate", target=str(old.id),
            after={"new": str(minted.row.id), "grace_s": int(grace.total_seconds())},
        )  # fmt: skip
        return minted


def _mint(workspace: Workspace, by: Actor, *, member: Membership | None, **wanted: Any) -> Minted[VirtualKey]:
    key = keys.mint(keys.KeyKind.VIRTUAL_KEY)
    stored = keys.seal_digest(key)
    row = VirtualKey.objects.create(
        workspace=workspace, locator=key.locator, digest=stored.digest, pepper_version=stored.pepper_version,
        last_four=key.last_four, member=member, created_by_id=by.user_id, **wanted,
    )  # fmt: skip
    policy_signal.bump(workspace)
    audit.record(
        workspace=workspace, by=by, action="virtual_key.create", target=str(row.id),
        after={**wanted, "member": member and member.user.email, "last_four": row.last_four},
    )  # fmt: skip
    return Minted(row, key.text)


def _settings(key: VirtualKey) -> dict[str, Any]:
    return {
        "name": key.name, "environment": key.environment, "agent": key.agent, "department": key.department, "may_override": key.may_override,
        "allowed_models": key.allowed_models, "output_limit": key.output_limit, "expires_at": key.expires_at,
    }  # fmt: skip


def _checked(
    *,
    name: str,
    environment: str,
    agent: str,
    department: str,
    may_override: Sequence[str],
    allowed_models: Sequence[str],
    output_limit: int | None,
    expires_at: datetime | None,
) -> dict[str, Any]:
    if isinstance(may_override, str) or not all(dimension in PINNABLE for dimension in may_override):
        raise Invalid(f"Choose among {', '.join(PINNABLE)}.", field="may_override")
    if isinstance(allowed_models, str) or len(allowed_models) > MOST_MODELS:
        raise Invalid(f"Write a list of at most {MOST_MODELS} model names.", field="allowed_models")
    if output_limit is not None and not (type(output_limit) is int and 1 <= output_limit <= 10_000_000):
        raise Invalid("Write a whole number of tokens from 1 to 10,000,000.", field="output_limit")
    models = [words(model, field="allowed_models", longest=200) for model in allowed_models]
    return {
        "name": words(name, field="name"),
        "environment": words(environment, field="environment", longest=32),
        "agent": words(agent, field="agent", required=False),
        "department": words(department, field="department", required=False),
        "may_override": list(dict.fromkeys(may_override)),
        "allowed_models": list(dict.fromkeys(models)),
        "output_limit": output_limit,
        "expires_at": future(expires_at),
    }


def _by_provider(credential_ids: Any) -> dict[str, list[str]]:
    """Ids of credentials of the entered workspace -> provider -> ids. Kept by provider: a pin must hold when its credential is deleted."""
    if isinstance(credential_ids, str) or len(credential_ids) > MOST_CREDENTIALS:
        raise Invalid(f"Write a list of at most {MOST_CREDENTIALS} ids of credentials.", field="credential_ids")
    found: dict[str, list[str]] = {}
    for credential_id in dict.fromkeys(str(one) for one in credential_ids):
        try:
            row = ProviderCredential.objects.filter(pk=identity(credential_id)).first()
        except NotThere:
            row = None
        if row is None:
            raise Invalid("There is no such credential in this workspace.", field="credential_ids")
        found.setdefault(row.provider, []).append(str(row.id))
    return found


def _found(workspace: Workspace, key_id: UUID | str) -> VirtualKey:
    key = VirtualKey.objects.select_related("member__user").filter(workspace=workspace, pk=identity(key_id)).first()
    if key is None:
        raise NotThere("There is no such key in this workspace.")
    return key


def _alive(workspace: Workspace, key_id: UUID | str) -> VirtualKey:
    key = _found(workspace, key_id)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= timezone.now()):
        raise WrongState("This key was revoked or has expired. Make a new one.")
    return key


def _member(workspace: Workspace, member_id: UUID | str) -> Membership:
    member = Membership.objects.select_related("user").filter(workspace=workspace, pk=identity(member_id)).first()
    if member is None:
        raise Invalid("This member is not in the workspace.", field="member_id")
    return member

"""Making, changing, suspending and deleting workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from workspaces import audit, policy_signal, schemas
from workspaces.actions.base import changing, words
from workspaces.actions.base import time_zone as checked_time_zone
from workspaces.audit import Actor
from workspaces.domain import slugs
from workspaces.domain.currencies import DOLLARS, SIGNS, rate_from
from workspaces.errors import Invalid, Taken, WrongState
from workspaces.models import ApiToken, Invitation, Membership, Role, User, VirtualKey, Workspace, WorkspaceState
from workspaces.vault import door


def create_workspace(
    *, slug: str, name: str, owner: User, by: Actor, time_zone: str = "UTC", plan: str = "free"
) -> Workspace:
    """A workspace with its schema, its owner and its first audit record: all of it or, on any failure, nothing.

    Raises Invalid for a slug, name or time zone that cannot be, Taken when the slug has a workspace.
    """
    slug = _checked_slug(slug)
    name = words(name, field="name")
    time_zone = checked_time_zone(time_zone)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval(pg_get_serial_sequence('public.workspaces_workspace', 'id'))")
            workspace_id = cursor.fetchone()[0]
        workspace = Workspace(
            id=workspace_id, schema_name=f"w_{workspace_id}", slug=slug, name=name, time_zone=time_zone, plan=plan
        )
        with _slug_may_be_taken():
            workspace.save(force_insert=True)
        schemas.create(workspace)
        Membership.objects.create(workspace=workspace, user=owner, role=Role.OWNER)
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="workspace.create", target=slug,
            after={"name": name, "slug": slug, "time_zone": time_zone, "plan": plan, "owner": owner.email},
        )  # fmt: skip
    return workspace


def change_workspace(
    *, workspace: Workspace, by: Actor, name: str | None = None, slug: str | None = None, time_zone: str | None = None
) -> None:
    """Rename, move to another address, or set the time zone in which budgets' periods begin."""
    asked = {
        "name": None if name is None else words(name, field="name"),
        "slug": None if slug is None or slug == workspace.slug else _checked_slug(slug),
        "time_zone": None if time_zone is None else checked_time_zone(time_zone),
    }
    with changing(workspace):
        changed = {key: value for key, value in asked.items() if value is not None and value != getattr(workspace, key)}
        if not changed:
            return
        before = {key: getattr(workspace, key) for key in changed}
        for key, value in changed.items():
            setattr(workspace, key, value)
        with _slug_may_be_taken():
            workspace.save(update_fields=list(changed))
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="workspace.change", target=workspace.slug, before=before, after=changed
        )


MOST_DAYS_SHOWN: Final = 3_660


def change_display(
    *, workspace: Workspace, by: Actor, currency: str, rate: str, calls_shown_days: int | None, now: datetime
) -> None:
    """How pages show amounts (an amount stays dollars in the books), and how long single calls are kept: at once they are out of sight,
    and from a day later on they are deleted."""
    known = {DOLLARS, *SIGNS}
    if currency not in known:
        raise Invalid(f"Choose one of: {', '.join(sorted(known))}.", field="currency")
    if calls_shown_days is not None and not 1 <= calls_shown_days <= MOST_DAYS_SHOWN:
        raise Invalid(f"From 1 to {MOST_DAYS_SHOWN:,} days, or as long as they are kept.", field="calls_shown_days")
    asked: dict[str, Any] = {"display_currency": currency, "display_rate": None, "calls_shown_days": calls_shown_days}
    if currency != DOLLARS:
        try:
            asked["display_rate"] = rate_from(rate)
        except ValueError as error:
            raise Invalid(f"{error}", field="rate") from None
    with changing(workspace):
        changed = {key: value for key, value in asked.items() if value != getattr(workspace, key)}
        if not changed:
            return
        before = {key: getattr(workspace, key) for key in changed}
        if "display_rate" in changed or "display_currency" in changed:
            workspace.display_rate_at = None if currency == DOLLARS else now
        if "calls_shown_days" in changed:
            workspace.calls_shown_set_at = now
        for key, value in changed.items():
            setattr(workspace, key, value)
        workspace.save(update_fields=[*changed, "display_rate_at", "calls_shown_set_at"])
        audit.record(
            workspace=workspace, by=by, action="workspace.change", target=workspace.slug,
            before={key: None if value is None else str(value) for key, value in before.items()},
            after={key: None if value is None else str(value) for key, value in changed.items()},
        )  # fmt: skip


def suspend_workspace(*, workspace: Workspace, by: Actor, reason: str = "") -> None:
    """Refuse every call of the workspace from the next one on; pages stay readable."""
    _move(workspace, by, WorkspaceState.ACTIVE, WorkspaceState.SUSPENDED, reason)


def resume_workspace(*, workspace: Workspace, by: Actor) -> None:
    _move(workspace, by, WorkspaceState.SUSPENDED, WorkspaceState.ACTIVE, "")


def delete_workspace(*, workspace: Workspace, by: Actor, typed_slug: str) -> None:
    """Destroy the workspace: keys and tokens refuse from the next call on, its vault is shredded, its schema emptied, its address free again.

    The ledger, which is the books, and the audit log stay. The row stays as a mark (`deleting`) until admission has
    heard of it; `purge_deleted_workspaces` then removes it.
    """
    if typed_slug != workspace.slug:
        raise Invalid(f"Type “{workspace.slug}” to delete this workspace.", field="typed_slug")
    with changing(workspace):
        audit.record(workspace=workspace, by=by, action="workspace.delete", target=workspace.slug)
        now = timezone.now()
        door.shred(workspace)
        VirtualKey.objects.filter(workspace=workspace, revoked_at=None).update(revoked_at=now)
        ApiToken.objects.filter(workspace=workspace, revoked_at=None).update(revoked_at=now)
        Invitation.objects.filter(workspace=workspace, accepted_at=None).update(withdrawn_at=now)
        Membership.objects.filter(workspace=workspace).delete()
        workspace.state = WorkspaceState.DELETING
        workspace.slug = f"deleted-{workspace.pk}"
        workspace.save(update_fields=["state", "slug"])
        policy_signal.bump(workspace)
        schemas.drop(workspace)


def purge_deleted_workspaces() -> int:
    """Remove the rows and empty schemas of deleted workspaces that admission has heard of. Returns how many; safe to repeat."""
    done = 0
    for workspace in Workspace.objects.filter(state=WorkspaceState.DELETING):
        with transaction.atomic():
            row = Workspace.objects.select_for_update(skip_locked=True).filter(pk=workspace.pk).first()
            if row is None or row.policy_pushed < row.policy_version:
                continue
            with connection.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA IF EXISTS {connection.ops.quote_name(row.schema_name)} CASCADE")
            row.delete()
            done += 1
    return done


def _move(workspace: Workspace, by: Actor, source: WorkspaceState, target: WorkspaceState, reason: str) -> None:
    with changing(workspace):
        if workspace.state != source:
            raise WrongState(f"This workspace is {workspace.state} already.")
        workspace.state = target
        workspace.save(update_fields=["state"])
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action=f"workspace.{target.value}", target=workspace.slug,
            before={"state": source.value}, after={"state": target.value, "reason": words(reason, field="reason", longest=200, required=False)},
        )  # fmt: skip


def _checked_slug(slug: str) -> str:
    try:
        return slugs.checked(slug)
    except slugs.BadSlug as error:
        raise Invalid(str(error), field="slug") from None


@contextmanager
def _slug_may_be_taken() -> Iterator[None]:
    """A savepoint in which the unique slug, the database's promise, becomes a clear answer."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "slug" not in str(error):
            raise
        raise Taken("This address is taken. Choose another one.", field="slug") from None

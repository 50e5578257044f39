"""The audit log: who did what, when, from where. Append-only (triggers), one hash chain a workspace; never holds a secret.

What concerns no workspace (a login, a failed one) is in the chain of workspace 0, the installation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.http import HttpRequest
from django.utils import timezone

from workspaces import tenancy
from workspaces.domain.audit_chain import GENESIS, Link, plain
from workspaces.models import AuditRecord, Membership, Role, User, Workspace

INSTALLATION = 0


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and with which role in the workspace. Without a role one gives and takes none; the installation itself may everything."""

    name: str
    address: str = ""
    role: Role | None = None
    user_id: UUID | None = None
    installation: bool = False

    @classmethod
    def member(cls, membership: Membership, address: str = "") -> Actor:
        return cls(membership.user.email, address, Role(membership.role), membership.user_id)

    @classmethod
    def person(cls, user: User, address: str = "") -> Actor:
        """Somebody acting outside any workspace, e.g. making their first one."""
        return cls(user.email, address, None, user.pk)

    @classmethod
    def of(cls, request: HttpRequest) -> Actor:
        """The member behind a request under `/w/`, or the signed-in person elsewhere."""
        address = request.META.get("REMOTE_ADDR", "")
        membership = getattr(request, "membership", None)
        if membership is not None:
            return cls.member(membership, address)
        if isinstance(request.user, User):
            return cls.person(request.user, address)
        return cls("anonymous", address)


SYSTEM = Actor("sluice", installation=True)


def record(
    *,
    workspace: Workspace | None,
    by: Actor,
    action: str,
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditRecord:
    """Append one record, in the caller's transaction: what is rolled back did not happen and is not in the log."""
    workspace_id = INSTALLATION if workspace is None else workspace.id
    with transaction.atomic(), _chain_of(workspace):
        with connection.cursor() as cursor:  # one writer a chain; released at the end of the transaction
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('sluice audit', %s))", [workspace_id])
        last = AuditRecord.objects.filter(workspace_id=workspace_id).order_by("-number").first()
        link = Link(
            workspace_id=workspace_id,
            number=last.number + 1 if last else 1,
            at=timezone.now(),
            actor=plain(by.name)[:254],
            address=plain(by.address)[:64],
            action=action,
            target=plain(target)[:160],
            before=plain(before or {}),
            after=plain(after or {}),
        )
        previous = bytes(last.hash) if last else GENESIS
        return AuditRecord.objects.create(
            workspace_id=link.workspace_id,
            number=link.number,
            at=link.at,
            actor=link.actor,
            address=link.address,
            action=link.action,
            target=link.target,
            before=link.before,
            after=link.after,
            previous_hash=previous,
            hash=link.hash_after(previous),
        )


@contextmanager
def _chain_of(workspace: Workspace | None) -> Iterator[None]:
    """Row-level security lets a workspace reach its own chain only, and nobody inside one the installation's."""
    if workspace is not None:
        with tenancy.entered(workspace):
            yield
    else:
        with tenancy.every_workspace("the installation's chain belongs to no workspace"):
            yield


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one chain: how long it is, its head, and the first fault, if any."""

    workspace_id: int
    records: int
    head: str
    fault: str = ""


def verify(workspace_id: int) -> Verdict:
    """Walk a chain from its beginning. The head, kept elsewhere (`verify_audit --heads`), also proves that no tail was cut off."""
    previous, number = GENESIS, 0
    with tenancy.every_workspace("verifying audit chains"):
        rows = AuditRecord.objects.filter(workspace_id=workspace_id).order_by("number")
        for row in rows.iterator(chunk_size=2000):
            number += 1
            link = Link(
                row.workspace_id,
                row.number,
                row.at,
                row.actor,
                row.address,
                row.action,
                row.target,
                row.before,
                row.after,
            )
            if row.number != number:
                return Verdict(workspace_id, number - 1, previous.hex(), f"record {number} is missing")
            if bytes(row.previous_hash) != previous:
                return Verdict(
                    workspace_id, number - 1, previous.hex(), f"record {number} does not follow the one before"
                )
            if bytes(row.hash) != link.hash_after(previous):
                return Verdict(workspace_id, number - 1, previous.hex(), f"record {number} was changed")
            previous = bytes(row.hash)
    return Verdict(workspace_id, number, previous.hex())


def chains() -> list[int]:
    """The workspaces that have a chain, the installation's 0 among them."""
    with tenancy.every_workspace("verifying audit chains"):
        return sorted(AuditRecord.objects.order_by().values_list("workspace_id", flat=True).distinct())

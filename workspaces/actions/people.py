"""Members and invitations. A workspace always keeps an owner; nobody gives a role above their own."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from workspaces import audit, policy_signal, roles
from workspaces.actions.base import Minted, changing, identity
from workspaces.audit import Actor
from workspaces.directory.models import Department
from workspaces.errors import Invalid, NotAllowed, NotThere, Taken, WrongState
from workspaces.models import ApiToken, Invitation, Membership, Role, User, VirtualKey, Workspace

INVITATION_LASTS = timedelta(days=7)
_UNCHANGED: Any = object()


def add_member(*, workspace: Workspace, by: Actor, user: User, role: Role | str) -> Membership:
    role = _given(by, role)
    with changing(workspace):
        return _join(workspace, by, user, role)


def change_member(
    *,
    workspace: Workspace,
    by: Actor,
    membership_id: UUID | str,
    role: Role | str | None = None,
    department_id: Any = _UNCHANGED,
) -> Membership:
    """Another role or another department. Neither a member above oneself nor the last owner can be changed."""
    with changing(workspace):
        membership = _found(workspace, membership_id)
        before = {"role": membership.role, "department_id": membership.department_id}
        if role is not None and role != membership.role:
            _given(by, membership.role)
            membership.role = _given(by, role)
            if before["role"] == Role.OWNER:
                _another_owner(workspace, membership)
        if department_id is not _UNCHANGED:
            membership.department_id = None if department_id in (None, "") else identity(department_id)
            if membership.department_id and not Department.objects.filter(pk=membership.department_id).exists():
                raise Invalid("There is no such department.", field="department_id")
        membership.save(update_fields=["role", "department_id"])
        policy_signal.bump(workspace)
        after = {"role": membership.role, "department_id": membership.department_id}
        audit.record(
            workspace=workspace, by=by, action="member.change", target=membership.user.email, before=before, after=after
        )
        return membership


def remove_member(*, workspace: Workspace, by: Actor, membership_id: UUID | str) -> None:
    """Take somebody out. Their tokens and the virtual keys pinned to them stop at once: they leave with nothing in their pockets.

    Anybody may leave by themselves.
    """
    with changing(workspace):
        membership = _found(workspace, membership_id)
        if by.user_id != membership.user_id:
            _given(by, membership.role)
        if membership.role == Role.OWNER:
            _another_owner(workspace, membership)
        now = timezone.now()
        ApiToken.objects.filter(workspace=workspace, user=membership.user, revoked_at=None).update(revoked_at=now)
        VirtualKey.objects.filter(workspace=workspace, member=membership, revoked_at=None).update(revoked_at=now)
        audit.record(
            workspace=workspace, by=by, action="member.remove", target=membership.user.email, before={"role": membership.role}
        )  # fmt: skip
        membership.delete()
        policy_signal.bump(workspace)


def invite(*, workspace: Workspace, by: Actor, email: str, role: Role | str) -> Minted[Invitation]:
    """Offer a role to an address; the mail with the link leaves after the commit. An open invitation of the address is replaced."""
    role = _given(by, role)
    email = _address(email)
    with changing(workspace):
        if Membership.objects.filter(workspace=workspace, user__email=email).exists():
            raise Taken("This person is a member already.", field="email")
        now = timezone.now()
        Invitation.objects.filter(
            workspace=workspace, email=email, accepted_at=None, withdrawn_at=None
        ).update(withdrawn_at=now)  # fmt: skip
        token = secrets.token_urlsafe(32)
        invitation = Invitation.objects.create(
            workspace=workspace, email=email, role=role, digest=_digest(token), invited_by_id=by.user_id, expires_at=now + INVITATION_LASTS
        )  # fmt: skip
        audit.record(workspace=workspace, by=by, action="member.invite", target=email, after={"role": role})
        transaction.on_commit(lambda: _send(invitation, token, by), robust=True)
        return Minted(invitation, token)


def withdraw_invitation(*, workspace: Workspace, by: Actor, invitation_id: UUID | str) -> None:
    with changing(workspace):
        rows = Invitation.objects.filter(
            workspace=workspace, pk=identity(invitation_id), accepted_at=None, withdrawn_at=None
        )
        invitation = rows.first()
        if invitation is None:
            raise NotThere("There is no such open invitation.")
        rows.update(withdrawn_at=timezone.now())
        audit.record(workspace=workspace, by=by, action="member.withdraw_invitation", target=invitation.email)


def find_invitation(token: str) -> Invitation:
    """The open invitation behind a link. Raises NotThere for unknown, used, withdrawn and expired ones alike."""
    rows = Invitation.objects.select_related("workspace", "invited_by")
    invitation = rows.filter(
        digest=_digest(token), accepted_at=None, withdrawn_at=None, expires_at__gt=timezone.now()
    ).first()
    if invitation is None or invitation.workspace.state == "deleting":
        raise NotThere("This invitation is not valid any more.", hint="Ask for a new one.")
    return invitation


def accept_invitation(*, token: str, user: User, by: Actor) -> Membership:
    """Join with the role offered. Only for the invited address: a forwarded link is no membership."""
    invitation = find_invitation(token)
    if user.email != invitation.email:
        raise NotAllowed(f"This invitation is for {invitation.email}.", hint="Sign in with that address.")
    workspace = invitation.workspace
    with changing(workspace):
        if not Invitation.objects.filter(pk=invitation.pk, accepted_at=None, withdrawn_at=None).update(
            accepted_at=timezone.now()
        ):
            raise NotThere("This invitation is not valid any more.", hint="Ask for a new one.")
        return _join(workspace, by, user, Role(invitation.role))


def _join(workspace: Workspace, by: Actor, user: User, role: Role) -> Membership:
    try:
        with transaction.atomic():
            membership = Membership.objects.create(workspace=workspace, user=user, role=role)
    except IntegrityError:
        raise Taken("This person is a member already.", field="email") from None
    policy_signal.bump(workspace)
    audit.record(workspace=workspace, by=by, action="member.add", target=user.email, after={"role": role})
    return membership


def _given(by: Actor, role: Role | str) -> Role:
    """The role, when the actor may give it."""
    if role not in Role.values:
        raise Invalid(f"Choose one of: {', '.join(Role.values)}.", field="role")
    if not by.installation and (by.role is None or not roles.may_give(by.role, role)):
        raise NotAllowed(f"Your role ({by.role or 'none'}) may not give or take the role “{role}”.")
    return Role(role)


def _another_owner(workspace: Workspace, leaving: Membership) -> None:
    if not Membership.objects.filter(workspace=workspace, role=Role.OWNER).exclude(pk=leaving.pk).exists():
        raise WrongState("A workspace needs an owner. Make somebody else an owner first.")


def _found(workspace: Workspace, membership_id: UUID | str) -> Membership:
    membership = (
        Membership.objects.select_related("user").filter(workspace=workspace, pk=identity(membership_id)).first()
    )
    if membership is None:
        raise NotThere("There is no such member in this workspace.")
    return membership


def _address(email: str) -> str:
    try:
        validate_email(email.strip())
    except (ValidationError, AttributeError):
        raise Invalid("Write an e-mail address.", field="email") from None
    return email.strip().lower()


def _digest(token: str) -> bytes:
    """256 random bits need no pepper."""
    return hashlib.sha256(b"sluice invitation\0" + token.encode("utf-8", "replace")).digest()


def _send(invitation: Invitation, token: str, by: Actor) -> None:
    workspace = invitation.workspace
    EmailMessage(
        subject=f"[{workspace.name}] You are invited",
        body=(
            f"{by.name} invites you to the workspace “{workspace.name}” on Sluice as {invitation.role}.\n\n"
            f"{settings.PUBLIC_URL}/invitations/{token}/\n\n"
            f"The link is valid until {invitation.expires_at:%d %B %Y, %H:%M} UTC. If you did not expect it, ignore this mail.\n"
        ),
        to=[invitation.email],
        headers={"Auto-Submitted": "auto-generated"},
    ).send()

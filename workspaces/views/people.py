"""Members of a workspace and invitations to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workspaces import actions, roles
from workspaces.errors import Refused
from workspaces.forms import InvitationForm
from workspaces.models import Membership, Role
from workspaces.roles import Action
from workspaces.views import reads
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page

Caps = Callable[[HttpRequest, Sequence[str]], Mapping[str, Mapping[str, Any]]]
CAPS: dict[str, Caps] = {}
"""Answers what stands beside each member (by e-mail) about the caps on them. Filled at start-up by the app that knows budgets."""


@workspace_page(Action.SEE_PEOPLE, narrows=True)
def members(request: HttpRequest) -> HttpResponse:
    return _page(request, InvitationForm(roles=_givable(request)))


@workspace_page(Action.MANAGE_PEOPLE, methods=("POST",))
def member_invite(request: HttpRequest) -> HttpResponse:
    form = InvitationForm(request.POST, roles=_givable(request))
    if form.is_valid():
        try:
            actions.invite(
                workspace=workspace_of(request),
                by=actor(request),
                email=form.cleaned_data["email"],
                role=form.cleaned_data["role"],
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"An invitation is on its way to {form.cleaned_data['email']}.")
            return redirect(url(request, "members"))
    return _page(request, form)


@workspace_page(Action.MANAGE_PEOPLE, methods=("POST",))
def invitation_withdraw(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    actions.withdraw_invitation(workspace=workspace_of(request), by=actor(request), invitation_id=invitation_id)
    messages.success(request, "The invitation is withdrawn.")
    return redirect(url(request, "members"))


@workspace_page(Action.MANAGE_PEOPLE, methods=("POST",), confirmed_by="members")
def member_role(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    try:
        member = actions.change_member(
            workspace=workspace_of(request),
            by=actor(request),
            membership_id=membership_id,
            role=request.POST.get("role", ""),
        )
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        messages.success(request, f"{member.user.email} is now {member.get_role_display().lower()}.")
    return redirect(url(request, "members"))


@workspace_page(Action.MANAGE_PEOPLE, methods=("POST",))
def member_department(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    try:
        member = actions.change_member(
            workspace=workspace_of(request),
            by=actor(request),
            membership_id=membership_id,
            department_id=request.POST.get("department", ""),
        )
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        name = reads.departments().get(member.department_id, "") if member.department_id else ""
        messages.success(request, f"{member.user.email} is {f'in {name}' if name else 'in no department'} now.")
    return redirect(url(request, "members"))


@workspace_page(Action.SEE_PEOPLE, methods=("POST",), confirmed_by="members", narrows=True)
def member_remove(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    """Remove somebody, which the action allows to those who manage people; or leave, which anybody may."""
    leaving = membership_id == membership_of(request).id
    try:
        actions.remove_member(workspace=workspace_of(request), by=actor(request), membership_id=membership_id)
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
        return redirect(url(request, "members"))
    messages.success(request, "You have left the workspace." if leaving else "They are no longer a member.")
    return redirect("home" if leaving else url(request, "members"))


def _page(request: HttpRequest, form: InvitationForm) -> HttpResponse:
    workspace, me = workspace_of(request), membership_of(request)
    departments = reads.departments()
    manages = roles.may(me.role, Action.MANAGE_PEOPLE)
    shown = reads.members_of(workspace)
    caps: dict[str, Mapping[str, Any]] = {}
    for read in CAPS.values():
        caps |= read(request, [one.user.email for one in shown])
    is_last_owner = sum(one.role == Role.OWNER for one in shown) == 1
    context = {
        "form": form,
        "invite_url": url(request, "member_invite"),
        "members": [
            _shown(request, one, me, departments)
            | {"cap": caps.get(one.user.email)}
            | ({"remove_url": ""} if is_last_owner and one.role == Role.OWNER else {})
            for one in shown
        ],
        "has_caps": bool(caps),
        "departments": [
            {"id": str(key), "name": name} for key, name in sorted(departments.items(), key=lambda d: d[1])
        ],
        "invitations": [
            {
                "email": one.email,
                "role_label": one.get_role_display(),
                "withdraw_url": url(request, "invitation_withdraw", one.id) if manages else "",
            }
            for one in reads.open_invitations(workspace)
        ],
    }
    return page(request, "workspaces/members.html", "members", context, status=422 if form.errors else 200)


def _shown(request: HttpRequest, one: Membership, me: Membership, departments: dict[UUID, str]) -> dict[str, Any]:
    is_me = one.id == me.id
    above_me = not roles.may_give(me.role, one.role)
    changeable = not is_me and not above_me
    return {
        "id": str(one.id),
        "label": one.user.name or one.user.email,
        "name": one.user.name,
        "email": one.user.email,
        "is_you": is_me,
        "role": one.role,
        "role_label": one.get_role_display(),
        "roles": [{"value": value, "label": label} for value, label in _givable(request)],
        "role_url": url(request, "member_role", one.id) if changeable else "",
        "department": departments.get(one.department_id, "") if one.department_id else "",
        "department_id": str(one.department_id or ""),
        "department_url": url(request, "member_department", one.id)
        if departments and roles.may(me.role, Action.MANAGE_PEOPLE)
        else "",
        "since": one.created_at,
        "remove_url": url(request, "member_remove", one.id) if changeable or is_me else "",
        "remove_label": "Leave" if is_me else "Remove",
    }


def _givable(request: HttpRequest) -> list[tuple[str, str]]:
    mine = membership_of(request).role
    return [(role.value, str(role.label)) for role in Role if roles.may_give(mine, role)]

"""DRF permissions on the role table. A route says what it needs; one that says nothing is denied (SECURITY.md S21)."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from workspaces import roles
from workspaces.errors import NotAllowed
from workspaces.models import ApiToken, Membership, WorkspaceState


class Denied(BasePermission):
    """The default: nobody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class HoldsToken(BasePermission):
    """Any valid API token. For the few routes that belong to no workspace; they show only what is the token's own."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, ApiToken)


class RoleAllows(BasePermission):
    """The token belongs to the workspace in the path, its maker is still a member, and both role and scope allow the action.

    A workspace that does not exist, one the caller is no member of and one the token was not made for give the same 404 after the same
    query. Leaves `membership` on the view.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        token = request.auth
        if not isinstance(token, ApiToken):
            return False
        membership = (
            Membership.objects.select_related("workspace", "user")
            .filter(user_id=token.user_id, workspace_id=token.workspace_id, workspace__slug=view.kwargs["slug"])
            .exclude(workspace__state=WorkspaceState.DELETING)
            .first()
        )
        if membership is None:
            raise Http404
        method = "GET" if request.method == "HEAD" else request.method or ""
        action = view.needs.get(method)
        if action is None:
            raise MethodNotAllowed(method)
        if not roles.may(membership.role, action, narrows=getattr(view, "narrows", False)):
            raise NotAllowed(f"Your role ({membership.role}) may not do this.", hint="Ask an owner of the workspace.")
        scope = roles.TABLE[action].scope
        if scope not in token.scopes:
            raise NotAllowed(f"This token lacks the scope “{scope}”.", hint="Make a token that has it.")
        view.membership = membership
        return True

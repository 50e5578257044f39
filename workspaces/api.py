"""The REST API of workspaces: thin translations around one action or query each. What each method needs stands in `needs`."""

from __future__ import annotations

from typing import ClassVar, cast

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from workspaces import actions, throttles
from workspaces import api_shapes as shapes
from workspaces.audit import Actor
from workspaces.errors import NotAllowed
from workspaces.models import ApiToken, Membership, User, Workspace, WorkspaceState
from workspaces.permissions import HoldsToken
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action, Scope


class Workspaces(APIView):
    """The workspaces this token can reach: its own."""

    permission_classes: ClassVar[list[type[BasePermission]]] = [HoldsToken]  # type: ignore[misc]
    http_method_names: ClassVar[list[str]] = ["get", "head", "post"]  # type: ignore[misc]

    @extend_schema(operation_id="workspaces_list", responses=listed(shapes.WorkspaceShown))
    def get(self, request: Request) -> Response:
        token = cast("ApiToken", request.auth)
        rows = Workspace.objects.filter(pk=token.workspace_id, memberships__user_id=token.user_id)
        return paged(request, rows.exclude(state=WorkspaceState.DELETING), lambda row: shapes.WorkspaceShown(row).data)

    @extend_schema(
        operation_id="workspaces_create", request=shapes.WorkspaceWanted, responses={201: shapes.WorkspaceMade}
    )
    def post(self, request: Request) -> Response:
        """Another workspace of the token's maker, who owns it. Needs the scope `workspace`; answers with a token for the new one."""
        throttles.count(request)
        token, user = cast("ApiToken", request.auth), cast("User", request.user)
        if Scope.WORKSPACE not in token.scopes:
            raise NotAllowed(f"This token lacks the scope “{Scope.WORKSPACE}”.", hint="Make a token that has it.")
        by = Actor.person(user, request.META.get("REMOTE_ADDR", ""))
        workspace = actions.create_workspace(owner=user, by=by, **shapes.WorkspaceWanted.read(request))
        owner = Membership.objects.select_related("user", "workspace").get(workspace=workspace, user=user)
        minted = actions.create_api_token(
            workspace=workspace, by=Actor.member(owner, by.address), membership=owner, name=token.name, scopes=token.scopes,
            expires_at=token.expires_at,
        )  # fmt: skip
        return Response({**shapes.WorkspaceShown(workspace).data, "api_token": minted.text}, status=201)


class OneWorkspace(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_WORKSPACE, "PATCH": Action.RENAME_WORKSPACE}

    @extend_schema(operation_id="workspaces_show", responses=shapes.WorkspaceShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(shapes.WorkspaceShown(self.workspace).data)

    @extend_schema(operation_id="workspaces_change", request=shapes.WorkspaceChange, responses=shapes.WorkspaceShown)
    def patch(self, request: Request, slug: str) -> Response:
        actions.change_workspace(workspace=self.workspace, by=self.actor, **shapes.WorkspaceChange.read(request))
        return Response(shapes.WorkspaceShown(self.workspace).data)


class Display(WorkspaceAPIView):
    """How pages show amounts, and how long single calls can be looked at."""

    needs: ClassVar = {"GET": Action.SEE_WORKSPACE, "PUT": Action.RENAME_WORKSPACE}

    @extend_schema(operation_id="display_show", responses=shapes.DisplayShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(shapes.DisplayShown(self.workspace).data)

    @extend_schema(operation_id="display_set", request=shapes.DisplayWanted, responses=shapes.DisplayShown)
    def put(self, request: Request, slug: str) -> Response:
        wanted = {"rate": "", **shapes.DisplayWanted.read(request)}
        actions.change_display(workspace=self.workspace, by=self.actor, now=timezone.now(), **wanted)
        return Response(shapes.DisplayShown(self.workspace).data)


class DeleteWorkspace(WorkspaceAPIView):
    """The end of the workspace, at once and for good: its keys and tokens refuse, this one too; its vault is shredded. The books stay."""

    needs: ClassVar = {"POST": Action.DELETE_WORKSPACE}

    @extend_schema(operation_id="workspaces_delete", request=shapes.WorkspaceDeletion, responses={204: None})
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.WorkspaceDeletion.read(request)
        actions.delete_workspace(workspace=self.workspace, by=self.actor, **wanted)
        return Response(status=204)

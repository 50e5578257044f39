"""The REST API of people: members with their roles and departments, and open invitations."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import actions, narrowing
from workspaces import api_shapes as shapes
from workspaces.errors import NotThere
from workspaces.models import Invitation, Membership
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action


class Members(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_PEOPLE}
    narrows = True

    @extend_schema(operation_id="members_list", responses=listed(shapes.MemberShown))
    def get(self, request: Request, slug: str) -> Response:
        rows = Membership.objects.select_related("user").filter(workspace=self.workspace)
        if narrowing.department() is not None:
            rows = rows.filter(department_id=self.membership.department_id)
        return paged(request, rows, lambda row: shapes.MemberShown(row).data)


class OneMember(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_PEOPLE, "PATCH": Action.MANAGE_PEOPLE, "DELETE": Action.MANAGE_PEOPLE}

    @extend_schema(operation_id="members_show", responses=shapes.MemberShown)
    def get(self, request: Request, slug: str, membership_id: UUID) -> Response:
        row = Membership.objects.select_related("user").filter(workspace=self.workspace, pk=membership_id).first()
        if row is None:
            raise NotThere("There is no such member in this workspace.")
        return Response(shapes.MemberShown(row).data)

    @extend_schema(operation_id="members_change", request=shapes.MemberChange, responses=shapes.MemberShown)
    def patch(self, request: Request, slug: str, membership_id: UUID) -> Response:
        """Another role, at most one's own, or another department. A workspace keeps an owner."""
        changes: dict[str, Any] = shapes.MemberChange.read(request, partial=True)
        row = actions.change_member(workspace=self.workspace, by=self.actor, membership_id=membership_id, **changes)
        return Response(shapes.MemberShown(row).data)

    @extend_schema(operation_id="members_remove", responses={204: None})
    def delete(self, request: Request, slug: str, membership_id: UUID) -> Response:
        """Their API tokens and the virtual keys pinned to them stop at once."""
        actions.remove_member(workspace=self.workspace, by=self.actor, membership_id=membership_id)
        return Response(status=204)


class Invitations(WorkspaceAPIView):
    """Invitations that are open. Inviting an address again replaces its open invitation and sends another mail."""

    needs: ClassVar = {"GET": Action.SEE_PEOPLE, "POST": Action.MANAGE_PEOPLE}

    @extend_schema(operation_id="invitations_list", responses=listed(shapes.InvitationShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, self._open(), lambda row: shapes.InvitationShown(row).data)

    @extend_schema(
        operation_id="invitations_create", request=shapes.InvitationWanted, responses={201: shapes.InvitationShown}
    )
    def post(self, request: Request, slug: str) -> Response:
        minted = actions.invite(workspace=self.workspace, by=self.actor, **shapes.InvitationWanted.read(request))
        return Response(shapes.InvitationShown(minted.row).data, status=201)

    def _open(self) -> QuerySet[Invitation]:
        rows = Invitation.objects.filter(workspace=self.workspace, accepted_at=None, withdrawn_at=None)
        return rows.filter(expires_at__gt=timezone.now())


class OneInvitation(WorkspaceAPIView):
    needs: ClassVar = {"DELETE": Action.MANAGE_PEOPLE}

    @extend_schema(operation_id="invitations_withdraw", responses={204: None})
    def delete(self, request: Request, slug: str, invitation_id: UUID) -> Response:
        actions.withdraw_invitation(workspace=self.workspace, by=self.actor, invitation_id=invitation_id)
        return Response(status=204)

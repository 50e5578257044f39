"""The REST API of routes: the workspace's own names for models, and what is done when an attempt fails."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import actions
from workspaces import api_shapes as shapes
from workspaces.rest import WorkspaceAPIView, listed, one_of, paged
from workspaces.roles import Action
from workspaces.routes.models import Alias


class Aliases(WorkspaceAPIView):
    """The workspace's own names for models."""

    needs: ClassVar = {"GET": Action.SEE_KEYS, "POST": Action.MANAGE_ROUTES}

    @extend_schema(operation_id="aliases_list", responses=listed(shapes.AliasShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, Alias.objects.all(), lambda row: shapes.AliasShown(row).data)

    @extend_schema(operation_id="aliases_create", request=shapes.AliasWanted, responses={201: shapes.AliasShown})
    def post(self, request: Request, slug: str) -> Response:
        row = actions.create_alias(workspace=self.workspace, by=self.actor, **shapes.AliasWanted.read(request))
        return Response(shapes.AliasShown(row).data, status=201)


class OneAlias(WorkspaceAPIView):
    needs: ClassVar = {
        "GET": Action.SEE_KEYS,
        "PATCH": Action.MANAGE_ROUTES,
        "DELETE": Action.MANAGE_ROUTES,
    }

    @extend_schema(operation_id="aliases_show", responses=shapes.AliasShown)
    def get(self, request: Request, slug: str, alias_id: UUID) -> Response:
        row = one_of(Alias.objects.all(), alias_id, "alias")
        return Response(shapes.AliasShown(row).data)

    @extend_schema(operation_id="aliases_change", request=shapes.AliasWanted, responses=shapes.AliasShown)
    def patch(self, request: Request, slug: str, alias_id: UUID) -> Response:
        changes = shapes.AliasWanted.read(request, partial=True)
        row = actions.change_alias(workspace=self.workspace, by=self.actor, alias_id=alias_id, **changes)
        return Response(shapes.AliasShown(row).data)

    @extend_schema(operation_id="aliases_delete", responses={204: None})
    def delete(self, request: Request, slug: str, alias_id: UUID) -> Response:
        actions.delete_alias(workspace=self.workspace, by=self.actor, alias_id=alias_id)
        return Response(status=204)


class Routing(WorkspaceAPIView):
    """What is done when an attempt fails."""

    needs: ClassVar = {"GET": Action.SEE_KEYS, "PATCH": Action.MANAGE_ROUTES}

    @extend_schema(operation_id="routing_show", responses=shapes.HopRulesShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(shapes.HopRulesShown(actions.hop_rules()).data)

    @extend_schema(operation_id="routing_change", request=shapes.HopRulesChange, responses=shapes.HopRulesShown)
    def patch(self, request: Request, slug: str) -> Response:
        changes = shapes.HopRulesChange.read(request, partial=True)
        row = actions.change_hop_rules(workspace=self.workspace, by=self.actor, **changes)
        return Response(shapes.HopRulesShown(row).data)

"""The REST API of departments and agents."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import actions, narrowing
from workspaces import api_shapes as shapes
from workspaces.directory.models import Agent, Department
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action


class Departments(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_PEOPLE, "POST": Action.MANAGE_DIRECTORY}
    narrows = True

    @extend_schema(operation_id="departments_list", responses=listed(shapes.NamedShown))
    def get(self, request: Request, slug: str) -> Response:
        own = narrowing.department()
        rows = Department.objects.all() if own is None else Department.objects.filter(name=own)
        return paged(request, rows, lambda row: shapes.NamedShown(row).data)

    @extend_schema(operation_id="departments_create", request=shapes.NamedWanted, responses={201: shapes.NamedShown})
    def post(self, request: Request, slug: str) -> Response:
        row = actions.add_department(workspace=self.workspace, by=self.actor, **shapes.NamedWanted.read(request))
        return Response(shapes.NamedShown(row).data, status=201)


class OneDepartment(WorkspaceAPIView):
    needs: ClassVar = {"DELETE": Action.MANAGE_DIRECTORY}

    @extend_schema(operation_id="departments_delete", responses={204: None})
    def delete(self, request: Request, slug: str, department_id: UUID) -> Response:
        actions.remove_department(workspace=self.workspace, by=self.actor, department_id=department_id)
        return Response(status=204)


class Agents(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_PEOPLE, "POST": Action.MANAGE_DIRECTORY}
    narrows = True

    @extend_schema(operation_id="agents_list", responses=listed(shapes.AgentShown))
    def get(self, request: Request, slug: str) -> Response:
        own = narrowing.department()
        rows = Agent.objects.all() if own is None else Agent.objects.filter(department__name=own)
        return paged(request, rows, lambda row: shapes.AgentShown(row).data)

    @extend_schema(operation_id="agents_create", request=shapes.AgentWanted, responses={201: shapes.AgentShown})
    def post(self, request: Request, slug: str) -> Response:
        row = actions.add_agent(workspace=self.workspace, by=self.actor, **shapes.AgentWanted.read(request))
        return Response(shapes.AgentShown(row).data, status=201)


class OneAgent(WorkspaceAPIView):
    needs: ClassVar = {"DELETE": Action.MANAGE_DIRECTORY}

    @extend_schema(operation_id="agents_delete", responses={204: None})
    def delete(self, request: Request, slug: str, agent_id: UUID) -> Response:
        actions.remove_agent(workspace=self.workspace, by=self.actor, agent_id=agent_id)
        return Response(status=204)

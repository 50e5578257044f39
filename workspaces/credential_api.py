"""The REST API of provider keys: they go in and never come out."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import actions
from workspaces import api_shapes as shapes
from workspaces.rest import WorkspaceAPIView, listed, one_of, paged
from workspaces.roles import Action
from workspaces.vault.models import ProviderCredential


class Credentials(WorkspaceAPIView):
    """Provider keys go in and never come out."""

    needs: ClassVar = {"GET": Action.SEE_CREDENTIALS, "POST": Action.MANAGE_CREDENTIALS}

    @extend_schema(operation_id="credentials_list", responses=listed(shapes.CredentialShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, ProviderCredential.objects.all(), lambda row: shapes.CredentialShown(row).data)

    @extend_schema(
        operation_id="credentials_add", request=shapes.CredentialWanted, responses={201: shapes.CredentialShown}
    )
    def post(self, request: Request, slug: str) -> Response:
        wanted = {"secret": "", **shapes.CredentialWanted.read(request)}
        row = actions.add_credential(workspace=self.workspace, by=self.actor, **wanted)
        return Response(shapes.CredentialShown(row).data, status=201)


class OneCredential(WorkspaceAPIView):
    needs: ClassVar = {
        "GET": Action.SEE_CREDENTIALS,
        "PATCH": Action.MANAGE_CREDENTIALS,
        "DELETE": Action.MANAGE_CREDENTIALS,
    }

    @extend_schema(operation_id="credentials_show", responses=shapes.CredentialShown)
    def get(self, request: Request, slug: str, credential_id: UUID) -> Response:
        row = one_of(ProviderCredential.objects.all(), credential_id, "credential")
        return Response(shapes.CredentialShown(row).data)

    @extend_schema(operation_id="credentials_change", request=shapes.CredentialChange, responses=shapes.CredentialShown)
    def patch(self, request: Request, slug: str, credential_id: UUID) -> Response:
        changes = shapes.CredentialChange.read(request, partial=True)
        row = actions.change_credential(workspace=self.workspace, by=self.actor, credential_id=credential_id, **changes)
        return Response(shapes.CredentialShown(row).data)

    @extend_schema(operation_id="credentials_delete", responses={204: None})
    def delete(self, request: Request, slug: str, credential_id: UUID) -> Response:
        actions.delete_credential(workspace=self.workspace, by=self.actor, credential_id=credential_id)
        return Response(status=204)


class _CredentialAct(WorkspaceAPIView):
    """POST .../credentials/<id>/<act>/: one action, answered with the credential."""

    needs: ClassVar = {"POST": Action.MANAGE_CREDENTIALS}
    act: ClassVar[Any]

    @extend_schema(request=None, responses=shapes.CredentialShown)
    def post(self, request: Request, slug: str, credential_id: UUID) -> Response:
        row = type(self).act(workspace=self.workspace, by=self.actor, credential_id=credential_id)
        return Response(shapes.CredentialShown(row).data)


class VerifyCredential(_CredentialAct):
    act: ClassVar = staticmethod(actions.verify_credential)


class DisableCredential(_CredentialAct):
    act: ClassVar = staticmethod(actions.disable_credential)


class EnableCredential(_CredentialAct):
    act: ClassVar = staticmethod(actions.enable_credential)


class RotateCredential(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_CREDENTIALS}

    @extend_schema(
        operation_id="credentials_rotate", request=shapes.CredentialRotation, responses=shapes.CredentialShown
    )
    def post(self, request: Request, slug: str, credential_id: UUID) -> Response:
        wanted = shapes.CredentialRotation.read(request)
        row = actions.rotate_credential(workspace=self.workspace, by=self.actor, credential_id=credential_id, **wanted)
        return Response(shapes.CredentialShown(row).data)

"""The REST API of virtual keys, which applications hold, and of API tokens, which scripts do."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import actions
from workspaces import api_shapes as shapes
from workspaces.errors import NotAllowed
from workspaces.models import ApiToken, VirtualKey, Workspace
from workspaces.rest import WorkspaceAPIView, listed, one_of, paged
from workspaces.roles import Action


def _keys_of(workspace: Workspace) -> Any:
    return VirtualKey.objects.select_related("member__user").filter(workspace=workspace)


def _key_made(minted: actions.Minted[VirtualKey]) -> Response:
    return Response({**shapes.VirtualKeyShown(minted.row).data, "virtual_key": minted.text}, status=201)


class VirtualKeys(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_KEYS, "POST": Action.MANAGE_KEYS}

    @extend_schema(operation_id="virtual_keys_list", responses=listed(shapes.VirtualKeyShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, _keys_of(self.workspace), lambda row: shapes.VirtualKeyShown(row).data)

    @extend_schema(
        operation_id="virtual_keys_create", request=shapes.VirtualKeyWanted, responses={201: shapes.VirtualKeyMade}
    )
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.VirtualKeyWanted.read(request)
        return _key_made(actions.create_virtual_key(workspace=self.workspace, by=self.actor, **wanted))


class OneVirtualKey(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_KEYS, "PATCH": Action.MANAGE_KEYS}

    @extend_schema(operation_id="virtual_keys_show", responses=shapes.VirtualKeyShown)
    def get(self, request: Request, slug: str, key_id: UUID) -> Response:
        row = one_of(_keys_of(self.workspace), key_id, "key")
        return Response(shapes.VirtualKeyShown(row).data)

    @extend_schema(
        operation_id="virtual_keys_change", request=shapes.VirtualKeyWanted, responses=shapes.VirtualKeyShown
    )
    def patch(self, request: Request, slug: str, key_id: UUID) -> Response:
        changes = shapes.VirtualKeyWanted.read(request, partial=True)
        row = actions.change_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id, **changes)
        return Response(shapes.VirtualKeyShown(row).data)


class _KeyAct(WorkspaceAPIView):
    """POST .../virtual-keys/<id>/<act>/: one action, answered with the key."""

    needs: ClassVar = {"POST": Action.MANAGE_KEYS}
    act: ClassVar[Any]

    @extend_schema(request=None, responses=shapes.VirtualKeyShown)
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        row = type(self).act(workspace=self.workspace, by=self.actor, key_id=key_id)
        return Response(shapes.VirtualKeyShown(row).data)


class RevokeVirtualKey(_KeyAct):
    act: ClassVar = staticmethod(actions.revoke_virtual_key)


class PauseVirtualKey(_KeyAct):
    """Refuse the key's calls from the next one on, until it is resumed."""

    act: ClassVar = staticmethod(actions.pause_virtual_key)


class ResumeVirtualKey(_KeyAct):
    """Let a paused key's calls through again."""

    act: ClassVar = staticmethod(actions.resume_virtual_key)


class RotateVirtualKey(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(
        operation_id="virtual_keys_rotate", request=shapes.VirtualKeyRotation, responses={201: shapes.VirtualKeyMade}
    )
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        wanted = shapes.VirtualKeyRotation.read(request)
        return _key_made(actions.rotate_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id, **wanted))


class ApiTokens(WorkspaceAPIView):
    """One's own tokens. A token can make another one, never one with a scope it lacks or a longer life than its own."""

    needs: ClassVar = {"GET": Action.MANAGE_TOKENS, "POST": Action.MANAGE_TOKENS}

    @extend_schema(operation_id="api_tokens_list", responses=listed(shapes.ApiTokenShown))
    def get(self, request: Request, slug: str) -> Response:
        rows = ApiToken.objects.select_related("user").filter(workspace=self.workspace, user=self.membership.user)
        return paged(request, rows, lambda row: shapes.ApiTokenShown(row).data)

    @extend_schema(
        operation_id="api_tokens_create", request=shapes.ApiTokenWanted, responses={201: shapes.ApiTokenMade}
    )
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.ApiTokenWanted.read(request)
        beyond = set(wanted["scopes"]) - set(self.token.scopes)
        if beyond:
            raise NotAllowed(f"This token lacks the scope “{min(beyond)}” itself.")
        ends = self.token.expires_at
        if ends is not None:
            wanted.setdefault("expires_at", ends)
            if wanted["expires_at"] is None or wanted["expires_at"] > ends:
                raise NotAllowed(
                    "This token ends earlier itself.", hint=f"Ask for one until {ends.isoformat()} at most."
                )
        minted = actions.create_api_token(workspace=self.workspace, by=self.actor, membership=self.membership, **wanted)
        return Response({**shapes.ApiTokenShown(minted.row).data, "api_token": minted.text}, status=201)


class RevokeApiToken(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_TOKENS}

    @extend_schema(operation_id="api_tokens_revoke", request=None, responses={204: None})
    def post(self, request: Request, slug: str, token_id: UUID) -> Response:
        actions.revoke_api_token(workspace=self.workspace, by=self.actor, token_id=token_id)
        return Response(status=204)

"""The REST API of workspaces: thin translations around one action or query each. What each method needs stands in `needs`."""

from __future__ import annotations

from typing import Any, ClassVar, cast
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from workspaces import actions, narrowing, throttles
from workspaces import api_shapes as shapes
from workspaces.audit import Actor
from workspaces.directory.models import Agent, Department
from workspaces.errors import NotAllowed, NotThere
from workspaces.models import ApiToken, Membership, User, VirtualKey, Workspace, WorkspaceState
from workspaces.permissions import HoldsToken
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action, Scope
from workspaces.routes.models import Alias
from workspaces.vault.models import ProviderCredential


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


# --- Virtual keys -----------------------------------------------------------------------------------------------------
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
        row = _keys_of(self.workspace).filter(pk=key_id).first()
        if row is None:
            raise NotThere("There is no such key in this workspace.")
        return Response(shapes.VirtualKeyShown(row).data)

    @extend_schema(
        operation_id="virtual_keys_change", request=shapes.VirtualKeyWanted, responses=shapes.VirtualKeyShown
    )
    def patch(self, request: Request, slug: str, key_id: UUID) -> Response:
        changes = shapes.VirtualKeyWanted.read(request, partial=True)
        row = actions.change_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id, **changes)
        return Response(shapes.VirtualKeyShown(row).data)


class RevokeVirtualKey(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(operation_id="virtual_keys_revoke", request=None, responses=shapes.VirtualKeyShown)
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        row = actions.revoke_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id)
        return Response(shapes.VirtualKeyShown(row).data)


class PauseVirtualKey(WorkspaceAPIView):
    """Refuse the key's calls from the next one on, until it is resumed."""

    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(operation_id="virtual_keys_pause", request=None, responses=shapes.VirtualKeyShown)
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        row = actions.pause_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id)
        return Response(shapes.VirtualKeyShown(row).data)


class ResumeVirtualKey(WorkspaceAPIView):
    """Let a paused key's calls through again."""

    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(operation_id="virtual_keys_resume", request=None, responses=shapes.VirtualKeyShown)
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        row = actions.resume_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id)
        return Response(shapes.VirtualKeyShown(row).data)


class RotateVirtualKey(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(
        operation_id="virtual_keys_rotate", request=shapes.VirtualKeyRotation, responses={201: shapes.VirtualKeyMade}
    )
    def post(self, request: Request, slug: str, key_id: UUID) -> Response:
        wanted = shapes.VirtualKeyRotation.read(request)
        return _key_made(actions.rotate_virtual_key(workspace=self.workspace, by=self.actor, key_id=key_id, **wanted))


# --- Provider credentials ---------------------------------------------------------------------------------------------
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
        row = ProviderCredential.objects.filter(pk=credential_id).first()
        if row is None:
            raise NotThere("There is no such credential in this workspace.")
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


# --- Routes ----------------------------------------------------------------------------------------------------------
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
        row = Alias.objects.filter(pk=alias_id).first()
        if row is None:
            raise NotThere("There is no such alias in this workspace.")
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


# --- Tokens, directory ---------------------------------------------------------------------------------
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

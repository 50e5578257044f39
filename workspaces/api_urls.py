"""Addresses of the REST API of workspaces, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from workspaces import api, audit_api, credential_api, directory_api, key_api, people_api, reference, route_api

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path("schema/", reference.SchemaDocument.as_view(), name="api-schema"),
    path("workspaces/", api.Workspaces.as_view()),
    path(_W, api.OneWorkspace.as_view()),
    path(_W + "display/", api.Display.as_view()),
    path(_W + "delete/", api.DeleteWorkspace.as_view()),
    path(_W + "virtual-keys/", key_api.VirtualKeys.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/", key_api.OneVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/pause/", key_api.PauseVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/resume/", key_api.ResumeVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/revoke/", key_api.RevokeVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/rotate/", key_api.RotateVirtualKey.as_view()),
    path(_W + "credentials/", credential_api.Credentials.as_view()),
    path(_W + "credentials/<uuid:credential_id>/", credential_api.OneCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/verify/", credential_api.VerifyCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/rotate/", credential_api.RotateCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/disable/", credential_api.DisableCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/enable/", credential_api.EnableCredential.as_view()),
    path(_W + "aliases/", route_api.Aliases.as_view()),
    path(_W + "aliases/<uuid:alias_id>/", route_api.OneAlias.as_view()),
    path(_W + "routing/", route_api.Routing.as_view()),
    path(_W + "members/", people_api.Members.as_view()),
    path(_W + "members/<uuid:membership_id>/", people_api.OneMember.as_view()),
    path(_W + "invitations/", people_api.Invitations.as_view()),
    path(_W + "invitations/<uuid:invitation_id>/", people_api.OneInvitation.as_view()),
    path(_W + "api-tokens/", key_api.ApiTokens.as_view()),
    path(_W + "api-tokens/<uuid:token_id>/revoke/", key_api.RevokeApiToken.as_view()),
    path(_W + "departments/", directory_api.Departments.as_view()),
    path(_W + "departments/<uuid:department_id>/", directory_api.OneDepartment.as_view()),
    path(_W + "agents/", directory_api.Agents.as_view()),
    path(_W + "agents/<uuid:agent_id>/", directory_api.OneAgent.as_view()),
    path(_W + "audit/", audit_api.AuditLog.as_view()),
    path(_W + "audit/export/", audit_api.AuditExport.as_view()),
]

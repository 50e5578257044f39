"""Addresses of the REST API of workspaces, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from workspaces import api, audit_api, people_api, reference

_W = "workspaces/<slug:slug>/"

urlpatterns = [
    path("schema/", reference.SchemaDocument.as_view(), name="api-schema"),
    path("workspaces/", api.Workspaces.as_view()),
    path(_W, api.OneWorkspace.as_view()),
    path(_W + "display/", api.Display.as_view()),
    path(_W + "delete/", api.DeleteWorkspace.as_view()),
    path(_W + "virtual-keys/", api.VirtualKeys.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/", api.OneVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/pause/", api.PauseVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/resume/", api.ResumeVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/revoke/", api.RevokeVirtualKey.as_view()),
    path(_W + "virtual-keys/<uuid:key_id>/rotate/", api.RotateVirtualKey.as_view()),
    path(_W + "credentials/", api.Credentials.as_view()),
    path(_W + "credentials/<uuid:credential_id>/", api.OneCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/verify/", api.VerifyCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/rotate/", api.RotateCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/disable/", api.DisableCredential.as_view()),
    path(_W + "credentials/<uuid:credential_id>/enable/", api.EnableCredential.as_view()),
    path(_W + "aliases/", api.Aliases.as_view()),
    path(_W + "aliases/<uuid:alias_id>/", api.OneAlias.as_view()),
    path(_W + "routing/", api.Routing.as_view()),
    path(_W + "members/", people_api.Members.as_view()),
    path(_W + "members/<uuid:membership_id>/", people_api.OneMember.as_view()),
    path(_W + "invitations/", people_api.Invitations.as_view()),
    path(_W + "invitations/<uuid:invitation_id>/", people_api.OneInvitation.as_view()),
    path(_W + "api-tokens/", api.ApiTokens.as_view()),
    path(_W + "api-tokens/<uuid:token_id>/revoke/", api.RevokeApiToken.as_view()),
    path(_W + "departments/", api.Departments.as_view()),
    path(_W + "departments/<uuid:department_id>/", api.OneDepartment.as_view()),
    path(_W + "agents/", api.Agents.as_view()),
    path(_W + "agents/<uuid:agent_id>/", api.OneAgent.as_view()),
    path(_W + "audit/", audit_api.AuditLog.as_view()),
    path(_W + "audit/export/", audit_api.AuditExport.as_view()),
]

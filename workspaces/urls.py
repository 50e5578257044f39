"""Pages of workspaces: outside any workspace (`entrance`), and under `/w/<slug>/` (`inside`)."""

from __future__ import annotations

from django.urls import URLPattern, path

from workspaces.views import (
    audit_log,
    directory,
    people,
    preferences,
    reference,
    routes,
    test_call,
    tokens,
    vault,
    virtual_keys,
)
from workspaces.views import entrance as outside

entrance: list[URLPattern] = [
    path("", outside.home, name="home"),
    path("workspaces/new/", outside.workspace_new, name="workspace_new"),
    path("invitations/<str:token>/", outside.invitation, name="invitation"),
    path("reference/", reference.reference, name="api_reference"),
    path("reference/<slug:group>/", reference.reference_group, name="api_reference_group"),
    path("account/", outside.profile, name="profile"),
]

inside: list[URLPattern] = [
    path("connect/", virtual_keys.connect, name="connect"),
    path("test-call/", test_call.test_call, name="test_call"),
    path("keys/", virtual_keys.keys, name="keys"),
    path("keys/new/", virtual_keys.key_new, name="key_new"),
    path("keys/<uuid:key_id>/", virtual_keys.key, name="key"),
    path("keys/<uuid:key_id>/rotate/", virtual_keys.key_rotate, name="key_rotate"),
    path("keys/<uuid:key_id>/pause/", virtual_keys.key_pause, name="key_pause"),
    path("keys/<uuid:key_id>/revoke/", virtual_keys.key_revoke, name="key_revoke"),
    path("vault/", vault.vault, name="vault"),
    path("vault/new/", vault.credential_new, name="credential_new"),
    path("vault/<uuid:credential_id>/check/", vault.credential_check, name="credential_check"),
    path("vault/<uuid:credential_id>/rotate/", vault.credential_rotate, name="credential_rotate"),
    path("vault/<uuid:credential_id>/disable/", vault.credential_disable, name="credential_disable"),
    path("vault/<uuid:credential_id>/enable/", vault.credential_enable, name="credential_enable"),
    path("vault/<uuid:credential_id>/delete/", vault.credential_delete, name="credential_delete"),
    path("vault/aliases/new/", routes.alias_new, name="alias_new"),
    path("vault/aliases/<uuid:alias_id>/", routes.alias_edit, name="alias_edit"),
    path("vault/aliases/<uuid:alias_id>/delete/", routes.alias_delete, name="alias_delete"),
    path("vault/fallbacks/", routes.fallbacks, name="fallbacks"),
    path("members/", people.members, name="members"),
    path("members/invite/", people.member_invite, name="member_invite"),
    path("members/<uuid:membership_id>/role/", people.member_role, name="member_role"),
    path("members/<uuid:membership_id>/department/", people.member_department, name="member_department"),
    path("members/<uuid:membership_id>/remove/", people.member_remove, name="member_remove"),
    path("members/invitations/<uuid:invitation_id>/withdraw/", people.invitation_withdraw, name="invitation_withdraw"),
    path("directory/", directory.directory, name="directory"),
    path("directory/departments/new/", directory.department_new, name="department_new"),
    path("directory/departments/<uuid:department_id>/remove/", directory.department_remove, name="department_remove"),
    path("directory/agents/new/", directory.agent_new, name="agent_new"),
    path("directory/agents/<uuid:agent_id>/remove/", directory.agent_remove, name="agent_remove"),
    path("audit/", audit_log.audit, name="audit"),
    path("audit/export/", audit_log.audit_export, name="audit_export"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<uuid:token_id>/revoke/", tokens.token_revoke, name="token_revoke"),
    path("settings/", preferences.preferences, name="settings"),
    path("settings/display/", preferences.workspace_display, name="workspace_display"),
    path("settings/delete/", preferences.workspace_delete, name="workspace_delete"),
]

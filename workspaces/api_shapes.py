"""The bodies and answers of the REST API of workspaces. No answer holds a secret but the one that makes it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workspaces.actions.virtual_keys import PINNABLE
from workspaces.models import ApiToken, AuditRecord, Membership, Role, VirtualKey, Workspace
from workspaces.rest import Strict
from workspaces.roles import Scope
from workspaces.vault.models import ProviderCredential


class WorkspaceShown(serializers.ModelSerializer[Workspace]):
    class Meta:
        model = Workspace
        fields = ["slug", "name", "time_zone", "plan", "state", "created_at"]
        read_only_fields = fields


class WorkspaceChange(Strict):
    name = serializers.CharField(max_length=80, required=False)
    time_zone = serializers.CharField(max_length=64, required=False)


class VirtualKeyShown(serializers.ModelSerializer[VirtualKey]):
    member = serializers.EmailField(source="member.user.email", default=None, allow_null=True)
    member_id = serializers.UUIDField(allow_null=True)
    prefix = serializers.SerializerMethodField(
        help_text="The public part, as it stands in logs: `slk_` and the locator."
    )

    class Meta:
        model = VirtualKey
        fields = [
            "id", "name", "prefix", "last_four", "environment", "member", "member_id", "agent", "department", "may_override",
            "allowed_models", "output_limit", "created_at", "expires_at", "revoked_at", "last_used_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_prefix(self, key: VirtualKey) -> str:
        return f"slk_{key.locator}"


class VirtualKeyMade(VirtualKeyShown):
    virtual_key = serializers.CharField(help_text="The key itself, in this answer and never again.")

    class Meta(VirtualKeyShown.Meta):
        fields = [*VirtualKeyShown.Meta.fields, "virtual_key"]
        read_only_fields = fields


class VirtualKeyWanted(Strict):
    name = serializers.CharField(max_length=80)
    environment = serializers.CharField(max_length=32, required=False)
    member_id = serializers.UUIDField(required=False, allow_null=True)
    agent = serializers.CharField(max_length=80, required=False, allow_blank=True)
    department = serializers.CharField(max_length=80, required=False, allow_blank=True)
    may_override = serializers.ListField(
        child=serializers.ChoiceField(PINNABLE), max_length=len(PINNABLE), required=False
    )
    allowed_models = serializers.ListField(child=serializers.CharField(max_length=200), max_length=200, required=False)
    output_limit = serializers.IntegerField(min_value=1, max_value=10_000_000, required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class VirtualKeyRotation(Strict):
    grace = serializers.DurationField(
        required=False, help_text="How long the old key stays valid, e.g. `1 00:00:00`; default: not at all."
    )


_SETTINGS = (
    "What a provider needs beside the key. azure: `resource`, `deployments`, `api_version`; bedrock: `region`; "
    "vertex: `project`, `location`."
)


class CredentialShown(serializers.ModelSerializer[ProviderCredential]):
    class Meta:
        model = ProviderCredential
        fields = [
            "id", "provider", "name", "base_url", "settings", "environment", "last_four", "state", "check_message", "checked_at",
            "disabled_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class CredentialWanted(Strict):
    provider = serializers.CharField(max_length=32)
    secret = serializers.CharField(max_length=8192, allow_blank=True, write_only=True, required=False)
    name = serializers.CharField(max_length=80, required=False)
    base_url = serializers.CharField(max_length=300, required=False, allow_blank=True)
    environment = serializers.CharField(max_length=32, required=False, allow_blank=True)
    settings = serializers.DictField(
        child=serializers.CharField(max_length=2000, allow_blank=True),
        required=False,
        source="access_settings",
        help_text=_SETTINGS,
    )
    verify = serializers.BooleanField(required=False)


class CredentialRotation(Strict):
    secret = serializers.CharField(max_length=8192, write_only=True)
    settings = serializers.DictField(
        child=serializers.CharField(max_length=2000, allow_blank=True),
        required=False,
        source="access_settings",
        help_text=f"{_SETTINGS} Absent: as they were.",
    )
    verify = serializers.BooleanField(required=False)


class MemberShown(serializers.ModelSerializer[Membership]):
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ["id", "email", "name", "role", "department_id", "created_at"]
        read_only_fields = fields


class InvitationWanted(Strict):
    email = serializers.EmailField()
    role = serializers.ChoiceField(Role.choices)


class InvitationShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.CharField()
    expires_at = serializers.DateTimeField()


class ApiTokenShown(serializers.ModelSerializer[ApiToken]):
    user = serializers.EmailField(source="user.email")

    class Meta:
        model = ApiToken
        fields = ["id", "name", "user", "last_four", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
        read_only_fields = fields


class ApiTokenMade(ApiTokenShown):
    api_token = serializers.CharField(help_text="The token itself, in this answer and never again.")

    class Meta(ApiTokenShown.Meta):
        fields = [*ApiTokenShown.Meta.fields, "api_token"]
        read_only_fields = fields


class ApiTokenWanted(Strict):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=serializers.ChoiceField([scope.value for scope in Scope]), min_length=1, max_length=len(Scope)
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class NamedWanted(Strict):
    name = serializers.CharField(max_length=80)


class NamedShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class AgentWanted(NamedWanted):
    department_id = serializers.UUIDField(required=False, allow_null=True)


class AgentShown(NamedShown):
    department_id = serializers.UUIDField(allow_null=True)


class AuditRecordShown(serializers.ModelSerializer[AuditRecord]):
    hash = serializers.SerializerMethodField()

    class Meta:
        model = AuditRecord
        fields = ["number", "at", "actor", "address", "action", "target", "before", "after", "hash"]
        read_only_fields = fields

    def get_hash(self, record: AuditRecord) -> str:
        return bytes(record.hash).hex()

"""The bodies and answers of the REST API of workspaces. No answer holds a secret but the one that makes it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workspaces.actions.virtual_keys import PINNABLE
from workspaces.domain import routes
from workspaces.models import ApiToken, AuditRecord, Membership, Role, VirtualKey, Workspace
from workspaces.rest import Strict
from workspaces.roles import Scope
from workspaces.routes.models import Alias, HopRules
from workspaces.vault.models import ProviderCredential

CONDITIONS = [condition.value for condition in routes.Condition]


class WorkspaceShown(serializers.ModelSerializer[Workspace]):
    class Meta:
        model = Workspace
        fields = ["slug", "name", "time_zone", "plan", "state", "created_at"]
        read_only_fields = fields


class WorkspaceWanted(Strict):
    slug = serializers.CharField(max_length=63, help_text="Its address: small letters, digits and hyphens.")
    name = serializers.CharField(max_length=80)
    time_zone = serializers.CharField(max_length=64, required=False, help_text="Default: UTC.")


class WorkspaceMade(WorkspaceShown):
    api_token = serializers.CharField(
        help_text="A token for it, with the scopes and the expiry of the one that asked; in this answer and never again."
    )

    class Meta(WorkspaceShown.Meta):
        fields = [*WorkspaceShown.Meta.fields, "api_token"]
        read_only_fields = fields


class WorkspaceChange(Strict):
    name = serializers.CharField(max_length=80, required=False)
    time_zone = serializers.CharField(max_length=64, required=False)


class DisplayShown(serializers.Serializer[Any]):
    currency = serializers.CharField(
        source="display_currency", help_text="In which pages show amounts; the API is in dollars."
    )
    rate = serializers.CharField(
        source="display_rate", allow_null=True, help_text="Of that currency a dollar; null with dollars."
    )
    calls_shown_days = serializers.IntegerField(
        allow_null=True, help_text="How long single calls are kept; null: for good."
    )


class DisplayWanted(Strict):
    currency = serializers.CharField(max_length=3, help_text="ISO 4217, e.g. `EUR`.")
    rate = serializers.CharField(max_length=24, required=False, allow_blank=True, help_text="Not for dollars.")
    calls_shown_days = serializers.IntegerField(
        min_value=1,
        allow_null=True,
        help_text="Older calls are out of sight at once, and deleted from a day later on (but for the running month). Sums stay.",
    )


class WorkspaceDeletion(Strict):
    typed_slug = serializers.CharField(max_length=63, help_text="The workspace's address once more, typed, not copied.")


class VirtualKeyShown(serializers.ModelSerializer[VirtualKey]):
    member = serializers.EmailField(source="member.user.email", default=None, allow_null=True)
    member_id = serializers.UUIDField(allow_null=True)
    prefix = serializers.SerializerMethodField(
        help_text="The public part, as it stands in logs: `slk_` and the locator."
    )
    credential_ids = serializers.SerializerMethodField(
        help_text="The only credentials its calls use, of each provider that has one among them."
    )

    class Meta:
        model = VirtualKey
        fields = [
            "id", "name", "prefix", "last_four", "environment", "member", "member_id", "agent", "department", "may_override",
            "allowed_models", "output_limit", "credential_ids", "created_at", "expires_at", "revoked_at", "paused_at",
            "last_used_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_prefix(self, key: VirtualKey) -> str:
        return f"slk_{key.locator}"

    def get_credential_ids(self, key: VirtualKey) -> list[str]:
        return [credential_id for ids in key.credentials.values() for credential_id in ids]


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
    credential_ids = serializers.ListField(child=serializers.UUIDField(), max_length=20, required=False)


class LengthField(serializers.DurationField):
    """A length of time as text. As a number it would be seconds to one reader and days to another."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise serializers.ValidationError("Write a length of time as text, like “1 00:00:00” for a day.")
        return super().to_internal_value(value)


class VirtualKeyRotation(Strict):
    grace = LengthField(
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
            "id", "provider", "name", "base_url", "settings", "environment", "priority", "weight", "timeouts", "last_four", "state",
            "check_message", "checked_at", "disabled_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class Timeouts(Strict):
    """Time limits in seconds, in place of the gateway's own."""

    connect_s = serializers.FloatField(required=False, allow_null=True)
    first_byte_s = serializers.FloatField(required=False, allow_null=True)
    idle_s = serializers.FloatField(required=False, allow_null=True)
    total_s = serializers.FloatField(required=False, allow_null=True)


class CredentialChange(Strict):
    name = serializers.CharField(max_length=80, required=False)
    environment = serializers.CharField(max_length=32, required=False, allow_blank=True)
    priority = serializers.IntegerField(
        min_value=0, max_value=routes.MOST_PRIORITY, required=False, help_text="The lowest number goes first."
    )
    weight = serializers.IntegerField(
        min_value=1, max_value=routes.MOST_WEIGHT, required=False, help_text="The share of calls within a priority."
    )
    timeouts = Timeouts(required=False)


class CredentialWanted(CredentialChange):
    provider = serializers.CharField(max_length=32)
    secret = serializers.CharField(max_length=8192, allow_blank=True, write_only=True, required=False)
    base_url = serializers.CharField(max_length=300, required=False, allow_blank=True)
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


class TargetShown(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    credential = serializers.CharField(allow_null=True)


class AliasShown(serializers.ModelSerializer[Alias]):
    targets = TargetShown(many=True)
    fallback_on = serializers.ListField(child=serializers.ChoiceField(CONDITIONS))

    class Meta:
        model = Alias
        fields = ["id", "name", "targets", "fallback_on", "created_by", "created_at", "updated_at"]
        read_only_fields = fields


class AliasWanted(Strict):
    name = serializers.CharField(max_length=100, help_text="No slash. The name of a model is allowed.")
    targets = serializers.ListField(
        child=serializers.JSONField(),
        min_length=1,
        max_length=routes.MOST_TARGETS,
        help_text='In the order of preference: `"provider/model"`, or `{"provider", "model", "credential": id}`.',
    )
    fallback_on = serializers.ListField(
        child=serializers.ChoiceField(CONDITIONS),
        max_length=len(CONDITIONS),
        required=False,
        help_text="When the next target is tried. `no_answer` is not among the defaults: it may pay twice.",
    )


class HopRulesShown(serializers.ModelSerializer[HopRules]):
    fallback_on = serializers.ListField(child=serializers.ChoiceField(CONDITIONS))

    class Meta:
        model = HopRules
        fields = ["retries", "pause_ms", "max_wait_ms", "fallback_on"]
        read_only_fields = fields


class HopRulesChange(Strict):
    retries = serializers.IntegerField(min_value=0, max_value=routes.MOST_RETRIES, required=False)
    pause_ms = serializers.IntegerField(
        min_value=0,
        max_value=routes.LONGEST_PAUSE_MS,
        required=False,
        help_text="Before the first repetition; doubled for each further one.",
    )
    max_wait_ms = serializers.IntegerField(
        min_value=0,
        max_value=routes.LONGEST_WAIT_MS,
        required=False,
        help_text="The longest Retry-After of a provider that is waited for; a longer one is passed to the client.",
    )
    fallback_on = serializers.ListField(
        child=serializers.ChoiceField(CONDITIONS), max_length=len(CONDITIONS), required=False
    )


class MemberShown(serializers.ModelSerializer[Membership]):
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ["id", "email", "name", "role", "department_id", "created_at"]
        read_only_fields = fields


class MemberChange(Strict):
    role = serializers.ChoiceField(Role.choices, required=False)
    department_id = serializers.UUIDField(required=False, allow_null=True)


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

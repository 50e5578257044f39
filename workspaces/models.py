"""The shared schema: tenants, people, memberships, virtual keys, API tokens, audit. A key must be found before its tenant is known."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Cast, Concat, Lower
from django.utils import timezone
from django_tenants.models import TenantMixin

from workspaces.ids import uuid7


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person, known by e-mail address across workspaces."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=100, blank=True)
    time_zone = models.CharField(max_length=64, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects = UserManager()
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email


class WorkspaceState(models.TextChoices):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"


class Plan(models.TextChoices):
    FREE = "free"
    PRO = "pro"
    TEAM = "team"


class Workspace(TenantMixin):
    """The tenant: one PostgreSQL schema (`w_<id>`), one policy, one bill."""

    auto_create_schema = False  # workspaces.actions makes it, in the transaction that makes the row

    id = models.BigAutoField(primary_key=True)
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    time_zone = models.CharField(max_length=64, default="UTC")
    plan = models.CharField(max_length=8, choices=Plan, default=Plan.FREE)
    state = models.CharField(max_length=10, choices=WorkspaceState, default=WorkspaceState.ACTIVE)
    policy_version = models.BigIntegerField(default=1)
    """Raised by every write that admission must see (a key, a cap, a price, a credential). Fenced in each admit."""
    policy_pushed = models.BigIntegerField(default=0)
    """The version last known to have reached the money Redis; a periodic task repairs lost pushes."""
    admission_epoch = models.BigIntegerField(default=0)
    """How often the workspace's counters in the money Redis were seeded from the books (`guardrails.recovery`); fenced in each admit."""
    fingerprints = models.BooleanField(default=True)
    """Whether calls carry a keyed hash of what was asked, by which repeated questions are found. False: none is computed."""
    schema_version = models.CharField(max_length=64, blank=True)
    """Digest of the migrations applied to the schema, so that only schemas that are behind are visited."""
    display_currency = models.CharField(max_length=3, default="USD")
    """In which currency pages show amounts (ISO 4217). The books, budgets, exports and the API are in dollars whatever stands here."""
    display_rate = models.DecimalField(max_digits=18, decimal_places=9, null=True)
    """Units of that currency a dollar, as somebody entered it; null with dollars."""
    display_rate_at = models.DateTimeField(null=True)
    """When it was entered."""
    calls_shown_days = models.IntegerField(null=True)
    """How long a single call can be looked at or exported, and how long its lines stay in the ledger (`billing.ledger.forgetting`); null: for
    good. Sums are not concerned."""
    calls_shown_set_at = models.DateTimeField(null=True)
    """When that was set: nothing is deleted for a day."""
    calls_forgotten_on = models.DateField(null=True)
    """The first day (of the workspace's calendar) whose lines were not deleted; null: none were."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(
                fields=["calls_forgotten_on"],
                name="workspace_forgets_calls",
                condition=models.Q(calls_shown_days__isnull=False),
            )
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(plan__in=Plan.values), name="workspace_plan_known"),
            models.CheckConstraint(condition=models.Q(state__in=WorkspaceState.values), name="workspace_state_known"),
            models.CheckConstraint(
                condition=models.Q(display_currency="USD", display_rate__isnull=True)
                | (~models.Q(display_currency="USD") & models.Q(display_rate__gt=0, display_rate_at__isnull=False)),
                name="workspace_display_has_a_rate",
            ),
            models.CheckConstraint(
                condition=models.Q(calls_shown_days__isnull=True) | models.Q(calls_shown_days__gte=1),
                name="workspace_calls_shown_for_days",
            ),
            models.CheckConstraint(
                condition=models.Q(slug__regex=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), name="workspace_slug_plain"
            ),
            models.CheckConstraint(  # row-level security reads the workspace's id from this name
                condition=models.Q(
                    schema_name=Concat(
                        models.Value("w_"), Cast("id", models.TextField()), output_field=models.TextField()
                    )
                ),
                name="workspace_schema_named_by_id",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"
    BILLING = "billing"
    LEAD = "lead"
    """Of a department: sees that department's spend, calls and members, and no other's (`workspaces.narrowing`)."""


class Membership(models.Model):
    """A person in a workspace."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role)
    department_id = models.UUIDField(null=True, blank=True)
    """A Department of the workspace's own schema, hence no foreign key."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace}"


class Invitation(models.Model):
    """An offer of a role to an e-mail address. Only a digest of its link's token is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=8, choices=Role)
    digest = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "workspace",
                Lower("email"),
                condition=models.Q(accepted_at=None, withdrawn_at=None),
                name="invitation_open_once",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="invitation_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.workspace}"


class VirtualKey(models.Model):
    """What the application holds instead of the provider's key. Only a peppered digest of its secret is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="virtual_keys")
    locator = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32)
    pepper_version = models.PositiveSmallIntegerField(default=1)
    last_four = models.CharField(max_length=4)
    name = models.CharField(max_length=80)
    environment = models.CharField(max_length=32, default="production")
    member = models.ForeignKey(
        Membership, null=True, blank=True, on_delete=models.SET_NULL, related_name="virtual_keys"
    )
    agent = models.CharField(max_length=80, blank=True)
    department = models.CharField(max_length=80, blank=True)
    may_override = models.JSONField(default=list, blank=True)
    """Pinned dimensions (member, agent, department, environment) that a call's headers may override all the same."""
    allowed_models = models.JSONField(default=list, blank=True)
    """Model names and aliases the key may call; empty: all."""
    credentials: models.JSONField[dict[str, list[str]], dict[str, list[str]]] = models.JSONField(
        default=dict, blank=True
    )
    """Provider -> ids of the only credentials its calls may use there. A provider that is not named: any of the workspace's."""
    output_limit = models.PositiveIntegerField(null=True, blank=True)
    """Output tokens asked for where the client sets no limit of its own."""
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    """Since when its calls are refused until somebody resumes it."""
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["workspace", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.name} (…{self.last_four})"


class ApiToken(models.Model):
    """A token of the REST API. It acts as its maker in one workspace and never with more than the maker's role."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="api_tokens")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    locator = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32)
    pepper_version = models.PositiveSmallIntegerField(default=1)
    last_four = models.CharField(max_length=4)
    name = models.CharField(max_length=80)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} (…{self.last_four})"


class IdempotentAnswer(models.Model):
    """What a POST with an Idempotency-Key was answered, for a day (`workspaces.idempotency`). The answer may hold a secret that is shown
    once, so it is sealed under a key that only the caller's own Idempotency-Key and the pepper give."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="+")
    key = models.BinaryField(max_length=32)
    request = models.BinaryField(max_length=32)
    """Digest of method, address and body: the same key for something else is a mistake."""
    status = models.SmallIntegerField(default=0)
    sealed = models.BinaryField(default=b"")
    made_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["made_at"], name="idempotent_answer_age")]
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="idempotent_answer_once")]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.status}"


class AuditRecord(models.Model):
    """One act of somebody in a workspace. Append-only (triggers), chained by hash per workspace."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    number = models.BigIntegerField()
    """1, 2, 3 ... per workspace, without a gap."""
    at = models.DateTimeField()
    actor = models.CharField(max_length=254)
    address = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=160)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    previous_hash = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace_id", "number"], name="audit_number_once")]

    def __str__(self) -> str:
        return f"{self.workspace_id}#{self.number} {self.action}"


class SchemaScript(models.Model):
    """The statements that make a workspace's tables from nothing, for one version of the migrations (`workspaces.schemas`)."""

    version = models.CharField(primary_key=True, max_length=64)
    statements = models.TextField()
    made_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.version

"""Notices and their deliveries; who wants to hear what, and where. Shared tables, row-level security forced (migrations)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from workspaces.ids import uuid7


class Kind(models.TextChoices):
    THRESHOLD = "threshold"
    """A percent of a cap that its budget's list names."""
    THROTTLED = "throttled"
    """Calls on a budget are slowed down."""
    STOPPED = "stopped"
    """Calls on a budget are refused."""
    NORMAL = "normal"
    """A slowed or stopped budget lets calls through again."""
    SPEND_ALERT = "spend_alert"
    """The Monthly Spend Alert: the month is on its way past a line."""
    DIGEST = "digest"
    """The week in numbers."""
    UNKNOWN_USAGE = "unknown_usage"
    """A provider's answer states usage that nobody has taught us."""
    TEST = "test"


class Severity(models.TextChoices):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Notice(models.Model):
    """One thing that happened, told once: `key` is the lock."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=16)
    """A `Kind`; detectors may add their own."""
    severity = models.CharField(max_length=8, choices=Severity)
    key = models.CharField(max_length=300)
    """What makes it this one thing: kind, counter, threshold, cap ..."""
    title = models.CharField(max_length=240)
    """One line without control characters: it becomes a subject."""
    facts = models.JSONField()
    """What mail, page and webhook say, as it was then; see `guardrails.signals.facts`."""
    budget_id = models.UUIDField(null=True)
    at = models.DateTimeField()
    """When it happened."""
    made_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True)
    archived_by = models.CharField(max_length=254, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "key"], name="notice_once"),
            models.CheckConstraint(condition=Q(severity__in=Severity.values), name="notice_severity_known"),
        ]
        indexes = [
            models.Index(fields=["workspace_id", "-id"], name="notice_newest"),
            models.Index(fields=["workspace_id", "budget_id", "-made_at"], name="notice_by_budget"),
        ]

    def __str__(self) -> str:
        return self.title


class EndpointKind(models.TextChoices):
    WEBHOOK = "webhook"
    SLACK = "slack"


class Endpoint(models.Model):
    """Where notices are posted. What is secret of it (signing secret, Slack's address) is in the vault under its id."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=7, choices=EndpointKind)
    name = models.CharField(max_length=80)
    url = models.CharField(max_length=500)
    """A webhook's address; of Slack's only as much as may be shown."""
    kinds = ArrayField(models.CharField(max_length=16), default=list)
    """Kinds of notices it gets; empty: all."""
    paused_at = models.DateTimeField(null=True)
    paused_why = models.CharField(max_length=200, blank=True)
    failing_since = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "name"], name="endpoint_name_once"),
            models.CheckConstraint(condition=Q(kind__in=EndpointKind.values), name="endpoint_kind_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Channel(models.TextChoices):
    MAIL = "mail"
    DAILY = "daily"
    """A mail with what a person collected over a day."""
    WEBHOOK = "webhook"
    SLACK = "slack"


class DeliveryState(models.TextChoices):
    WAITING = "waiting"
    COLLECTED = "collected"
    """Goes with the person's next daily mail."""
    SENT = "sent"
    FAILED = "failed"
    """Given up: refused for good, or tried for long enough."""
    SKIPPED = "skipped"
    """Not wanted any more, or the address is not verified."""
    UNCERTAIN = "uncertain"
    """The sender died twice in the middle of it: once more could be a third copy."""


class Delivery(models.Model):
    """One notice on its way to one person or endpoint. `uid` is made from what it is, so it exists once and its Message-ID is always the same."""

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(unique=True)
    workspace_id = models.BigIntegerField()
    notice = models.ForeignKey(Notice, null=True, on_delete=models.CASCADE, related_name="deliveries")
    """Null for a daily mail."""
    channel = models.CharField(max_length=7, choices=Channel)
    user_id = models.UUIDField(null=True)
    endpoint = models.ForeignKey(Endpoint, null=True, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=9, choices=DeliveryState, default=DeliveryState.WAITING)
    made_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    began_at = models.DateTimeField(null=True)
    """When the present try reached the point from which it may have arrived; null before that and after its end."""
    tries = models.SmallIntegerField(default=0)
    doubts = models.SmallIntegerField(default=0)
    """Tries that began and whose end nobody noted."""
    ended_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=300, blank=True)
    """What the other side said last, or why it failed."""
    status = models.SmallIntegerField(null=True)
    """HTTP status of the last answer."""

    class Meta:
        indexes = [
            models.Index(fields=["channel", "due_at"], name="delivery_due", condition=Q(state="waiting")),
            models.Index(fields=["workspace_id", "endpoint", "-id"], name="delivery_of_endpoint"),
            models.Index(fields=["workspace_id", "user_id"], name="delivery_collected", condition=Q(state="collected")),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(condition=Q(channel__in=Channel.values), name="delivery_channel_known"),
            models.CheckConstraint(
                condition=Q(user_id__isnull=False, endpoint__isnull=True)
                | Q(user_id__isnull=True, endpoint__isnull=False),
                name="delivery_to_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.uid}"


class Pace(models.TextChoices):
    IMMEDIATE = "immediate"
    DAILY = "daily"
    OFF = "off"


class Preference(models.Model):
    """What one member of a workspace wants to hear by mail. Without a choice: the defaults of their role (`guardrails.signals.audience`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    user_id = models.UUIDField()
    mail = models.CharField(max_length=9, choices=Pace, default=Pace.IMMEDIATE)
    budgets = ArrayField(models.UUIDField(), null=True)
    """Null: every budget of which they are told."""
    weekly = models.BooleanField(default=True)
    quiet_from = models.SmallIntegerField(null=True)
    """Minutes after midnight on the person's clock; null: no quiet hours."""
    quiet_to = models.SmallIntegerField(null=True)
    wake_for_critical = models.BooleanField(default=True)
    chosen_at = models.DateTimeField(null=True)
    """Null: they only looked at the inbox, and hear what their role hears."""
    seen_id = models.UUIDField(null=True)
    """The newest notice they have looked at."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "user_id"], name="preference_once"),
            models.CheckConstraint(condition=Q(mail__in=Pace.values), name="preference_pace_known"),
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_to__isnull=True)
                | Q(quiet_from__gte=0, quiet_from__lt=1440, quiet_to__gte=0, quiet_to__lt=1440),
                name="preference_quiet_on_the_clock",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.workspace_id}"


class StageMark(models.Model):
    """A counter whose calls are slowed or refused, so that somebody hears when they are not any more."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    budget_id = models.UUIDField()
    counter = models.CharField(max_length=200)
    value = models.CharField(max_length=128, blank=True)
    stage = models.CharField(max_length=8)
    since = models.DateTimeField()
    look_at = models.DateTimeField()
    """When to look whether it is over: its period's end, or sooner."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace_id", "counter"], name="stage_mark_once")]
        indexes = [models.Index(fields=["look_at"], name="stage_mark_due")]

    def __str__(self) -> str:
        return f"{self.counter} {self.stage}"


class FullCounter(models.Model):
    """A counter on which calls are refused although its last percent is not spent: too little is left for their worst case."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    budget_id = models.UUIDField()
    counter = models.CharField(max_length=200)
    cap = models.BigIntegerField()
    """In force."""
    settled = models.BigIntegerField()
    at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "counter", "cap"], name="full_counter_once_a_cap")
        ]
        indexes = [models.Index(fields=["workspace_id"], name="full_counter_untold", condition=Q(told_at__isnull=True))]

    def __str__(self) -> str:
        return self.counter


class LookAhead(models.Model):
    """When a workspace's month was last looked ahead at, for its Monthly Spend Alert. Null: as soon as there is spend."""

    workspace_id = models.BigIntegerField(primary_key=True)
    looked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.looked_at}"

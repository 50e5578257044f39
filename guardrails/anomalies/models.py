"""Incidents, what was called expected, and how a workspace wants to be looked at. Shared tables, row-level security forced (migrations)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from guardrails.domain.anomalies.kinds import Kind, Response, Sensitivity
from workspaces.ids import uuid7

KINDS = [(kind.value, kind.value.replace("_", " ")) for kind in Kind]
RESPONSES = [(one.value, one.value.replace("_", " ")) for one in Response]
SENSITIVITIES = [(one.value, one.value) for one in Sensitivity]
LEAST_NANO = 5_000_000_000


class Feedback(models.TextChoices):
    NONE = ""
    EXPECTED = "expected"
    """It was meant to be: the next one like it is held against it."""
    CONFIRMED = "confirmed"
    """It was one, and somebody dealt with it."""


class Incident(models.Model):
    """One cause, from its first sign to its end."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=16, choices=KINDS)
    dimension = models.CharField(max_length=40, blank=True)
    """Of the driver; empty: the whole workspace."""
    value = models.CharField(max_length=128, blank=True)
    seen_dimension = models.CharField(max_length=40, blank=True)
    """Of the series that showed it, and that is watched for its end."""
    seen_value = models.CharField(max_length=128, blank=True)
    key_id = models.CharField(max_length=36, blank=True)
    """The virtual key that carries the driver's calls; empty where there are several."""
    by_minute = models.BooleanField(default=False)
    """Seen in minutes (loops, error storms); otherwise in hours or days."""
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    counted_to = models.DateTimeField(null=True)
    """By the minute: up to where cost and calls are added up."""
    cost_nano = models.BigIntegerField(default=0)
    """Above habit."""
    calls = models.BigIntegerField(default=0)
    observed = models.FloatField()
    """In the kind's measure: attempts a minute, nano-USD an hour or a call, or the share that fails."""
    usual = models.FloatField()
    score = models.FloatField(default=0)
    """Robust standard deviations above habit."""
    facts = models.JSONField(default=dict)
    """{"beside": [[dimension, value], ...], "model", "model_share", ...}"""
    response = models.CharField(max_length=9, choices=RESPONSES, default=Response.NOTIFY.value)
    """What was done by itself."""
    response_note = models.CharField(max_length=200, blank=True)
    limit_id = models.UUIDField(null=True)
    """The rate limit that slows its driver, as long as it stands."""
    limit_until = models.DateTimeField(null=True)
    feedback = models.CharField(max_length=16, choices=Feedback, blank=True)
    feedback_by = models.CharField(max_length=254, blank=True)
    feedback_at = models.DateTimeField(null=True)
    notice_id = models.UUIDField(null=True)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace_id", "kind", "dimension", "value"],
                condition=Q(ended_at=None),
                name="incident_open_once",
            ),
            models.CheckConstraint(condition=Q(kind__in=[kind.value for kind in Kind]), name="incident_kind_known"),
            models.CheckConstraint(
                condition=Q(response__in=[one.value for one in Response]), name="incident_response_known"
            ),
            models.CheckConstraint(condition=Q(feedback__in=Feedback.values), name="incident_feedback_known"),
        ]
        indexes = [
            models.Index(fields=["workspace_id", "-id"], name="incident_newest"),
            models.Index(fields=["workspace_id", "-started_at"], name="incident_by_time"),
            models.Index(fields=["last_seen_at"], name="incident_open", condition=Q(ended_at=None)),
            models.Index(fields=["limit_until"], name="incident_limited", condition=Q(limit_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.dimension}={self.value}"


class Expectation(models.Model):
    """What somebody called expected: later deviations of the series are held against it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=16, choices=KINDS)
    dimension = models.CharField(max_length=40, blank=True)
    value = models.CharField(max_length=128, blank=True)
    """Empty for sessions and users: each is new, so what is expected holds for all of them within the series below."""
    within_dimension = models.CharField(max_length=40, blank=True)
    within_value = models.CharField(max_length=128, blank=True)
    per_hour_nano = models.BigIntegerField(default=0)
    per_call_nano = models.BigIntegerField(default=0)
    per_minute = models.IntegerField(default=0)
    slots = ArrayField(models.SmallIntegerField(), default=list)
    """Hours of the week, 0 is Monday midnight on the workspace's clock; empty: any."""
    incident_id = models.UUIDField(null=True)
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=[kind.value for kind in Kind]), name="expectation_kind_known")
        ]
        indexes = [models.Index(fields=["workspace_id", "dimension"], name="expectation_by_series")]

    def __str__(self) -> str:
        return f"{self.kind} {self.dimension}={self.value}"


class Wishes(models.Model):
    """How a workspace wants to be looked at. Without a row: the defaults."""

    workspace_id = models.BigIntegerField(primary_key=True)
    least_nano = models.BigIntegerField(default=LEAST_NANO)
    sensitivity = models.CharField(max_length=6, choices=SENSITIVITIES, default=Sensitivity.NORMAL.value)
    responses = models.JSONField(default=dict)
    """Kind -> `Response`; a kind that is not in it is told."""
    throttle_per_minute = models.PositiveIntegerField(default=10)
    throttle_minutes = models.PositiveIntegerField(default=60)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(least_nano__gte=1), name="anomaly_least_positive"),
            models.CheckConstraint(
                condition=Q(sensitivity__in=[one.value for one in Sensitivity]), name="anomaly_sensitivity_known"
            ),
            models.CheckConstraint(
                condition=Q(throttle_per_minute__gte=1, throttle_minutes__gte=1), name="anomaly_throttle_positive"
            ),
        ]

    def __str__(self) -> str:
        return str(self.workspace_id)


class Look(models.Model):
    """How far the hours of a workspace were looked at."""

    workspace_id = models.BigIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)
    """Of its events in the books, then."""
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.workspace_id)

"""Sums of waste by day, the findings made of them, and what levers saved. Shared tables, row-level security forced (migrations)."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from guardrails.domain.waste.values import Category, Subject, subject_of
from workspaces.ids import uuid7

CATEGORIES = [category.value for category in Category]


class Day(models.Model):
    """What one day of the workspace's calendar wasted by one cause at one place. Made again when the day is looked at again."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    day = models.DateField()
    category = models.CharField(max_length=12)
    subject = models.CharField(max_length=600)
    """`Subject.key`."""
    calls = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    waste_nano = models.BigIntegerField()
    assumed_nano = models.BigIntegerField()
    samples = models.JSONField(default=list)
    facts = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "day", "category", "subject"], name="waste_day_once"),
            models.CheckConstraint(condition=Q(category__in=CATEGORIES), name="waste_day_category_known"),
            models.CheckConstraint(
                condition=Q(waste_nano__gte=0, waste_nano__lte=models.F("cost_nano")), name="waste_day_within_its_cost"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.category}"


class State(models.TextChoices):
    OPEN = "open"
    DISMISSED = "dismissed"
    """Somebody said it is fine; not counted."""
    PULLED = "pulled"
    """Something is done about it; what it saves is counted."""
    GONE = "gone"
    """Nothing of it in the last thirty days."""


class Finding(models.Model):
    """Waste of one cause at one place over the last thirty days, and what was decided about it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    category = models.CharField(max_length=12)
    subject = models.CharField(max_length=600)
    state = models.CharField(max_length=9, choices=State, default=State.OPEN)
    calls = models.BigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0)
    waste_nano = models.BigIntegerField(default=0)
    assumed_nano = models.BigIntegerField(default=0)
    first_day = models.DateField()
    last_day = models.DateField()
    samples = models.JSONField(default=list)
    facts = models.JSONField(default=dict)
    found_at = models.DateTimeField(default=timezone.now)
    looked_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=254, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    lever = models.CharField(max_length=16, blank=True)
    done = models.JSONField(default=dict)
    """What the lever did, so that it can be undone."""
    before_calls = models.BigIntegerField(default=0)
    """All calls at the place in the thirty days before the lever."""
    before_waste_nano = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "category", "subject"], name="waste_finding_once"),
            models.CheckConstraint(condition=Q(category__in=CATEGORIES), name="waste_finding_category_known"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="waste_finding_state_known"),
        ]
        indexes = [models.Index(fields=["workspace_id", "state", "-waste_nano"], name="waste_finding_dearest")]

    def __str__(self) -> str:
        return f"{self.category} {self.id}"

    @property
    def about(self) -> Subject:
        return subject_of(self.subject)


class Saving(models.Model):
    """What a pulled lever saved on one day."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    finding = models.ForeignKey(Finding, on_delete=models.CASCADE, related_name="savings")
    day = models.DateField()
    calls = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    """Of the calls where each was asked again by the price book; of the waste that is left, otherwise."""
    would_have_nano = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["finding", "day"], name="waste_saving_once")]
        indexes = [models.Index(fields=["workspace_id", "day"], name="waste_saving_by_day")]

    def __str__(self) -> str:
        return f"{self.finding_id} {self.day}"


class Look(models.Model):
    """How far a workspace's waste is known."""

    workspace_id = models.BigIntegerField(primary_key=True)
    through = models.DateField(null=True)
    """The last day that was looked at."""
    looked_at = models.DateTimeField(null=True)
    """When a look last came to its end."""
    asked_at = models.DateTimeField(null=True)
    """When somebody asked for one."""
    tried_at = models.DateTimeField(null=True)
    """When one was last begun: a workspace whose look fails must not keep the others waiting."""
    unfinished = models.JSONField(null=True)
    """Where a look goes on that ran out of time."""

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.through}"

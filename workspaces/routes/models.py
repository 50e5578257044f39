"""A workspace's own names for models, and what it allows when an attempt fails."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from workspaces.domain import routes
from workspaces.ids import uuid7


def default_conditions() -> list[str]:
    return sorted(routes.DEFAULT_CONDITIONS)


class Alias(models.Model):
    """A name that stands for an ordered list of targets."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    targets: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField()
    """[{"provider", "model", "credential": id or null}, ...], tried in this order."""
    fallback_on: models.JSONField[list[str], list[str]] = models.JSONField(default=default_conditions)
    """Names of `Condition`: when the next target is tried."""
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name

    def compiled(self) -> routes.Alias:
        return routes.alias(self.name, self.targets, self.fallback_on)


class HopRules(models.Model):
    """What the workspace allows when an attempt fails. One row at most; none: the defaults."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    retries = models.PositiveSmallIntegerField(default=routes.DEFAULT_RETRIES)
    pause_ms = models.PositiveIntegerField(default=routes.DEFAULT_PAUSE_MS)
    max_wait_ms = models.PositiveIntegerField(default=routes.DEFAULT_WAIT_MS)
    fallback_on: models.JSONField[list[str], list[str]] = models.JSONField(default=default_conditions)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="hop_rules_once"),
            models.CheckConstraint(
                condition=models.Q(retries__lte=routes.MOST_RETRIES)
                & models.Q(pause_ms__lte=routes.LONGEST_PAUSE_MS)
                & models.Q(max_wait_ms__lte=routes.LONGEST_WAIT_MS),
                name="hop_rules_in_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.retries} retries"

    def compiled(self) -> routes.Rules:
        return routes.Rules(self.retries, self.pause_ms, self.max_wait_ms, routes.conditions(self.fallback_on))

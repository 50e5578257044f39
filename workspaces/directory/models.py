"""Departments and agents, in each workspace's own schema. Dimensions carry their names."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from workspaces.ids import uuid7


class Department(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class Agent(models.Model):
    """A named automated caller (a bot, a worker, an agent run)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80, unique=True)
    department = models.ForeignKey(Department, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name

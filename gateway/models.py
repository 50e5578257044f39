"""What providers keep for a workspace and calls ask for again by its id: stored responses, files, batches.

An id is reachable only through the workspace that made it, and always with the credential that made it. Batches and background answers are
also what is still to be billed: `state` and `look_at` say who has to look, and when.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from workspaces.ids import uuid7


class KeptKind(models.TextChoices):
    RESPONSE = "response"
    FILE = "file"
    BATCH = "batch"
    MESSAGE_BATCH = "message_batch"
    THREAD = "thread"
    """Named by the last answer in it."""


class KeptState(models.TextChoices):
    FREE = "free"
    """Nothing is owed for it, or what is owed has been booked."""
    OPEN = "open"
    """Its cost is held and becomes known when its answer is read."""
    SETTLING = "settling"
    """Somebody is booking it."""


class Kept(models.Model):
    """Shared, under row-level security. Gone after `expires_at`: the provider has deleted it by then."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=16, choices=KeptKind)
    object_id = models.CharField(max_length=200)
    """The provider's own id."""
    credential_id = models.UUIDField()
    provider = models.CharField(max_length=32)
    state = models.CharField(max_length=8, choices=KeptState, default=KeptState.FREE)
    facts: models.JSONField[Any, Any] = models.JSONField(default=dict)
    """What settling and listing need: the attempt and its context, the request's billed fields, the object as the provider last showed it."""
    made_at = models.DateTimeField()
    look_at = models.DateTimeField(null=True)
    """When our own poll reads it, whoever else does not."""
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "gateway_kept"
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "kind", "object_id"], name="gateway_kept_once"),
        ]
        indexes = [
            models.Index(fields=["workspace_id", "kind", "-made_at"], name="gateway_kept_newest"),
            models.Index(fields=["look_at"], name="gateway_kept_due", condition=models.Q(look_at__isnull=False)),
            models.Index(fields=["expires_at"], name="gateway_kept_expired"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}"

"""Saved views: a cost question under a name, of one person or for the whole workspace."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from workspaces.ids import uuid7


class SavedView(models.Model):
    """A question of the cost explorer. What is kept is its address: it is read and checked anew whenever it is opened."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=2000)
    """The query string."""
    owner_id = models.UUIDField()
    """A User, who is in the shared schema: hence no foreign key."""
    owner_name = models.CharField(max_length=254)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "id")
        constraints = [models.UniqueConstraint("owner_id", Lower("name"), name="saved_view_named_once")]

    def __str__(self) -> str:
        return self.name

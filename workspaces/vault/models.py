"""Sealed provider keys, in each workspace's own schema."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from workspaces.ids import uuid7


class DataKey(models.Model):
    """A workspace's data key, wrapped by the master key. Destroying it makes every secret it sealed unreadable."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    wrapped = models.BinaryField()
    master_key_id = models.CharField(max_length=16)
    """Fingerprint of the master key that wraps it; rotation is done when no row names the old one."""
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"data key {self.id}"


class CredentialState(models.TextChoices):
    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    REJECTED = "rejected"


class ProviderCredential(models.Model):
    """The customer's own provider key, sealed. After creation only its last four characters are ever shown."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.CharField(max_length=32)
    name = models.CharField(max_length=80)
    base_url = models.CharField(max_length=300, blank=True)
    """Empty: the provider's own address from the registry."""
    settings = models.JSONField(default=dict, blank=True)
    """What the provider needs beside the key (region, resource, project), by name; nothing secret (`Access.settings`)."""
    environment = models.CharField(max_length=32, blank=True)
    """Empty: for every environment."""
    priority = models.PositiveSmallIntegerField(default=0)
    """Among a provider's credentials the lowest number goes first; the others are for when it fails."""
    weight = models.PositiveSmallIntegerField(default=1)
    """The share of the calls among credentials of the same priority."""
    timeouts: models.JSONField[dict[str, float], dict[str, float]] = models.JSONField(default=dict, blank=True)
    """Time limits of its own, in seconds, by the names of `workspaces.domain.routes.TIMEOUTS`."""
    data_key = models.ForeignKey(DataKey, null=True, on_delete=models.PROTECT)
    sealed = models.BinaryField(null=True)
    """Null for a provider that needs no key."""
    last_four = models.CharField(max_length=4, blank=True)
    state = models.CharField(max_length=10, choices=CredentialState, default=CredentialState.UNVERIFIED)
    checked_at = models.DateTimeField(null=True, blank=True)
    check_message = models.CharField(max_length=200, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "name"], name="credential_name_once"),
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="credential_weight_is_a_share"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.name}"


class SealedNote(models.Model):
    """A secret of ours that belongs to something else of the workspace (a webhook's signing secret, a chat's address), sealed like a provider key."""

    id = models.UUIDField(primary_key=True, editable=False)
    """That of the thing it belongs to."""
    purpose = models.CharField(max_length=32)
    data_key = models.ForeignKey(DataKey, on_delete=models.PROTECT)
    sealed = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.purpose} of {self.id}"

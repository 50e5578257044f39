"""Prices of a workspace's own."""

from __future__ import annotations

from django.db import models

from workspaces.ids import uuid7


class PriceKind(models.TextChoices):
    DISCOUNT = "discount"
    """A percentage off the list price."""
    RATES = "rates"
    """Own rates: negotiated ones, or of a model that no list has."""
    FREE = "free"
    """A model on the workspace's own machines."""


class PriceOverride(models.Model):
    """A workspace's own dated price. What has begun is never edited, it is ended and followed by another: calls were charged by it.

    The later one of several valid ones counts. Written by `billing.actions`, compiled into the workspace's book by `billing.overrides`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=PriceKind)
    provider = models.CharField(max_length=32)
    """As credentials name it; "*" for all (discounts only)."""
    model = models.CharField(max_length=200)
    """As the provider names it, in lower case; "*" for all."""
    discount_percent = models.DecimalField(max_digits=7, decimal_places=4, null=True)
    """Above 0, to 100."""
    rates = models.JSONField(default=dict)
    """Unit -> price as a decimal string, per million tokens or as `billing.domain.rates.PER` says."""
    tier = models.CharField(max_length=32, default="standard")
    context_window = models.IntegerField(null=True)
    max_output_tokens = models.IntegerField(null=True)
    """What bounds need to know of a model that no list has."""
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    """The first moment at which it is not valid any more; null: until further notice."""
    note = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=254)

    class Meta:
        db_table = "billing_price_override"
        indexes = [models.Index(fields=["workspace_id", "valid_from"], name="billing_price_by_workspace")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind="discount", discount_percent__gt=0, discount_percent__lte=100, rates={})
                | models.Q(kind="free", discount_percent__isnull=True, rates={})
                | (models.Q(kind="rates", discount_percent__isnull=True) & ~models.Q(rates={})),
                name="billing_price_is_of_its_kind",
            ),
            models.CheckConstraint(
                condition=models.Q(valid_to__isnull=True) | models.Q(valid_to__gte=models.F("valid_from")),
                name="billing_price_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.provider}/{self.model}"

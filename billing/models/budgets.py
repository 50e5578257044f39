"""What budgets have come to, as the books know it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models


class BudgetTotal(models.Model):
    """Settled amount of one counter (a budget, a period, and for each-value budgets a value): the S of a rebuild."""

    pk = models.CompositePrimaryKey("workspace_id", "counter")
    workspace_id = models.BigIntegerField()
    counter = models.CharField(max_length=200)
    """Key suffix "b:<budget uuid>:<period start ms>[:<value digest>]"."""
    budget_id = models.UUIDField(null=True)
    period_start = models.DateTimeField(null=True)
    unit = models.CharField(max_length=8)
    settled = models.BigIntegerField()

    class Meta:
        db_table = "billing_budget_total"
        indexes = [
            models.Index(fields=["workspace_id", "budget_id", "-period_start"], name="billing_total_by_budget"),
            BrinIndex(fields=["period_start"], name="billing_total_by_age", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.counter}"


class BudgetLine(models.Model):
    """What the writer must know of a budget to see its thresholds crossed. Guardrails writes it with the budget."""

    budget_id = models.UUIDField(primary_key=True)
    workspace_id = models.BigIntegerField()
    name = models.CharField(max_length=120)
    unit = models.CharField(max_length=8)
    cap = models.BigIntegerField()
    """In its unit; 0: no cap, nothing crosses."""
    thresholds = ArrayField(models.SmallIntegerField())
    """Percents of the cap in force, 1 to 100."""
    raises = models.JSONField(default=list)
    """[[amount, start of the period it began in, start of the period it ends in, its end], ...], moments in ms: what is added to the cap."""
    cap_before = models.BigIntegerField(default=0)
    """The cap in force when crossings were last looked for without a call; what the next look compares with."""
    recheck_at = models.DateTimeField(null=True)
    """When crossings are to be looked for although no call may follow: the cap changed, or a raise ends."""
    recheck_start_ms = models.BigIntegerField(default=0)
    """Start of the period that is looked at then."""

    class Meta:
        db_table = "billing_budget_line"
        indexes = [
            models.Index(fields=["workspace_id"], name="billing_line_by_workspace"),
            models.Index(
                fields=["recheck_at"], name="billing_line_to_recheck", condition=models.Q(recheck_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Crossing(models.Model):
    """A threshold was crossed: once per counter (budget, period, value), threshold and cap in force, whatever is redelivered.

    After a raise, or another change of the cap, a threshold that was not crossed any more is told again, with the new cap.
    """

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    budget_id = models.UUIDField()
    counter = models.CharField(max_length=200)
    period_start = models.DateTimeField()
    threshold = models.SmallIntegerField()
    at = models.DateTimeField()
    """When the money Redis took the event that the writer saw crossing it."""
    settled = models.BigIntegerField()
    cap = models.BigIntegerField()
    """In force: with the raises of that moment."""
    recorded_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)
    """When `guardrails.signals` took it over, in one transaction with its notice; null: it waits."""

    class Meta:
        db_table = "billing_crossing"
        constraints = [
            models.UniqueConstraint(
                fields=["workspace_id", "counter", "threshold", "cap"], name="billing_crossing_once_a_cap"
            )
        ]
        indexes = [
            models.Index(fields=["workspace_id", "budget_id", "-at"], name="billing_crossing_by_budget"),
            BrinIndex(fields=["period_start"], name="billing_crossing_by_age", autosummarize=True),
            models.Index(
                fields=["workspace_id"], name="billing_crossing_untold", condition=models.Q(told_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.counter} {self.threshold}%"

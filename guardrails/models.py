"""What a workspace configures of admission, in its own schema. The numbers (settled, held) are in the money Redis and the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from guardrails.domain.budgets import MAX_CAP, OnTight, Raised, Scope, Strategy, Unit
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Kind as KindOfBudget
from guardrails.domain.periods import Era, Period
from guardrails.domain.rates import Metric
from guardrails.domain.rates import RateLimit as RateRule
from workspaces.ids import uuid7

DEFAULT_NOTIFY = (50, 75, 90, 100)


def _choices(values: Any) -> list[tuple[str, str]]:
    return [(value.value, value.value.replace("_", " ")) for value in values]


def default_notify() -> list[int]:
    return list(DEFAULT_NOTIFY)


def _percent(name: str) -> Q:
    return Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 1, f"{name}__lte": 100})


def _ordered(low: str, high: str) -> Q:
    return Q(**{f"{low}__isnull": True}) | Q(**{f"{high}__isnull": True}) | Q(**{f"{low}__lte": F(high)})


class Scoped(models.Model):
    """What a budget or a rate limit is on."""

    by = models.CharField(max_length=40, blank=True)
    """Empty: the whole workspace. Otherwise a dimension or "tag:<name>"."""
    value = models.CharField(max_length=128, null=True, blank=True, default="")
    """Null: each value on its own. Empty where `by` is empty."""

    class Meta:
        abstract = True

    @property
    def scope(self) -> Scope:
        return Scope(self.by, self.value)


class Budget(Scoped):
    """A cap on a scope for a period."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=_choices(KindOfBudget), default=KindOfBudget.BUDGET)
    period = models.CharField(max_length=5, choices=_choices(Period))
    reset_day = models.PositiveSmallIntegerField(default=1)
    eras = models.JSONField()
    """[[zone, reset day, since ms], ...]: a change of zone or reset day applies when the running period ends."""
    unit = models.CharField(max_length=6, choices=_choices(Unit), default=Unit.USD)
    cap = models.BigIntegerField()
    """Nano-USD, tokens or calls."""
    strategy = models.CharField(max_length=10, choices=_choices(Strategy), default=Strategy.REJECT)
    on_tight = models.CharField(max_length=6, choices=_choices(OnTight), default=OnTight.REJECT)
    alert_percent = models.PositiveSmallIntegerField(null=True, default=70)
    throttle_percent = models.PositiveSmallIntegerField(null=True)
    kill_percent = models.PositiveSmallIntegerField(null=True, default=100)
    throttle_per_minute = models.PositiveIntegerField(default=0)
    """0: the pace that spreads what is left over what remains of the period."""
    notify = ArrayField(models.PositiveSmallIntegerField(), default=default_notify)
    """Percents of the cap whose crossing is recorded, once a period."""
    message = models.CharField(max_length=300, blank=True)
    upgrade_url = models.URLField(max_length=300, blank=True)
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("created_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["by", "value", "period", "unit", "reset_day", "kind"],
                nulls_distinct=False,
                name="budget_not_twice_of_a_kind",
            ),
            models.CheckConstraint(condition=Q(cap__gte=1, cap__lte=MAX_CAP), name="budget_cap_in_bounds"),
            models.CheckConstraint(
                condition=_percent("alert_percent") & _percent("throttle_percent") & _percent("kill_percent"),
                name="budget_thresholds_are_percents",
            ),
            models.CheckConstraint(
                condition=_ordered("alert_percent", "throttle_percent")
                & _ordered("throttle_percent", "kill_percent")
                & _ordered("alert_percent", "kill_percent"),
                name="budget_thresholds_in_order",
            ),
            models.CheckConstraint(
                condition=Q(period="month", reset_day__gte=1, reset_day__lte=31)
                | Q(period="week", reset_day__gte=1, reset_day__lte=7)
                | Q(reset_day=1),
                name="budget_reset_day_exists",
            ),
            models.CheckConstraint(
                condition=~Q(strategy="throttle") | Q(throttle_percent__isnull=False), name="budget_throttle_has_threshold"
            ),
            models.CheckConstraint(
                condition=~Q(period="total") | Q(throttle_percent__isnull=True) | Q(throttle_per_minute__gt=0),
                name="budget_total_needs_a_set_pace",
            ),
            models.CheckConstraint(condition=~Q(by="") | Q(value=""), name="budget_workspace_has_no_value"),
            models.CheckConstraint(
                condition=Q(by="") | Q(value__isnull=True) | ~Q(value=""), name="budget_value_is_named"
            ),
            *(
                models.CheckConstraint(condition=Q(**{f"{name}__in": [value.value for value in values]}), name=f"budget_{name}_known")
                for name, values in (
                    ("kind", KindOfBudget), ("period", Period), ("unit", Unit), ("strategy", Strategy), ("on_tight", OnTight),
                )
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name

    def rule(self, raises: tuple[Raised, ...] = ()) -> BudgetRule:
        """The budget as the value that admission works with."""
        return BudgetRule(
            id=str(self.id),
            name=self.name,
            cap=self.cap,
            period=Period(self.period),
            eras=tuple(Era(zone, reset_day, since) for zone, reset_day, since in self.eras),
            scope=self.scope,
            unit=Unit(self.unit),
            kind=KindOfBudget(self.kind),
            strategy=Strategy(self.strategy),
            on_tight=OnTight(self.on_tight),
            alert_percent=self.alert_percent,
            throttle_percent=self.throttle_percent,
            kill_percent=self.kill_percent,
            throttle_per_minute=self.throttle_per_minute,
            message=self.message,
            upgrade_url=self.upgrade_url,
            raises=raises,
        )


class RateLimit(Scoped):
    """So many requests, tokens or simultaneous calls for a scope's one value or each value."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120, blank=True)
    metric = models.CharField(max_length=11, choices=_choices(Metric))
    limit = models.BigIntegerField()
    burst = models.BigIntegerField(default=0)
    """At once; 0: a whole window's worth. Not for concurrency."""
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("created_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["by", "value", "metric"], nulls_distinct=False, name="rate_limit_not_twice"
            ),
            models.CheckConstraint(
                condition=Q(limit__gte=1, limit__lte=1_000_000_000, burst__gte=0, burst__lte=1_000_000_000),
                name="rate_limit_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(metric__in=[metric.value for metric in Metric]), name="rate_limit_metric_known"
            ),
            models.CheckConstraint(condition=~Q(by="") | Q(value=""), name="rate_limit_workspace_has_no_value"),
            models.CheckConstraint(
                condition=Q(by="") | Q(value__isnull=True) | ~Q(value=""), name="rate_limit_value_is_named"
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.limit} {self.metric}"

    def rule(self) -> RateRule:
        return RateRule(
            id=str(self.id),
            name=self.name,
            scope=self.scope,
            metric=Metric(self.metric),
            limit=self.limit,
            burst=self.burst,
        )


class RaiseState(models.TextChoices):
    REQUESTED = "requested"
    APPROVED = "approved"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


NEXT_OF_RAISE: dict[str, frozenset[str]] = {
    RaiseState.REQUESTED: frozenset({RaiseState.APPROVED, RaiseState.DECLINED, RaiseState.WITHDRAWN}),
    RaiseState.APPROVED: frozenset({RaiseState.WITHDRAWN}),
    RaiseState.DECLINED: frozenset(),
    RaiseState.WITHDRAWN: frozenset(),
}


class Raise(models.Model):
    """A temporary raise of a budget's cap: asked for by a member, decided by somebody who manages budgets, ending by itself."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="raises")
    amount = models.BigIntegerField()
    """In the budget's unit."""
    reason = models.CharField(max_length=300)
    state = models.CharField(max_length=9, choices=RaiseState, default=RaiseState.REQUESTED)
    requested_by = models.CharField(max_length=254)
    requested_at = models.DateTimeField(default=timezone.now)
    decided_by = models.CharField(max_length=254, blank=True)
    decided_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ("-requested_at", "-id")
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=1, amount__lte=MAX_CAP), name="raise_amount_in_bounds"),
            models.CheckConstraint(condition=Q(state__in=RaiseState.values), name="raise_state_known"),
            models.CheckConstraint(
                condition=Q(state="requested", decided_at__isnull=True)
                | (~Q(state="requested") & Q(decided_at__isnull=False)),
                name="raise_decided_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget} +{self.amount}"

    def in_force_at(self, now: datetime) -> bool:
        return self.state == RaiseState.APPROVED and now < self.expires_at


class BarredModel(models.Model):
    """A model whose real cost went above its proven bound: kept from hard budgets until a person has looked."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    rid = models.UUIDField()
    """The attempt that showed it."""
    held_nano = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    barred_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "model"], name="barred_model_once")]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

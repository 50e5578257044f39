"""The bodies and answers of the REST API of guardrails. Amounts are decimal strings: dollars, or whole tokens or calls."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from billing.domain.money import usd_text
from guardrails.domain.budgets import Kind, OnTight, Scope, Stage, Strategy, Unit
from guardrails.domain.periods import Era, Period
from guardrails.domain.rates import Metric
from guardrails.models import DEFAULT_NOTIFY, BarredModel, Budget, Raise, RaiseState, RateLimit
from guardrails.queries import BudgetStatus, Standing
from workspaces.rest import Strict

WORKSPACE = "workspace"
_WHOLE_BUDGET = "null for a budget on each value: see `standing/`."


# --- Fields that only let through what has one meaning; the actions decide what may be ---------------------------------
@extend_schema_field({"anyOf": [{"type": "string"}, {"type": "integer"}]})
class AmountField(serializers.Field[Any, Any, Any, Any]):
    """An amount as text, or a whole number. A JSON number with a fraction is binary: 0.1 is another amount than was written."""

    def to_internal_value(self, data: Any) -> str | int:
        if isinstance(data, bool) or not isinstance(data, str | int):
            raise ValidationError('Write the amount as text in plain digits, like "50" or "0.25".')
        return data

    def to_representation(self, value: Any) -> str:
        return str(value)


@extend_schema_field({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]})
class WholeField(serializers.Field[Any, Any, Any, Any]):
    """A whole number, as one or as text; read strictly by the actions."""

    def to_internal_value(self, data: Any) -> str | int:
        if isinstance(data, bool) or not isinstance(data, str | int):
            raise ValidationError("Write a whole number.")
        return data

    def to_representation(self, value: Any) -> int:
        return int(value)


def _word(kind: type[StrEnum], **options: Any) -> serializers.ChoiceField:
    wrong: dict[str, Any] = {"invalid_choice": f"Choose among: {', '.join(kind)}."}
    return serializers.ChoiceField([one.value for one in kind], error_messages=wrong, **options)


# --- Budgets ----------------------------------------------------------------------------------------------------------
class BudgetShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = _word(Kind)
    scope = serializers.CharField(help_text="`workspace`, a dimension, or `tag:<name>`.")
    value = serializers.CharField(
        allow_null=True, help_text="The one value it is on; null: the workspace, or each value."
    )
    each = serializers.BooleanField(help_text="Whether every value has this cap on its own.")
    unit = _word(Unit)
    period = _word(Period)
    reset_day = serializers.IntegerField(help_text="Of the month (1 to 31) or week (1 Monday to 7 Sunday).")
    time_zone = serializers.CharField(help_text="Of the present period; a change applies from the next one on.")
    cap = serializers.CharField(help_text="As it was set, without raises.")
    strategy = _word(Strategy)
    on_tight = _word(OnTight)
    alert_percent = serializers.IntegerField(allow_null=True, help_text="null: this stage is off.")
    throttle_percent = serializers.IntegerField(allow_null=True)
    kill_percent = serializers.IntegerField(allow_null=True)
    throttle_per_minute = serializers.IntegerField(help_text="0: the pace that spreads what is left over the period.")
    notify = serializers.ListField(child=serializers.IntegerField())
    message = serializers.CharField()
    upgrade_url = serializers.CharField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField(allow_null=True, help_text="null for the plan's quota.")
    starts_at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField(allow_null=True, help_text="null: never.")
    limit = serializers.CharField(
        help_text="What settled and held may reach now: the cap with its raises, at the kill percent."
    )
    settled = serializers.CharField(allow_null=True, help_text=_WHOLE_BUDGET)
    held = serializers.CharField(allow_null=True, help_text="The worst case of the calls under way.")
    left = serializers.CharField(allow_null=True)
    over = serializers.CharField(allow_null=True, help_text="How far a cap that was lowered later is exceeded.")
    percent = serializers.IntegerField(allow_null=True)
    stage = _word(Stage, allow_null=True)
    live = serializers.BooleanField(
        help_text="false: the budget store does not answer; then these are the ledger's numbers, without what is held."
    )


class _BudgetSettings(Strict):
    name = serializers.CharField(max_length=120, required=False)
    reset_day = WholeField(required=False)
    strategy = _word(Strategy, required=False)
    on_tight = _word(OnTight, required=False)
    alert_percent = WholeField(required=False, allow_null=True)
    throttle_percent = WholeField(required=False, allow_null=True)
    kill_percent = WholeField(required=False, allow_null=True)
    throttle_per_minute = WholeField(required=False)
    notify = serializers.ListField(child=WholeField(), max_length=10, required=False)
    message = serializers.CharField(max_length=300, required=False, allow_blank=True)
    upgrade_url = serializers.CharField(max_length=300, required=False, allow_blank=True)


class _Scoped(Strict):
    scope = serializers.CharField(max_length=60, required=False, help_text="Default: `workspace`.")
    value = serializers.CharField(
        max_length=128, required=False, allow_null=True, help_text="null: each value on its own."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Leaving `value` out is no way to say "each": a typo must not cap everybody."""
        if attrs.get("scope", WORKSPACE) != WORKSPACE and "value" not in attrs:
            raise ValidationError({"value": ["Write the one value this is on, or null for each value on its own."]})
        return attrs


class BudgetWanted(_Scoped, _BudgetSettings):
    cap = AmountField()
    unit = _word(Unit, required=False)
    period = _word(Period)


class BudgetChange(_BudgetSettings):
    cap = AmountField(required=False)
    fixed: ClassVar = ("scope", "value", "unit", "period")

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (given := [name for name in self.fixed if name in data]):
            raise ValidationError({name: ["This cannot be changed. Make another budget."] for name in given})
        return super().to_internal_value(data)


class PresetWanted(Strict):
    cap = AmountField(help_text="Dollars.")


class StandingShown(serializers.Serializer[Any]):
    value = serializers.CharField(allow_null=True, help_text="null: not known while the budget store does not answer.")
    limit = serializers.CharField()
    settled = serializers.CharField()
    held = serializers.CharField()
    left = serializers.CharField()
    over = serializers.CharField()
    percent = serializers.IntegerField()
    stage = _word(Stage)


class StandingPage(serializers.Serializer[Any]):
    results = StandingShown(many=True)
    next = serializers.URLField(allow_null=True)
    live = serializers.BooleanField()


def budget_shown(status: BudgetStatus, row: Budget | None, now: datetime) -> dict[str, Any]:
    """A `BudgetShown`. `row` is None for the plan's quota."""
    rule, at_ms = status.budget, int(now.timestamp() * 1000)
    era = _era_of(rule.eras, at_ms)
    limit = rule.limit_at(at_ms)
    whole = {} if status.standing is None else standing_shown(status.standing, rule.unit)
    return {
        "id": rule.id,
        "name": rule.name,
        "kind": rule.kind.value,
        **_scope_shown(rule.scope),
        "unit": rule.unit.value,
        "period": rule.period.value,
        "reset_day": row.reset_day if row else era.reset_day,
        "time_zone": era.zone,
        "cap": amount_text(rule.cap, rule.unit),
        "strategy": rule.strategy.value,
        "on_tight": rule.on_tight.value,
        "alert_percent": rule.alert_percent,
        "throttle_percent": rule.throttle_percent,
        "kill_percent": rule.kill_percent,
        "throttle_per_minute": rule.throttle_per_minute,
        "notify": row.notify if row else list(DEFAULT_NOTIFY),
        "message": rule.message,
        "upgrade_url": rule.upgrade_url,
        "created_by": row.created_by if row else "",
        "created_at": row.created_at if row else None,
        "starts_at": status.starts_at,
        "resets_at": status.resets_at,
        "limit": amount_text(rule.cap_at(at_ms) if limit is None else limit, rule.unit),
        **{name: whole.get(name) for name in ("settled", "held", "left", "over", "percent", "stage")},
        "live": status.live,
    }


def standing_shown(standing: Standing, unit: Unit) -> dict[str, Any]:
    """A `StandingShown`."""
    return {
        "value": standing.value or None,
        "limit": amount_text(standing.cap, unit),
        "settled": amount_text(standing.settled, unit),
        "held": amount_text(standing.held, unit),
        "left": amount_text(standing.left, unit),
        "over": amount_text(standing.over, unit),
        "percent": standing.percent,
        "stage": standing.stage.value,
    }


def amount_text(amount: int, unit: Unit) -> str:
    return usd_text(amount) if unit is Unit.USD else str(amount)


def _scope_shown(scope: Scope) -> dict[str, Any]:
    return {"scope": scope.by or WORKSPACE, "value": scope.value or None, "each": scope.each}


def _era_of(eras: tuple[Era, ...], at_ms: int) -> Era:
    return next((era for era in reversed(eras) if era.since_ms <= at_ms), eras[0])


# --- Rate limits ------------------------------------------------------------------------------------------------------
class RateLimitShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    scope = serializers.CharField(help_text="`workspace`, a dimension, or `tag:<name>`.")
    value = serializers.CharField(allow_null=True)
    each = serializers.BooleanField()
    metric = _word(Metric)
    limit = serializers.IntegerField()
    burst = serializers.IntegerField(help_text="How much at once; 0: a whole window's worth.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class RateLimitWanted(_Scoped):
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    metric = _word(Metric)
    limit = WholeField()
    burst = WholeField(required=False)


class RateLimitChange(Strict):
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    limit = WholeField(required=False)
    burst = WholeField(required=False)


def rate_limit_shown(row: RateLimit) -> dict[str, Any]:
    """A `RateLimitShown`."""
    return {
        "id": str(row.pk),
        "name": row.name,
        **_scope_shown(row.scope),
        "metric": row.metric,
        "limit": row.limit,
        "burst": row.burst,
        "created_by": row.created_by,
        "created_at": row.created_at,
    }


# --- Raises -----------------------------------------------------------------------------------------------------------
class RaiseShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    budget_id = serializers.UUIDField()
    budget = serializers.CharField(help_text="Its name.")
    amount = serializers.CharField()
    unit = _word(Unit)
    reason = serializers.CharField()
    state = serializers.ChoiceField(RaiseState.choices)
    in_force = serializers.BooleanField(help_text="Approved and not ended yet.")
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField()


class RaiseWanted(Strict):
    budget_id = serializers.UUIDField()
    amount = AmountField(help_text="On top of the cap, in the budget's unit.")
    reason = serializers.CharField(max_length=300)
    expires_at = serializers.DateTimeField()


def raise_shown(row: Raise, now: datetime) -> dict[str, Any]:
    """A `RaiseShown`."""
    unit = Unit(row.budget.unit)
    return {
        "id": str(row.pk),
        "budget_id": str(row.budget_id),
        "budget": row.budget.name,
        "amount": amount_text(row.amount, unit),
        "unit": unit.value,
        "reason": row.reason,
        "state": row.state,
        "in_force": row.in_force_at(now),
        "requested_by": row.requested_by,
        "requested_at": row.requested_at,
        "decided_by": row.decided_by,
        "decided_at": row.decided_at,
        "expires_at": row.expires_at,
    }


# --- The kill switch, barred models -----------------------------------------------------------------------------------
class Suspension(Strict):
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class BarredModelShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    provider = serializers.CharField()
    model = serializers.CharField()
    attempt_id = serializers.UUIDField(help_text="The attempt that cost more than its bound.")
    held_usd = serializers.CharField()
    cost_usd = serializers.CharField()
    barred_at = serializers.DateTimeField()


def barred_model_shown(row: BarredModel) -> dict[str, Any]:
    """A `BarredModelShown`."""
    return {
        "id": str(row.pk),
        "provider": row.provider,
        "model": row.model,
        "attempt_id": str(row.rid),
        "held_usd": usd_text(row.held_nano),
        "cost_usd": usd_text(row.cost_nano),
        "barred_at": row.barred_at,
    }

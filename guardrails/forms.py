"""What people type into the pages of guardrails. Forms only parse; what may be is decided by `guardrails.actions`."""

from __future__ import annotations

from typing import Any

from django import forms

from billing.domain.dimensions import Dimension
from guardrails.domain.budgets import Strategy, Unit
from guardrails.domain.periods import Period
from guardrails.domain.rates import Metric

SCOPES = (
    ("", "The whole workspace"),
    (Dimension.VIRTUAL_KEY.value, "A virtual key"),
    (Dimension.CUSTOMER.value, "A customer"),
    (Dimension.FEATURE.value, "A feature"),
    (Dimension.MEMBER.value, "A member"),
    (Dimension.AGENT.value, "An agent"),
    (Dimension.DEPARTMENT.value, "A department"),
    (Dimension.USER.value, "An end user"),
    (Dimension.MODEL.value, "A model"),
    (Dimension.PROVIDER.value, "A provider"),
    (Dimension.ENVIRONMENT.value, "An environment"),
)
NAMED_SCOPES = " ".join(value for value, _ in SCOPES if value and value != Dimension.VIRTUAL_KEY)
PERIODS = (
    (Period.DAY.value, "day"),
    (Period.WEEK.value, "week"),
    (Period.MONTH.value, "month"),
    (Period.HOUR.value, "hour"),
    (Period.TOTAL.value, "in total, for good"),
)
UNITS = ((Unit.USD.value, "dollars"), (Unit.TOKENS.value, "tokens"), (Unit.CALLS.value, "calls"))
STRATEGIES = (
    (Strategy.REJECT.value, "Stop: refuse the call that would pass the cap"),
    (Strategy.THROTTLE.value, "Slow down: spread what is left over the period"),
    (Strategy.ALERT_ONLY.value, "Only tell: never in the way of a call"),
)
METRICS = (
    (Metric.RPM.value, "requests a minute"),
    (Metric.RPH.value, "requests an hour"),
    (Metric.TPM.value, "tokens a minute"),
    (Metric.CONCURRENCY.value, "calls at the same time"),
)


class ScopeForm(forms.Form):
    """The part about what a limit is on."""

    scope = forms.ChoiceField(choices=SCOPES, required=False, label="On")
    value = forms.CharField(
        max_length=128, required=False, label="Which one", help_text="Empty: each of them on its own, with this limit."
    )
    key = forms.ChoiceField(required=False, label="Which key")

    def __init__(self, *arguments: Any, keys: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["key"].choices = [("", "Each key on its own"), *keys]  # type: ignore[attr-defined]

    def on(self) -> dict[str, str | None]:
        """`scope` and `value` as the actions take them."""
        given = self.cleaned_data
        if not given["scope"]:
            return {"scope": "", "value": ""}
        value = given["key"] if given["scope"] == Dimension.VIRTUAL_KEY else given["value"].strip()
        return {"scope": given["scope"], "value": value or None}


class BudgetSettingsForm(forms.Form):
    """What of a budget may change."""

    name = forms.CharField(max_length=120, required=False, label="Name")
    cap = forms.CharField(max_length=20, label="Cap")
    strategy = forms.ChoiceField(choices=STRATEGIES, label="At the cap")
    alert_percent = forms.CharField(max_length=3, required=False, label="Alert at %", initial="70")
    throttle_percent = forms.CharField(max_length=3, required=False, label="Slow down at %")
    kill_percent = forms.CharField(max_length=3, required=False, label="Stop at %", initial="100")

    def settings(self) -> dict[str, Any]:
        """The keywords of `actions.update_budget`."""
        given = self.cleaned_data
        return {
            "cap": given["cap"].strip().removeprefix("$"),
            "strategy": given["strategy"],
            **{name: given[name].strip() or None for name in ("alert_percent", "throttle_percent", "kill_percent")},
        }


class BudgetForm(ScopeForm, BudgetSettingsForm):
    unit = forms.ChoiceField(choices=UNITS, label="In", initial=Unit.USD.value)
    period = forms.ChoiceField(choices=PERIODS, label="Per", initial=Period.MONTH.value)


class RateLimitSettingsForm(forms.Form):
    limit = forms.CharField(max_length=16, label="At most")


class RateLimitForm(ScopeForm, RateLimitSettingsForm):
    metric = forms.ChoiceField(choices=METRICS, label="Of")


class AmountForm(forms.Form):
    """The one number of a preset."""

    cap = forms.CharField(max_length=20, label="Dollars")

"""What people type into the pages of guardrails. Forms only parse; what may be is decided by `guardrails.actions`."""

from __future__ import annotations

from typing import Any

from django import forms

from billing.domain.dimensions import Dimension
from guardrails.domain.budgets import TAG_PREFIX, OnTight, Strategy, Unit
from guardrails.domain.periods import Period
from guardrails.domain.rates import Metric
from guardrails.models import DEFAULT_NOTIFY
from workspaces.errors import Refused

SCOPES = (
    ("", "The whole workspace"),
    (Dimension.VIRTUAL_KEY.value, "A virtual key"),
    (Dimension.CUSTOMER.value, "A customer"),
    (Dimension.FEATURE.value, "A feature"),
    (Dimension.MEMBER.value, "A member"),
    (Dimension.AGENT.value, "An agent"),
    (Dimension.DEPARTMENT.value, "A department"),
    (Dimension.USER.value, "An end user"),
    (Dimension.SESSION.value, "A session"),
    (Dimension.MODEL.value, "A model"),
    (Dimension.PROVIDER.value, "A provider"),
    (Dimension.ENVIRONMENT.value, "An environment"),
    ("tag", "A tag"),
)
NAMED_SCOPES = " ".join(value for value, _ in SCOPES if value and value != Dimension.VIRTUAL_KEY)
PERIODS = (
    (Period.DAY.value, "day"),
    (Period.WEEK.value, "week"),
    (Period.MONTH.value, "month"),
    (Period.HOUR.value, "hour"),
    (Period.TOTAL.value, "in total, for good"),
)
RESET_DAYS = frozenset({Period.WEEK.value, Period.MONTH.value})
"""Periods that begin on a day one can choose."""
UNITS = ((Unit.USD.value, "dollars"), (Unit.TOKENS.value, "tokens"), (Unit.CALLS.value, "calls"))
STRATEGIES = (
    (Strategy.REJECT.value, "Stop: refuse the call that would pass the cap"),
    (Strategy.THROTTLE.value, "Slow down: spread what is left over the period"),
    (Strategy.ALERT_ONLY.value, "Only tell: never in the way of a call"),
)
TIGHT = (
    (OnTight.REJECT.value, "Refuse it"),
    (OnTight.CLAMP.value, "Lower its output limit to what still fits"),
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
    tag = forms.CharField(max_length=32, required=False, label="Tag")

    def __init__(self, *arguments: Any, keys: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["key"].choices = [("", "Each key on its own"), *keys]  # type: ignore[attr-defined]

    def on(self) -> dict[str, str | None]:
        """`scope` and `value` as the actions take them."""
        given = self.cleaned_data
        if not given["scope"]:
            return {"scope": "", "value": ""}
        value = given["key"] if given["scope"] == Dimension.VIRTUAL_KEY else given["value"].strip()
        scope = f"{TAG_PREFIX}{given['tag'].strip()}" if given["scope"] == "tag" else given["scope"]
        return {"scope": scope, "value": value or None}


class BudgetSettingsForm(forms.Form):
    """What of a budget may change."""

    name = forms.CharField(max_length=120, required=False, label="Name")
    cap = forms.CharField(max_length=20, label="Cap")
    strategy = forms.ChoiceField(choices=STRATEGIES, label="At the cap")
    alert_percent = forms.CharField(max_length=3, required=False, label="Alert at %", initial="70")
    throttle_percent = forms.CharField(max_length=3, required=False, label="Slow down at %")
    kill_percent = forms.CharField(max_length=3, required=False, label="Stop at %", initial="100")

    throttle_per_minute = forms.CharField(
        max_length=7,
        required=False,
        label="When slow, calls a minute",
        help_text="Empty: what is left, spread evenly over the period.",
    )
    notify = forms.CharField(
        max_length=60,
        required=False,
        label="Record when it passes",
        help_text="Percents, separated by commas.",
        initial=", ".join(map(str, DEFAULT_NOTIFY)),
    )
    reset_day = forms.CharField(
        max_length=2, required=False, label="Resets on day", help_text="Of the month, or of the week (1 is Monday)."
    )
    on_tight = forms.ChoiceField(choices=TIGHT, required=False, label="What becomes of the call")
    message = forms.CharField(
        max_length=300, required=False, label="What its caller is told", help_text="Stands in the refusal."
    )
    upgrade_url = forms.CharField(max_length=300, required=False, label="Link for more")

    def settings(self) -> dict[str, Any]:
        """The keywords of `actions.update_budget`: those that were sent."""
        given = {name: text.strip() for name, text in self.cleaned_data.items() if name in self.data}
        percents = ("alert_percent", "throttle_percent", "kill_percent")
        read: dict[str, Any] = {
            "cap": given["cap"].removeprefix("$"),
            "strategy": given["strategy"],
            **{name: given.get(name) or None for name in percents},
            **{name: given[name] for name in ("message", "upgrade_url") if name in given},
            **{name: given[name] for name in ("on_tight", "reset_day") if given.get(name)},
        }
        if "throttle_per_minute" in given:
            read["throttle_per_minute"] = given["throttle_per_minute"] or 0
        if "notify" in given:
            read["notify"] = [part.strip().removesuffix("%") for part in given["notify"].split(",") if part.strip()]
        return read


class BudgetForm(ScopeForm, BudgetSettingsForm):
    unit = forms.ChoiceField(choices=UNITS, label="In", initial=Unit.USD.value)
    period = forms.ChoiceField(choices=PERIODS, label="Per", initial=Period.MONTH.value)

    def settings(self) -> dict[str, Any]:
        read = super().settings()
        if self.cleaned_data["period"] not in RESET_DAYS:  # its field is hidden then
            read.pop("reset_day", None)
        return read


class RateLimitSettingsForm(forms.Form):
    limit = forms.CharField(max_length=16, label="At most")


class RateLimitForm(ScopeForm, RateLimitSettingsForm):
    metric = forms.ChoiceField(choices=METRICS, label="Of")


class AmountForm(forms.Form):
    """The one number of a preset."""

    cap = forms.CharField(max_length=20, label="Dollars")


UNTIL_RESET = "reset"
_LASTS = (("1", "one day"), ("3", "three days"), ("7", "a week"), ("30", "thirty days"))


class RaiseForm(forms.Form):
    """A temporary raise of one budget."""

    amount = forms.CharField(max_length=20, label="How much more")
    lasts = forms.ChoiceField(label="For")
    reason = forms.CharField(max_length=300, label="Why")

    def __init__(self, *arguments: Any, resets: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        until = ((UNTIL_RESET, f"until it resets ({resets})"),) if resets else ()
        self.fields["lasts"].choices = [*until, *_LASTS]  # type: ignore[attr-defined]


def beside(error: Refused, form: forms.Form) -> Refused:
    """The refusal beside the field of the form that says what the limit is on."""
    if error.field == "value" and form.cleaned_data.get("scope", "") == Dimension.VIRTUAL_KEY:
        error.field = "key"
    elif error.field == "scope" and form.cleaned_data.get("scope") == "tag":
        error.field = "tag"
    elif error.field == "value" and not form.cleaned_data.get("scope"):
        error.field = "scope"
    return error

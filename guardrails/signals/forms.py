"""Forms of the alert pages. They carry what was typed; what may be is decided by the actions."""

from __future__ import annotations

from typing import Any

from django import forms

from guardrails.signals.models import EndpointKind, Pace

_PACES = (
    (Pace.IMMEDIATE.value, "At once"),
    (Pace.DAILY.value, "Once a day, in one mail"),
    (Pace.OFF.value, "Not by mail"),
)
_EVERY, _SOME = "every", "some"


class PreferenceForm(forms.Form):
    mail = forms.ChoiceField(choices=_PACES, label="Mail me alerts")
    which = forms.ChoiceField(
        choices=((_EVERY, "Every budget"), (_SOME, "Only these")), label="About", widget=forms.Select, required=False
    )
    budgets = forms.MultipleChoiceField(
        required=False, label="Budgets", widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"})
    )
    weekly = forms.BooleanField(required=False, label="Mail me the week in numbers, Monday mornings")
    quiet_from = forms.CharField(
        required=False, max_length=5, label="Quiet from", widget=forms.TextInput(attrs={"type": "time"})
    )
    quiet_to = forms.CharField(
        required=False, max_length=5, label="Until", widget=forms.TextInput(attrs={"type": "time"})
    )
    wake_for_critical = forms.BooleanField(required=False, label="Wake me all the same when calls are refused")

    def __init__(self, *arguments: Any, budgets: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["budgets"].choices = budgets  # type: ignore[attr-defined]

    def wanted(self) -> dict[str, Any]:
        """As `actions.set_preference` takes it."""
        given = self.cleaned_data
        return {
            "mail": given["mail"],
            "budgets": list(given["budgets"]) if given["which"] == _SOME else None,
            "weekly": given["weekly"],
            "quiet_from": given["quiet_from"] or None,
            "quiet_to": given["quiet_to"] or None,
            "wake_for_critical": given["wake_for_critical"],
        }


class SpendLineForm(forms.Form):
    line = forms.CharField(
        required=False, max_length=20, label="The month’s amount",
        help_text="Empty: the line is your monthly budget, or without one all of last month.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip


class EndpointForm(forms.Form):
    kind = forms.ChoiceField(choices=EndpointKind.choices, label="Kind")
    name = forms.CharField(max_length=80, label="Name")
    url = forms.CharField(
        max_length=500, label="Address", help_text="A webhook of yours, or the incoming webhook that Slack gave you.",
        widget=forms.URLInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip


class EndpointChangeForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")
    url = forms.CharField(
        max_length=500, required=False, label="Another address", help_text="Empty: it stays.",
        widget=forms.URLInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip

"""The form of the anomalies' settings. It carries what was typed; what may be is decided by the actions."""

from __future__ import annotations

from typing import Any

from django import forms

from billing.domain.money import usd_text
from guardrails.anomalies.models import Wishes
from guardrails.anomalies.telling import LABELS
from guardrails.domain.anomalies.kinds import Kind, Response, Sensitivity

_RESPONSES = (
    (Response.NOTIFY.value, "Tell us"), (Response.THROTTLE.value, "Tell us and slow it down"),
    (Response.PAUSE_KEY.value, "Tell us and pause its key"), (Response.OFF.value, "Nothing"),
)  # fmt: skip
_SENSITIVITIES = (
    (Sensitivity.LOW.value, "Only what is far out"), (Sensitivity.NORMAL.value, "Normal"), (Sensitivity.HIGH.value, "A little early"),
)  # fmt: skip
_NUMBER = {"inputmode": "numeric", "autocomplete": "off"}


class WishesForm(forms.Form):
    least = forms.CharField(
        max_length=20, label="From how many dollars on", widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        help_text="What an incident costs above habit; of a loop, what it would cost in a week.",
    )  # fmt: skip
    sensitivity = forms.ChoiceField(choices=_SENSITIVITIES, label="How strict")
    throttle_per_minute = forms.CharField(
        max_length=9, label="Slowed down means, calls a minute", widget=forms.TextInput(attrs=_NUMBER)
    )
    throttle_minutes = forms.CharField(
        max_length=6, label="For how many minutes", widget=forms.TextInput(attrs=_NUMBER)
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for kind in Kind:
            self.fields[f"on_{kind.value}"] = forms.ChoiceField(choices=_RESPONSES, label=LABELS[kind])

    @property
    def responses(self) -> list[forms.BoundField]:
        return [self[f"on_{kind.value}"] for kind in Kind]

    def wanted(self) -> dict[str, Any]:
        """As `actions.set_wishes` takes it."""
        given = self.cleaned_data
        return {
            "least": given["least"].strip().removeprefix("$").replace(",", ""), "sensitivity": given["sensitivity"],
            "responses": {kind.value: given[f"on_{kind.value}"] for kind in Kind},
            "throttle_per_minute": given["throttle_per_minute"], "throttle_minutes": given["throttle_minutes"],
        }  # fmt: skip

    @staticmethod
    def initial_of(row: Wishes) -> dict[str, Any]:
        responses = {f"on_{kind.value}": row.responses.get(kind, Response.NOTIFY.value) for kind in Kind}
        return {
            "least": usd_text(row.least_nano), "sensitivity": row.sensitivity, "throttle_per_minute": row.throttle_per_minute,
            "throttle_minutes": row.throttle_minutes, **responses,
        }  # fmt: skip

"""What people type about where calls go. Forms only parse; `workspaces.actions` decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from workspaces.domain import routes
from workspaces.domain.routes import Condition
from workspaces.routes.models import Alias
from workspaces.vault.models import ProviderCredential

SAID = {
    Condition.UNREACHABLE: "the provider cannot be reached (nothing was sent)",
    Condition.RATE_LIMITED: "it answers 429",
    Condition.SERVER_ERROR: "it answers 5xx or 408",
    Condition.CREDENTIAL_REFUSED: "it refuses the key (401, 403)",
    Condition.BREAKER_OPEN: "the credential has failed repeatedly just now",
    Condition.NO_ANSWER: "it was asked and gives no answer: it may have been billed, and another attempt may be paid again",
}
_WITH = " with "


def _conditions_field(label: str) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        required=False,
        choices=[(condition.value, said) for condition, said in SAID.items()],
        label=label,
        initial=sorted(routes.DEFAULT_CONDITIONS),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )


class AliasForm(forms.Form):
    name = forms.CharField(
        max_length=100, label="Name", help_text="What applications ask for. It may be the name of a model."
    )
    targets = forms.CharField(
        max_length=routes.MOST_TARGETS * 320,
        label="Goes to",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One a line, in the order of trying: openai/gpt-4o-mini. With one credential only: openai/gpt-4o-mini with second.",
    )
    fallback_on = _conditions_field("Moves on to the next when")

    def __init__(self, *arguments: Any, credentials: Sequence[ProviderCredential], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._credentials = {(one.provider, one.name): str(one.id) for one in credentials}

    def clean_targets(self) -> list[dict[str, Any]]:
        """As `actions.create_alias` takes them."""
        lines = [line.strip() for line in self.cleaned_data["targets"].splitlines() if line.strip()]
        return [self._target(line) for line in lines]

    def _target(self, line: str) -> dict[str, Any]:
        place, said, credential = line.partition(_WITH)
        provider, _, model = place.strip().partition("/")
        found = None
        if said:
            found = self._credentials.get((provider, credential.strip()))
            if found is None:
                raise forms.ValidationError(f"There is no credential “{credential.strip()[:80]}” of {provider[:40]}.")
        return {"provider": provider, "model": model, "credential": found}

    def wanted(self) -> dict[str, Any]:
        """The keywords of `actions.create_alias`."""
        return {name: self.cleaned_data[name] for name in ("name", "targets", "fallback_on")}


def as_typed(row: Alias, credentials: Sequence[ProviderCredential]) -> dict[str, Any]:
    """What the form shows of an alias. A credential that is gone is shown as such, so that it is not lost silently."""
    names = {str(one.id): one.name for one in credentials}
    lines = [
        target.name + (f"{_WITH}{names.get(target.credential, '(deleted)')}" if target.credential else "")
        for target in row.compiled().targets
    ]
    return {"name": row.name, "targets": "\n".join(lines), "fallback_on": row.fallback_on}


class RulesForm(forms.Form):
    retries = forms.IntegerField(
        min_value=0,
        max_value=routes.MOST_RETRIES,
        label="Repeat a failed attempt",
        help_text="Times, where it cost nothing and there is nowhere else to go. 0: never.",
    )
    pause_ms = forms.IntegerField(
        min_value=0,
        max_value=routes.LONGEST_PAUSE_MS,
        label="First pause (ms)",
        help_text="Doubled for each further repetition.",
    )
    max_wait_ms = forms.IntegerField(
        min_value=0,
        max_value=routes.LONGEST_WAIT_MS,
        label="Longest wait (ms)",
        help_text="A provider’s Retry-After beyond it is passed on to the application.",
    )
    fallback_on = _conditions_field("A model without an alias moves to another credential of its provider when")

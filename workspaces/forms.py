"""What people type into the pages of a workspace. Forms only parse; what may be is decided by `workspaces.actions`, whose refusals land beside
the fields (`views.frame.refuse`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workspaces import zones
from workspaces.actions.virtual_keys import PINNABLE
from workspaces.domain.currencies import DOLLARS, SIGNS
from workspaces.domain.providers import PROVIDERS
from workspaces.models import Membership, Role, VirtualKey, Workspace

SETTINGS = {setting.name: setting for access in PROVIDERS.values() for setting in access.settings}
"""What some providers need beside the key, by name: no two providers mean different things by one."""
ENVIRONMENTS = ("production", "staging", "development", "test")


def zone_choices() -> list[tuple[str, str]]:
    """Every place-named zone, and UTC first."""
    return [("UTC", "UTC"), *((zone, zone.replace("_", " ")) for zone in zones.places())]


class ZoneSelect(forms.Select):
    """Django renders each option by a template: with five hundred zones that is most of a page's time."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        given = "" if value is None else str(value)
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            ((zone, SafeString(" selected") if zone == given else "", title) for zone, title in self.choices),
        )
        return format_html(
            "<select{}>{}</select>", flatatt({**self.build_attrs(self.attrs, attrs), "name": name}), options
        )


class ZoneField(forms.CharField):
    """A choice among the zones that keeps what it was given: the list of zones is the action's to check."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            label="Time zone",
            help_text="Days, months and budgets begin at its midnight.",
            widget=ZoneSelect(choices=zone_choices()),
            **options,
        )


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")
    slug = forms.CharField(
        max_length=40, required=False, label="Address", help_text="Small letters, digits and hyphens."
    )
    time_zone = ZoneField(initial="UTC")


class SettingsForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")
    time_zone = ZoneField()


class DisplayForm(forms.Form):
    currency = forms.ChoiceField(
        choices=[(DOLLARS, "US dollars, as in the books"), *((name, name) for name in SIGNS)],
        label="Show amounts in",
        help_text="On pages only, and marked with ≈. Books, budgets, exports, mails and the API stay in dollars.",
    )
    rate = forms.CharField(
        required=False,
        max_length=20,
        label="Rate",
        help_text="How much of it a dollar is, like 0.92. You enter it, so you know which rate it is; it does not follow the market.",
    )
    calls_shown_days = forms.TypedChoiceField(
        choices=[("", "For good"), *((days, f"{days} days") for days in (30, 90, 180, 400))],
        coerce=int,
        empty_value=None,
        required=False,
        label="Single calls are kept",
        help_text="Older ones are out of sight at once, and deleted for good from a day later on (not before their month is over). Sums stay.",
    )


class DeleteWorkspaceForm(forms.Form):
    typed_slug = forms.CharField(label="Address", required=False)

    def __init__(self, *arguments: Any, workspace: Workspace, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["typed_slug"].label = f"Type “{workspace.slug}” to confirm"


class ProfileForm(forms.Form):
    name = forms.CharField(max_length=100, required=False, label="Name")


class VirtualKeyForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")
    environment = forms.ChoiceField(choices=[(name, name) for name in ENVIRONMENTS], initial="production")
    member_id = forms.ChoiceField(
        required=False, label="Owner", help_text="Every call with this key counts as this member’s."
    )
    agent = forms.CharField(max_length=80, required=False, help_text="Every call with this key counts as this agent’s.")
    department = forms.CharField(max_length=80, required=False, help_text="And as this department’s.")
    allowed_models = forms.CharField(
        required=False,
        max_length=8000,
        label="Allowed models",
        help_text="Separated by commas. Empty: every model your providers have.",
    )
    output_limit = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=10_000_000,
        label="Output limit",
        help_text="Tokens asked for where a call sets no limit of its own.",
    )
    expires_on = forms.DateField(
        required=False,
        label="Last day",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The key is refused after it.",
    )

    may_override = forms.MultipleChoiceField(
        required=False,
        choices=[(name, name) for name in PINNABLE],
        label="A call may say otherwise about",
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
        help_text="What is fixed here holds for every call, unless its headers may override it.",
    )

    def __init__(
        self, *arguments: Any, zone: str, members: Sequence[Membership], key: VirtualKey | None = None, **options: Any
    ) -> None:
        """`key`: the one that is changed; its environment stays among the choices whatever it is called."""
        if key is not None:
            options["initial"] = _as_typed(key, ZoneInfo(zone))
        super().__init__(*arguments, **options)
        self._zone = ZoneInfo(zone)
        named = [(str(one.id), one.user.name or one.user.email) for one in members]
        self.fields["member_id"].choices = [("", "nobody in particular"), *named]  # type: ignore[attr-defined]
        if key is not None and key.environment not in ENVIRONMENTS:
            self.fields["environment"].choices += [(key.environment, key.environment)]  # type: ignore[attr-defined]

    def wanted(self) -> dict[str, Any]:
        """The keywords of `actions.create_virtual_key`."""
        given = self.cleaned_data
        day = given["expires_on"]
        ends = None if day is None else datetime.combine(day + timedelta(days=1), time(), self._zone).astimezone(UTC)
        return {
            "name": given["name"],
            "environment": given["environment"],
            "member_id": given["member_id"],
            "agent": given["agent"],
            "department": given["department"],
            "may_override": given["may_override"],
            "allowed_models": [name.strip() for name in given["allowed_models"].split(",") if name.strip()],
            "output_limit": given["output_limit"],
            "expires_at": ends,
        }

    @property
    def is_detailed(self) -> bool:
        """Whether something beyond name and environment was typed or is wrong, so that the page shows it."""
        more = ("member_id", "agent", "department", "may_override", "allowed_models", "output_limit", "expires_on")
        return self.is_bound and any(self.data.get(name) or name in self.errors for name in more)


def _as_typed(key: VirtualKey, zone: ZoneInfo) -> dict[str, Any]:
    """What a key is, as somebody would have typed it. A key that ends at a midnight has the day before as its last."""
    ends = key.expires_at
    return {
        "name": key.name,
        "environment": key.environment,
        "member_id": str(key.member_id or ""),
        "agent": key.agent,
        "department": key.department,
        "may_override": key.may_override,
        "allowed_models": ", ".join(key.allowed_models),
        "output_limit": key.output_limit,
        "expires_on": None if ends is None else (ends.astimezone(zone) - timedelta(microseconds=1)).date(),
    }


class RotationForm(forms.Form):
    """How long the old key works beside the new one."""

    grace_hours = forms.TypedChoiceField(
        label="The old key works for",
        coerce=int,
        choices=[(0, "not one more call"), (1, "an hour"), (24, "a day"), (168, "a week"), (720, "30 days")],
        initial=24,
    )


class SecretForm(forms.Form):
    """A provider key in place of another one."""

    secret = forms.CharField(
        max_length=8192,
        label="New key",
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "data-1p-ignore": "", "data-lpignore": "true"}),
        help_text="Sealed at once, and used from the next call on.",
    )


class NameForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")


class AgentForm(NameForm):
    department_id = forms.ChoiceField(required=False, label="Department")

    def __init__(self, *arguments: Any, departments: Mapping[UUID, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        named = [(str(key), name) for key, name in departments.items()]
        self.fields["department_id"].choices = [("", "none"), *named]  # type: ignore[attr-defined]


class CredentialForm(forms.Form):
    provider = forms.CharField(max_length=32)
    secret = forms.CharField(
        required=False,
        max_length=8192,
        label="Key",
        strip=True,
        # A password field that never sends its value back: a refused form asks for the key again.
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "data-1p-ignore": "", "data-lpignore": "true"}),
        help_text="Pasted once, sealed at once. Simulators and private models may need none.",
    )
    base_url = forms.CharField(
        required=False, max_length=300, label="Base URL", help_text="Where a compatible API lives, up to and with /v1."
    )
    name = forms.CharField(
        max_length=80, initial="default", label="Name", help_text="To tell two keys of one provider apart."
    )
    environment = forms.ChoiceField(
        required=False, choices=[("", "every environment"), *((name, name) for name in ENVIRONMENTS)]
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for setting in SETTINGS.values():
            self.fields[setting.name] = forms.CharField(
                required=False, max_length=2000, label=setting.title, help_text=setting.hint, initial=setting.default
            )

    def settings_of(self, provider: str) -> dict[str, str]:
        """What was typed of the settings that a provider has."""
        access = PROVIDERS.get(provider)
        return {setting.name: self.cleaned_data[setting.name] for setting in access.settings} if access else {}


class InvitationForm(forms.Form):
    email = forms.EmailField(max_length=254, label="E-mail")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.MEMBER)

    def __init__(self, *arguments: Any, roles: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["role"].choices = roles  # type: ignore[attr-defined]


class ApiTokenForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name")
    scopes = forms.MultipleChoiceField(
        label="It may",
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
        error_messages={"required": "Choose at least one."},
    )

    def __init__(self, *arguments: Any, scopes: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["scopes"].choices = scopes  # type: ignore[attr-defined]

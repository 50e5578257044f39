"""What people and API clients write, read strictly: amounts, percents, scopes. Each refusal names its field and says what to write."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from billing.domain.attribution import BadAttribution, parse_tags
from billing.domain.attribution import checked as checked_value
from billing.domain.dimensions import OTHER, Dimension
from billing.domain.money import BadAmount, parse_cap_usd
from guardrails.domain.budgets import MAX_CAP, TAG_PREFIX, WORKSPACE_SCOPE, Unit
from workspaces.errors import Invalid
from workspaces.models import VirtualKey, Workspace

Word = TypeVar("Word", bound=StrEnum)


def amount(value: Any, unit: Unit, *, field: str = "cap") -> int:
    """A cap or raise: dollars as plain text ("50", "0.25") for money, a whole number for tokens and calls."""
    if unit is Unit.USD:
        if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
            raise Invalid("Write the amount in dollars as a plain number, like 50 or 0.25.", field=field)
        try:
            return parse_cap_usd(value)
        except BadAmount as error:
            text = str(error)
            raise Invalid(f"{text[0].upper()}{text[1:]}.", field=field) from None
    return whole(value, low=1, high=MAX_CAP, field=field)


def whole(value: Any, *, low: int, high: int, field: str) -> int:
    """A whole number in ASCII digits."""
    text = (
        str(value).strip() if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) else ""
    )
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise Invalid(f"Write a whole number from {low:,} to {high:,}.", field=field)
    return int(text)


def percent(value: Any, *, field: str) -> int | None:
    """1 to 100, or None for a stage that is switched off."""
    return None if value is None or value == "" else whole(value, low=1, high=100, field=field)


def thresholds(alert: int | None, throttle: int | None, kill: int | None) -> None:
    """Alert before throttle before kill, where they are on."""
    on = [(name, at) for name, at in (("alert", alert), ("throttle", throttle), ("kill", kill)) if at is not None]
    for (name, at), (next_name, next_at) in pairwise(on):
        if at > next_at:
            raise Invalid(
                f"The {name} threshold ({at}%) must not be above the {next_name} threshold ({next_at}%).",
                field=f"{name}_percent",
            )


def notify(values: Any) -> list[int]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) > 10:
        raise Invalid("Write a list of at most ten percents, like [50, 75, 90, 100].", field="notify")
    return sorted({whole(value, low=1, high=100, field="notify") for value in values})


def one_of(kind: type[Word], value: Any, *, field: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        raise Invalid(f"Choose among: {', '.join(kind)}.", field=field) from None


def scope(workspace: Workspace, by: Any, value: Any) -> tuple[str, str | None]:
    """(dimension, "tag:<name>" or "" for the workspace; its value, None for each value, "" for the workspace)."""
    if by in (WORKSPACE_SCOPE, "workspace", None):
        if value not in ("", None):
            raise Invalid("The whole workspace has no value to choose.", field="value")
        return WORKSPACE_SCOPE, ""
    if not isinstance(by, str) or (by not in set(Dimension) and not by.startswith(TAG_PREFIX)):
        raise Invalid(f"Choose workspace, {', '.join(Dimension)} or tag:<name>.", field="scope")
    if by.startswith(TAG_PREFIX):
        by = TAG_PREFIX + _tag_name(by[len(TAG_PREFIX) :])
    if value is None:
        return by, None
    if not isinstance(value, str):
        raise Invalid("Write the value as text, or leave it out for each value.", field="value")
    try:
        value = checked_value("value", value)
    except BadAttribution as error:
        if value.strip() != OTHER:
            raise Invalid(f"{error}.", field="value") from None
    key_id = _uuid(value) if by == Dimension.VIRTUAL_KEY else None
    if by == Dimension.VIRTUAL_KEY and not (
        key_id and VirtualKey.objects.filter(workspace=workspace, pk=key_id).exists()
    ):
        raise Invalid("There is no such virtual key in this workspace.", field="value")
    return by, value


def upgrade_url(value: Any) -> str:
    """Shown to people who are refused: a web address, or nothing."""
    if value in ("", None):
        return ""
    parts = (
        urlsplit(value)
        if isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= 300
        else None
    )
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise Invalid("Write a web address, like https://example.com/upgrade.", field="upgrade_url")
    return str(value)


def _tag_name(name: str) -> str:
    try:
        (parsed,) = parse_tags("scope", f"{name}=x")
    except (BadAttribution, ValueError):
        raise Invalid("Write a tag as tag:<name>, with letters, digits, '_', '-' and '.'.", field="scope") from None
    return parsed


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

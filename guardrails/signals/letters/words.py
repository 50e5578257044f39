"""Amounts, moments and lists as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from billing.domain.money import NANO_PER_USD, show_usd
from guardrails import shown
from guardrails.domain.budgets import Unit


def moment(iso: str | None, zone: ZoneInfo, *, utc: bool = False) -> str:
    """ "Sat 21 Nov, 14:02 CET", with UTC beside it where asked and different."""
    if not iso:
        return ""
    at = datetime.fromisoformat(iso)
    local = at.astimezone(zone)
    text = f"{local:%a} {local.day} {local:%b}, {local:%H:%M} {local.tzname()}"
    if utc and local.utcoffset():
        text += f" ({at.astimezone(UTC):%H:%M} UTC)"
    return text


def day(iso: str) -> str:
    on = date.fromisoformat(iso)
    return f"{on:%a} {on.day} {on:%b}"


def amount(value: int, unit: str) -> str:
    return shown.amount(value, Unit(unit))


def about(nano: int) -> str:
    """An estimate, to three significant digits: "$2,410", "$18.50"."""
    digits = len(str(max(1, abs(nano)))) - 3
    rounded = round(nano, -digits) if digits > 0 else nano
    text = show_usd(rounded)
    return text.removesuffix(".00") if abs(rounded) >= 100 * NANO_PER_USD else text


def of(used: int, cap: int, unit: str) -> str:
    return f"{amount(used, unit) if unit == Unit.USD else f'{used:,}'} of {amount(cap, unit)}"


def listed(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def signed(nano: int) -> str:
    return f"{'+' if nano >= 0 else '−'}{show_usd(abs(nano))}"

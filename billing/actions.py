"""Writing a workspace's own prices. Atomic, audited; the policy version rises with each, so admission prices the next call by it.

What has begun is history: it can be ended, and another price can follow, but calls that were charged by it stay explained by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.utils import timezone

from billing.domain.pricing import PriceBook
from billing.domain.rates import STANDARD
from billing.models import PriceKind, PriceOverride
from billing.overrides import book_row, compiled, in_force
from billing.prices import default_book
from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity, words
from workspaces.audit import Actor
from workspaces.domain.providers import PROVIDERS
from workspaces.errors import Invalid, NotThere, WrongState
from workspaces.models import Workspace

MOST_PRICES = 500
MOST_RATES = 60
TIERS = (STANDARD, "batch", "flex", "priority", "fast")
DEAREST = Decimal(1_000_000)
"""Dollars per unit printed; what costs more is a slip of the decimal point."""
OLDEST = timedelta(days=399)
"""The books are closed after that: nothing older can be re-rated."""
MOST_TOKENS = 100_000_000


def create_price(
    *,
    workspace: Workspace,
    by: Actor,
    provider: str,
    model: str = "*",
    discount_percent: Any = None,
    rates: Mapping[str, Any] | None = None,
    free: bool = False,
    tier: str = STANDARD,
    context_window: int | None = None,
    max_output_tokens: int | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    note: str = "",
) -> PriceOverride:
    """One of: `discount_percent` off the list, own `rates` ({unit: "dollars"}), or `free`. From now on unless `valid_from` says otherwise;
    a time in the past changes what the calls since then should have cost, which `manage.py rerate` books."""
    now = timezone.now()
    kind = _kind(discount_percent, rates, free)
    row = PriceOverride(
        workspace_id=workspace.pk,
        kind=kind,
        provider=_provider(provider, kind),
        model=_model(model, kind),
        discount_percent=_percent(discount_percent) if kind == PriceKind.DISCOUNT else None,
        rates=_rates(rates or {}) if kind == PriceKind.RATES else {},
        tier=_tier(tier, kind),
        context_window=_size(context_window, "context_window"),
        max_output_tokens=_size(max_output_tokens, "max_output_tokens"),
        valid_from=_begins(valid_from, now),
        valid_to=None,
        note=words(note, field="note", longest=200, required=False),
        created_at=now,
        created_by=by.name[:254],
    )
    row.valid_to = _ends(valid_to, row.valid_from)
    with changing(workspace):
        others = in_force(workspace)
        if len(others) >= MOST_PRICES:
            raise Invalid(f"A workspace has at most {MOST_PRICES} prices of its own.")
        _must_compile([*others, row])
        row.save(force_insert=True)
        _announce(workspace, by, "price.create", row, {}, shown(row))
    return row


def change_price(
    *,
    workspace: Workspace,
    by: Actor,
    price_id: UUID | str,
    valid_to: datetime | None = None,
    until_further_notice: bool = False,
    note: str | None = None,
) -> PriceOverride:
    """When it ends (now or later, or with `until_further_notice` not at all), and its note. Another price is another row."""
    now = timezone.now()
    with changing(workspace):
        row = _found(workspace, price_id)
        before = shown(row)
        if note is not None:
            row.note = words(note, field="note", longest=200, required=False)
        if until_further_notice or valid_to is not None:
            if row.valid_to is not None and row.valid_to <= now:
                raise WrongState("This price has ended.", hint="Make another one.")
            if valid_to is not None and valid_to < now - timedelta(minutes=1):
                raise Invalid("It was valid until now: calls were charged by it.", field="valid_to")
            row.valid_to = None if until_further_notice else _ends(valid_to, row.valid_from)
        if shown(row) != before:
            row.save(update_fields=["note", "valid_to"])
            _announce(workspace, by, "price.change", row, before, shown(row))
    return row


def end_price(*, workspace: Workspace, by: Actor, price_id: UUID | str) -> None:
    """Ends it now; one that has not begun is removed. Ending twice changes nothing."""
    now = timezone.now().replace(microsecond=0)
    with changing(workspace):
        row = _found(workspace, price_id)
        before = shown(row)
        if row.valid_from > now:
            row.delete()
            _announce(workspace, by, "price.delete", row, before, {})
        elif row.valid_to is None or row.valid_to > now:
            row.valid_to = max(now, row.valid_from)
            row.save(update_fields=["valid_to"])
            _announce(workspace, by, "price.end", row, before, shown(row))


def shown(row: PriceOverride) -> dict[str, Any]:
    """For the audit log: all that decides a charge."""
    facts = {
        "kind": row.kind,
        "provider": row.provider,
        "model": row.model,
        "discount_percent": None if row.discount_percent is None else format(row.discount_percent.normalize(), "f"),
        "rates": row.rates,
        "tier": row.tier,
        "context_window": row.context_window,
        "max_output_tokens": row.max_output_tokens,
        "valid_from": row.valid_from.isoformat(),
        "valid_to": row.valid_to.isoformat() if row.valid_to else None,
        "note": row.note,
    }
    return {name: value for name, value in facts.items() if value not in (None, "", {})}


def _announce(
    workspace: Workspace, by: Actor, action: str, row: PriceOverride, before: dict[str, Any], after: dict[str, Any]
) -> None:
    policy_signal.bump(workspace)
    audit.record(workspace=workspace, by=by, action=action, target=str(row.id), before=before, after=after)


def _found(workspace: Workspace, price_id: UUID | str) -> PriceOverride:
    row = PriceOverride.objects.filter(workspace_id=workspace.pk, pk=identity(price_id)).first()
    if row is None:
        raise NotThere("There is no such price in this workspace.")
    return row


def _must_compile(rows: list[PriceOverride]) -> PriceBook:
    """What the book refuses is refused here, not at a call."""
    try:
        return compiled([book_row(row) for row in rows])
    except ValueError as error:
        raise Invalid(f"This price cannot be used: {error}.") from error


# --- What people write ------------------------------------------------------------------------------------------------
def _kind(discount: Any, rates: Any, free: bool) -> PriceKind:
    wanted = [
        kind
        for kind, asked in (
            (PriceKind.DISCOUNT, discount is not None),
            (PriceKind.RATES, rates is not None),
            (PriceKind.FREE, bool(free)),
        )
        if asked
    ]
    if len(wanted) != 1:
        raise Invalid("Write exactly one of discount_percent, rates or free.", field="kind")
    return wanted[0]


def _provider(value: Any, kind: PriceKind) -> str:
    name = words(value, field="provider", longest=32).lower()
    if name == "*" and kind is not PriceKind.DISCOUNT:
        raise Invalid("Only a discount can be for all providers.", field="provider")
    if name != "*" and name not in PROVIDERS and not default_book().knows(name):
        raise Invalid(f"There is no such provider. Write one of {', '.join(sorted(PROVIDERS))}.", field="provider")
    return name


def _model(value: Any, kind: PriceKind) -> str:
    name = words(value, field="model", longest=200).lower()
    if name == "*" and kind is PriceKind.RATES:
        raise Invalid("Rates are of one model each.", field="model")
    return name


def _percent(value: Any) -> Decimal:
    percent = _decimal(value, "discount_percent")
    if not 0 < percent <= 100 or percent != percent.quantize(Decimal("0.0001")):
        raise Invalid("Write a percentage above 0, to 100, with at most four decimals.", field="discount_percent")
    return percent


def _rates(values: Any) -> dict[str, str]:
    known = default_book().units
    if not isinstance(values, Mapping) or not 0 < len(values) <= MOST_RATES:
        raise Invalid('Write rates like {"input_uncached": "0.15", "output_text": "0.60"}.', field="rates")
    unknown = sorted(str(unit)[:40] for unit in values if unit not in known)
    if unknown:
        raise Invalid(f"There is no unit {unknown[0]!r}. Write one of {', '.join(sorted(known))}.", field="rates")
    return {str(unit): _amount(values[unit]) for unit in sorted(values)}


def _amount(value: Any) -> str:
    amount = _decimal(value, "rates")
    if not 0 <= amount <= DEAREST or amount != amount.quantize(Decimal("1e-12")):
        raise Invalid(f"A rate is from 0 to {DEAREST} dollars, with at most twelve decimals.", field="rates")
    return format(amount.normalize(), "f")


def _decimal(value: Any, field: str) -> Decimal:
    """Plain digits: an amount in another form has been read as another amount than the writer meant."""
    text = str(value).strip() if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""
    if not text or len(text) > 24 or not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise Invalid("Write a plain number as text, like 0.15.", field=field)
    try:
        return Decimal(text)
    except InvalidOperation:
        raise Invalid("Write a plain number as text, like 0.15.", field=field) from None


def _tier(value: Any, kind: PriceKind) -> str:
    if value not in TIERS or (value != STANDARD and kind is not PriceKind.RATES):
        raise Invalid(f"Choose among: {', '.join(TIERS)}; only rates have a tier.", field="tier")
    return str(value)


def _size(value: Any, field: str) -> int | None:
    if value is not None and (type(value) is not int or not 0 < value <= MOST_TOKENS):
        raise Invalid(f"Write a whole number of tokens from 1 to {MOST_TOKENS:,}.", field=field)
    return value


def _begins(value: datetime | None, now: datetime) -> datetime:
    """Whole seconds: a price book knows no finer ones."""
    moment = now if value is None else value
    if timezone.is_naive(moment):
        raise Invalid("Write a time with its zone, like 2026-12-01T00:00:00Z.", field="valid_from")
    if moment < now - OLDEST:
        raise Invalid(f"At most {OLDEST.days} days back: older books are closed.", field="valid_from")
    return moment.replace(microsecond=0)


def _ends(value: datetime | None, begins: datetime) -> datetime | None:
    if value is None:
        return None
    if timezone.is_naive(value) or value <= begins:
        raise Invalid("It must end after it begins.", field="valid_to")
    return value.replace(microsecond=0)

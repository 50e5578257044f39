"""Usage and rates -> money. Exact rationals, rounded up once; the provider's own price first, and compared with ours.

A price that cannot be known is None, never a silent zero: an unknown model, tier or unit, a contract tier, container time.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec

from billing.domain.book import PriceBook
from billing.domain.events import PriceStatus
from billing.domain.extraction.record import Usage
from billing.domain.money import NANO_PER_USD, ceil_nano, ceil_ratio, usd_text
from billing.domain.rates import PER, PER_THOUSAND, Compiled, ModelMeta, Rates

__all__ = ["ModelMeta", "PriceBook", "Priced", "Rates", "price"]


_A_MILLION = 1_000_000


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a bill: so many of a unit at a rate."""

    unit: str
    quantity: int
    rates: Compiled
    model: str = ""

    @property
    def nano(self) -> Fraction:
        return Fraction(self.quantity * self.rates.numerators[self.unit], self.rates.denominator)

    def as_plain(self) -> dict[str, str | int]:
        unit, quantity, rates = self.unit, self.quantity, self.rates
        per = PER.get(unit, PER_THOUSAND)
        numerator, denominator = quantity * rates.numerators[unit], rates.denominator
        # Most rates are whole nano-dollars for each unit.
        cost = usd_text(numerator) if denominator == 1 else _nano_text(numerator, denominator)
        if per == _A_MILLION and not self.model:
            return {"unit": unit, "quantity": quantity, "rate_per_m_usd": rates.printed[unit], "cost_usd": cost}
        rate_name = "rate_per_m_usd" if per == _A_MILLION else "rate_usd"
        plain: dict[str, str | int] = {"unit": unit, "quantity": quantity, rate_name: rates.printed[unit]}
        if per != _A_MILLION:
            plain["per"] = per
        if self.model:
            plain["model"] = self.model
        plain["cost_usd"] = cost
        return plain


class Priced(msgspec.Struct, frozen=True, gc=False):
    """What a call costs. `cost_nano` is None when it cannot be known; `known_nano` is then the part that is."""

    cost_nano: int | None
    status: PriceStatus
    known_nano: int = 0
    flags: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    stated_usd: str = ""

    @property
    def breakdown(self) -> list[dict[str, str | int]]:
        """The lines as plain values for the ledger (made on demand: the hot path does not pay for it)."""
        if self.stated_usd:
            return [
                {"unit": "provider_stated", "quantity": 1, "rate_usd": self.stated_usd, "cost_usd": self.stated_usd}
            ]
        return [line.as_plain() for line in self.lines]


def price(usage: Usage, rates: Rates | None) -> Priced:
    """Prices one usage at pinned rates. Never raises for what a provider may send."""
    context = usage.context
    if not usage.parts and not usage.unknowable and not usage.missing and usage.measured and not usage.counted:
        served = context.model_served
        chosen = rates if rates is None or not served or served == rates.model else rates.served(served)
        if chosen is not None:
            fast = _plain(usage, chosen)
            if fast is not None:
                stated = context.stated_cost_usd
                return fast if stated is None else _stated(fast, stated)
    return _with_care(usage, rates)


def _plain(usage: Usage, rates: Rates) -> Priced | None:
    """The hot path: one model, every unit priced, nothing to flag. None when anything is out of the ordinary."""
    context = usage.context
    compiled = rates.compiled(context.tier, context.prompt_total, context.regional != "")
    if compiled is None or compiled.flags:
        return None
    numerators = compiled.numerators
    total = 0
    lines = []
    for unit, quantity in usage.buckets.items():
        numerator = numerators.get(unit)
        if numerator is None:
            return None
        total += quantity * numerator
        lines.append(Line(unit, quantity, compiled))
    if usage.fees:
        for unit, quantity in usage.fees.items():
            numerator = numerators.get(unit)
            if numerator is None:
                return None
            total += quantity * numerator
            lines.append(Line(unit, quantity, compiled))
    nano = ceil_ratio(total, compiled.denominator)
    return Priced(nano, PriceStatus.EXACT, nano, usage.flags, tuple(lines))


def _stated(priced: Priced, stated: Decimal) -> Priced:
    """The provider's own price in the place of ours, compared with it."""
    numerator, denominator = stated.as_integer_ratio()
    nano = -(-numerator * NANO_PER_USD // denominator)
    flags = priced.flags
    if priced.lines and nano != priced.cost_nano:
        flags = (*flags, "provider_cost_differs")
    return Priced(nano, PriceStatus.EXACT, nano, flags, priced.lines, format(stated, "f"))


def _with_care(usage: Usage, rates: Rates | None) -> Priced:
    flags = list(usage.flags)
    lines: list[Line] = []
    holes: list[str] = []
    estimated = usage.counted
    for part in (usage, *usage.parts):
        estimated |= _price_part(part, rates, lines, holes, flags, asked=part is usage)
    exact = sum((line.nano for line in lines), Fraction(0))
    known = ceil_nano(exact / NANO_PER_USD)
    stated = usage.context.stated_cost_usd
    if stated is not None and usage.measured:
        nano = ceil_nano(Fraction(stated))
        if lines and not holes and nano != known:
            flags.append("provider_cost_differs")
        return Priced(nano, PriceStatus.EXACT, nano, tuple(flags), tuple(lines), format(stated, "f"))
    flags.extend(hole for hole in holes if hole not in flags)
    if not usage.measured:
        return Priced(None, PriceStatus.UNPRICED, known, tuple(flags), tuple(lines))
    if usage.unknowable:
        whole = "priority_tier" in usage.unknowable
        flags.extend(usage.unknowable)
        return Priced(
            None,
            PriceStatus.UNPRICED if whole else PriceStatus.PARTIAL,
            0 if whole else known,
            tuple(flags),
            tuple(lines),
        )
    if holes:
        return Priced(None, PriceStatus.PARTIAL if lines else PriceStatus.UNPRICED, known, tuple(flags), tuple(lines))
    if usage.missing:
        flags.extend(usage.missing)
        return Priced(known, PriceStatus.PARTIAL, known, tuple(flags), tuple(lines))
    return Priced(known, PriceStatus.ESTIMATED if estimated else PriceStatus.EXACT, known, tuple(flags), tuple(lines))


def _price_part(
    part: Usage, rates: Rates | None, lines: list[Line], holes: list[str], flags: list[str], *, asked: bool
) -> bool:
    """Adds the lines of one part; names in `holes` what has no price. True when a rate had to be assumed."""
    if not part.buckets and not part.fees:
        return False
    context = part.context
    estimated = False
    chosen = rates
    if rates is not None and context.model_served and context.model_served != rates.model:
        chosen = rates.served(context.model_served)
        if chosen is None and asked:
            chosen, estimated = rates, True
            flags.append(f"served_model_unknown:{context.model_served[:80]}")
    if chosen is None:
        holes.append(f"model_not_priced:{(context.model_served or '?')[:80]}")
        return estimated
    compiled = chosen.compiled(context.tier, context.prompt_total, context.regional != "")
    if compiled is None:
        holes.append(f"tier_not_priced:{context.tier[:40]}")
        return estimated
    if compiled.flags:
        flags.extend(compiled.flags)
        estimated = True
    for unit, quantity in (*part.buckets.items(), *part.fees.items()):
        if unit in compiled.numerators:
            lines.append(Line(unit, quantity, compiled, "" if asked else chosen.model))
        elif chosen.free:
            continue
        else:
            holes.append(f"unit_not_priced:{unit}")
    return estimated


def _nano_text(numerator: int, denominator: int) -> str:
    """Exact nano-dollars, as a ratio -> dollars as plain text, with every digit it has (up to 18 decimals)."""
    digits = str(-(-numerator * 10**9 // denominator)).rjust(19, "0")
    return f"{digits[:-18]}.{digits[-18:]}".rstrip("0").rstrip(".")

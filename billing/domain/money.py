"""Money: integer nano-dollars inside, Decimal at the edges, one rounding, upwards. The only place that rounds.

1 USD = 10**9 nano. Counters in Redis, ledger rows and invoices carry the same integers, so comparing books is exact equality.
Lua numbers are doubles, exact up to 2**53, hence `MAX_CAP_NANO` (PROTOCOL.md, "Units and names").
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache

NANO_PER_USD = 1_000_000_000
MAX_CAP_NANO = 9_000_000 * NANO_PER_USD


class BadAmount(ValueError):
    """An amount of money that cannot be accepted. The message says what to write instead."""


def ceil_nano(usd: Fraction) -> int:
    """An exact amount in dollars -> nano-dollars, rounded up once. Raises BadAmount on a negative amount."""
    if usd < 0:
        raise BadAmount(f"a cost cannot be negative: {usd} USD")
    scaled = usd * NANO_PER_USD
    return -(-scaled.numerator // scaled.denominator)


def ceil_ratio(numerator: int, denominator: int) -> int:
    """nano-dollars as an exact ratio of integers, rounded up once: `ceil_nano` for rates already compiled to integers."""
    if numerator < 0 or denominator <= 0:
        raise BadAmount(f"a cost cannot be negative: {numerator}/{denominator} nano-USD")
    return -(-numerator // denominator)


def parse_usd(text: str | int | Decimal) -> int:
    """What a person or an API client wrote as dollars -> nano-dollars, exactly.

    Accepts ASCII digits with at most nine decimals ("50", "0.25"). Refuses floats by type, NaN, infinities, exponents,
    signs, thousands separators, digits of other scripts and anything finer than a nano-dollar, because each of them has been read
    as another amount than the writer meant.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise BadAmount("write the amount in dollars as a number, like 50 or 0.25")
    raw = format(text, "f") if isinstance(text, Decimal) and text.is_finite() else str(text).strip()
    whole, dot, decimals = raw.partition(".")
    digits = whole + decimals
    if not digits.isascii() or not digits.isdigit() or not whole or (dot and not decimals):
        raise BadAmount("write the amount in dollars as a plain number, like 50 or 0.25")
    if len(decimals.rstrip("0")) > 9:
        raise BadAmount("an amount cannot be finer than a nano-dollar (nine decimals)")
    if len(whole) > 12:
        raise BadAmount("the amount is too large")
    return int(whole) * NANO_PER_USD + int((decimals[:9]).ljust(9, "0") or "0")


def parse_cap_usd(text: str | int | Decimal) -> int:
    """A cap as a person wrote it -> nano-dollars; it must be above zero and at most 9 million dollars."""
    nano = parse_usd(text)
    if nano <= 0:
        raise BadAmount("a cap must be more than $0; to stop all calls use the kill switch")
    if nano > MAX_CAP_NANO:
        raise BadAmount("a cap can be at most $9,000,000 for one period")
    return nano


def usd(nano: int) -> Decimal:
    """Nano-dollars -> an exact Decimal of dollars, without trailing zeros or an exponent."""
    value = Decimal(nano).scaleb(-9)
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()


def usd_text(nano: int) -> str:
    """Nano-dollars -> a plain decimal string of dollars ("0.005615"), for APIs and headers."""
    if nano < 0:
        return f"-{usd_text(-nano)}"
    digits = str(nano)
    # Joined by hand: every call needs it four times, and formatting takes twice the instructions.
    text = "0.000000000"[: 11 - len(digits)] + digits if len(digits) < 10 else f"{digits[:-9]}.{digits[-9:]}"
    return text.rstrip("0").rstrip(".")


@lru_cache(maxsize=4096)
def show_usd(nano: int) -> str:
    """Nano-dollars -> what a person reads: "$1,234.56", and under a dollar enough digits to be true ("$0.0034").

    Rounds for display only (half even), to two significant digits under a dollar but never fewer than two decimals.
    """
    sign, magnitude = ("-" if nano < 0 else ""), abs(nano)
    amount = Decimal(magnitude).scaleb(-9)
    if magnitude == 0 or magnitude >= NANO_PER_USD:
        return f"{sign}${amount:,.2f}"
    decimals = max(2, 1 - amount.adjusted())
    return f"{sign}${amount:.{min(decimals, 9)}f}"


def fraction_of_usd(text: str) -> Fraction:
    """A price list's decimal string -> an exact Fraction. Raises BadAmount when it is no finite decimal."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise BadAmount(f"not a decimal: {text!r}") from error
    if not value.is_finite():
        raise BadAmount(f"not a finite decimal: {text!r}")
    return Fraction(value)

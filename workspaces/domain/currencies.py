"""Amounts in another currency, for the eye: converted at a rate that somebody entered, and marked as such. Pure; the books stay in dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

DOLLARS: Final = "USD"
_SIGNS: Final = {
    "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "CAD": "CA$", "AUD": "A$", "NZD": "NZ$", "MXN": "MX$",
}  # fmt: skip
_NAMED: Final = ("CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "SGD", "ZAR")
SIGNS: Final = {**_SIGNS, **{name: f"{name}\u00a0" for name in _NAMED}}
"""Currency -> what stands before an amount of it."""
LEAST_RATE: Final = Decimal("0.000001")
MOST_RATE: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Display:
    """How a page shows amounts that are dollars in the books."""

    currency: str
    rate: Decimal
    """Units of the currency a dollar."""

    def show(self, dollars: str, nano: int) -> str:
        """`dollars`: how another amount of nano-dollars would be written ("$1,234.56"). Marked: a converted amount is no booked one."""
        return (
            f"≈{dollars.replace('$', SIGNS[self.currency], 1)}"
            if nano
            else dollars.replace("$", SIGNS[self.currency], 1)
        )

    def convert(self, nano: int) -> int:
        """Nano-dollars -> billionths of the currency, for display only."""
        return int((nano * self.rate).to_integral_value())


def rate_from(text: str) -> Decimal:
    """A rate as a person wrote it. Raises ValueError with what to write instead."""
    try:
        rate = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError("Write the rate as a number, like 0.92.") from None
    if not rate.is_finite() or not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError("A rate is between 0.000001 and 1,000,000 of the currency a dollar.")
    return round(rate, 9)

"""The providers' own price pages, as the Markdown they publish, against our table: what `drift` does with litellm's list.

Two forms are read. Tables with a model a row and a price a column (platform.claude.com/docs/en/about-claude/pricing.md,
developers.openai.com/api/docs/pricing.md), where a heading may say the tier; and a section a model with a price a row
(ai.google.dev/gemini-api/docs/pricing.md.txt). What is no token price in dollars per million is passed over. Pure: text in, differences out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from billing.domain.pricing import PriceBook
from billing.domain.rates import STANDARD
from billing.prices.drift import Compared, Difference, Rule, _ours, _shown

COLUMNS = (
    (re.compile(r"batch input"), "batch", "input_uncached"),
    (re.compile(r"batch output"), "batch", "output_text"),
    (re.compile(r"5m cache write|cache write.*5"), "", "cache_write_5m"),
    (re.compile(r"1h cache write|cache write.*1 ?h"), "", "cache_write_1h"),
    (re.compile(r"cache hit|cached input|context caching price|cache read"), "", "cache_read"),
    (re.compile(r"(?:base )?input(?: tokens?| price)?(?: \(.*\))?"), "", "input_uncached"),
    (re.compile(r"output(?: tokens?| price)?(?: \(.*\))?"), "", "output_text"),
)
"""A column's (or a row's) name -> (its tier where the name says one, our unit). The first that matches counts."""
TIERS = ("batch", "flex", "priority", "standard", "fast")
_PRICE = re.compile(r"\$\s?(\d+(?:\.\d+)?)")
_LONG = re.compile(r"\$\s?(\d+(?:\.\d+)?)[^$]*?(?:>|over|above)\s?(\d+)k", re.I)
_HEADING = re.compile(r"#{1,6}\s+(.*)")
_ID = re.compile(r"[`*_]{1,2}((?:gemini|gemma|imagen|veo)-[a-z0-9.-]+)[`*_]{1,2}")


@dataclass(frozen=True, slots=True)
class Printed:
    """One price of a page, in dollars per million tokens."""

    model: str
    tier: str
    above: int
    unit: str
    price: Fraction


def read(text: str) -> list[Printed]:
    """Every token price of a page."""
    found: list[Printed] = []
    tier = STANDARD
    models: tuple[str, ...] = ()
    columns: list[tuple[str, str] | None] | None = None
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            named = heading[1].lower()
            tier = next((one for one in TIERS if re.search(rf"\b{one}\b", named)), STANDARD)
            models, columns = (() if line.startswith(("# ", "## ")) else models), None
        if not line.lstrip().startswith("|"):
            models, columns = tuple(_ID.findall(line)) or models, None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if all(set(cell) <= set(":- ") for cell in cells):
            continue
        if columns is None and not any(_PRICE.search(cell) for cell in cells[1:]):
            columns = [_meant(cell) for cell in cells]
        elif columns is not None and any(columns[1:]):
            found += _row(cells, columns, tier)
        elif models and (meant := _meant(cells[0])) is not None:
            found += [price for model in models for price in _cell(cells[-1], model, meant[0] or tier, meant[1])]
    return found


def compare(book: PriceBook, provider: str, text: str, rules: Sequence[Rule], at: datetime) -> Compared:
    """A page's prices against ours. A model that the page has and we have not is a difference."""
    compared, found = 0, []
    for printed in read(text):
        rates = next((rates for name in _names(printed.model) if (rates := book.rates(provider, name, at))), None)
        compared += 1
        ours = _ours(rates, printed.tier, printed.above, printed.unit)
        if ours == printed.price:
            continue
        one = Difference(
            provider,
            _names(printed.model)[0],
            printed.tier,
            printed.above,
            printed.unit,
            _shown(ours),
            _shown(printed.price),
        )
        explained = next((rule.reason for rule in rules if rule.explains(one)), "")
        found.append(replace(one, reason=explained))
    return Compared(compared, tuple(sorted(set(found), key=str)), ())


def _meant(name: str) -> tuple[str, str] | None:
    plain = re.sub(r"[*_`\[\]]", "", name).strip().lower()
    return next(((tier, unit) for pattern, tier, unit in COLUMNS if pattern.match(plain)), None)


def _row(cells: list[str], columns: Sequence[tuple[str, str] | None], tier: str) -> Iterator[Printed]:
    for cell, meant in zip(cells[1:], columns[1:], strict=False):
        if meant is not None:
            yield from _cell(cell, cells[0], meant[0] or tier, meant[1])


def _cell(cell: str, model: str, tier: str, unit: str) -> Iterator[Printed]:
    """The first price of a cell, and the one that it says is for longer prompts."""
    price = _PRICE.search(cell)
    if price is None:
        return
    yield Printed(model, tier, 0, unit, Fraction(Decimal(price[1])))
    for amount, thousands in _LONG.findall(cell):
        if Fraction(Decimal(amount)) != Fraction(Decimal(price[1])):
            yield Printed(model, tier, int(thousands) * 1000, unit, Fraction(Decimal(amount)))


def _names(printed: str) -> list[str]:
    """What a page calls a model -> how the book may: without remarks and links, words joined, dots as they are or as dashes."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", printed)
    plain = re.sub(r"\s*\([^)]*\)|<[^>]*>|[*`_]", "", plain).strip().lower()
    joined = re.sub(r"\s+", "-", plain)
    return list(dict.fromkeys((joined, joined.replace(".", "-"))))

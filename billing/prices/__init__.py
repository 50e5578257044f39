"""The vendored price table and vocabularies: the only files the billing domain reads, and the only place that reads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from billing.domain import tokens
from billing.domain.pricing import PriceBook
from billing.prices import vocabulary

HERE = Path(__file__).parent

tokens.use_vocabularies(vocabulary.encoder)


@cache
def default_book() -> PriceBook:
    """The price book that ships with this version, read once per process."""
    return PriceBook(msgspec.json.decode((HERE / "table.json").read_bytes()))

"""The vendored price table and vocabularies: the only files the billing domain reads, and the only place that reads them."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path

import msgspec

from billing.domain import tokens
from billing.domain.pricing import PriceBook
from billing.prices import vocabulary

HERE = Path(__file__).parent

tokens.use_vocabularies(vocabulary.encoder)


@cache
def default_book() -> PriceBook:
    """The price book that ships with this version, read once per process. Its version names its content: another price is another version,
    whoever forgot to raise the number, because re-rating takes the same version for the same prices."""
    raw = (HERE / "table.json").read_bytes()
    table = msgspec.json.decode(raw)
    return PriceBook({**table, "version": f"{table['version']}-{blake2b(raw, digest_size=4).hexdigest()}"})

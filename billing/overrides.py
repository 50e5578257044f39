"""A workspace's own prices, compiled: its rows over the list become one price book, which admission, settlement and re-rating share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from billing.domain.pricing import PriceBook
from billing.models import PriceKind, PriceOverride
from billing.prices import default_book
from workspaces.models import Workspace

MOST_BOOKS = 2048
"""Workspaces with prices of their own whose books a process keeps; a book is small until it is asked."""


def book_of(workspace: Workspace) -> PriceBook:
    """The book of the entered workspace. The same object as long as its prices are the same: rates pinned from it compare by identity."""
    rows = [book_row(row) for row in in_force(workspace)]
    return compiled(rows)


def in_force(workspace: Workspace) -> list[PriceOverride]:
    """All prices of the entered workspace, past ones too (history is re-rated by them), in the order in which later ones count."""
    return list(PriceOverride.objects.filter(workspace_id=workspace.pk).order_by("valid_from", "id"))


def compiled(rows: list[dict[str, Any]]) -> PriceBook:
    """The book that ships with this version under `rows` (see `PriceBook.with_overrides`)."""
    return _compiled(msgspec.json.encode(rows)) if rows else default_book()


@lru_cache(maxsize=MOST_BOOKS)
def _compiled(rows: bytes) -> PriceBook:
    version = f"own-{blake2b(rows, digest_size=4).hexdigest()}"
    return default_book().with_overrides(msgspec.json.decode(rows), version=version)


def book_row(row: PriceOverride) -> dict[str, Any]:
    """A stored price as the book reads it."""
    made: dict[str, Any] = {"provider": row.provider, "model": row.model, "from": _text(row.valid_from)}
    if row.valid_to is not None:
        made["to"] = _text(row.valid_to)
    if row.kind == PriceKind.DISCOUNT and row.discount_percent is not None:
        return made | {"discount": format(row.discount_percent / 100, "f")}
    about = {"context": row.context_window, "max_output": row.max_output_tokens}
    made |= {name: size for name, size in about.items() if size}
    if row.kind == PriceKind.FREE:
        return made | {"free": True}
    rates: Mapping[str, str] = row.rates
    return made | {"units": dict(rates), "tier": row.tier}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")

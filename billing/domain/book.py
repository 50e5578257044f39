"""The price book: from (provider, model, moment) to rates. Values in, values out; the table is handed in.

A model answers to the exact names the table gives it, and to a dated snapshot of one ("gpt-4o-2024-08-06") when the date is not in the
future. Nothing is matched by prefix, so an invented name has no price (BILLING.md, "genai-prices' traps").
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

from billing.domain.money import fraction_of_usd
from billing.domain.rates import STANDARD, ModelMeta, Rates

_BEDROCK_REGION = re.compile(r"^(?:(?:us|eu|apac|jp|au|ca|us-gov)\.)?(anthropic\..+)$")
_SNAPSHOT = re.compile(r"^(.+?)[-@](?:(20\d\d)-(\d\d)-(\d\d)|(20\d\d)(\d\d)(\d\d))$")


@dataclass(frozen=True, slots=True)
class _Row:
    tier: str
    above: int
    starts: int
    ends: int
    window: str
    units: Mapping[str, str]


class _Model:
    """One model of the table with its rows parsed once."""

    __slots__ = ("_rows", "free", "id", "meta", "regional", "regional_from")

    def __init__(self, model_id: str, raw: Mapping[str, Any], inherited: _Model | None = None) -> None:
        self.id = model_id
        self.free = bool(raw.get("free"))
        self.regional = str(raw.get("regional", ""))
        self.regional_from = _epoch(raw.get("regional_from"), 0)
        self.meta = ModelMeta(
            context_window=raw.get("context", 0),
            max_output_tokens=raw.get("max_output", 0),
            tokenizer=raw.get("tokenizer", ""),
            mode=raw.get("mode", ""),
            reasoning=raw.get("reasoning", False),
            modalities=frozenset(raw.get("input", ())),
            image_tokens_cap=raw.get("image_cap", 0),
            released=raw.get("released", ""),
        )
        self._rows = [
            _Row(
                r["tier"],
                r.get("above", -1),
                _epoch(r.get("from"), 0),
                _epoch(r.get("to"), 1 << 62),
                r.get("window", ""),
                r["units"],
            )
            for r in raw.get("rows", ())
        ]
        if inherited is not None:  # the tiers that own rows do not name stay at the list price
            own_tiers = {row.tier for row in self._rows}
            self._rows += [row for row in inherited._rows if row.tier not in own_tiers]

    @property
    def windows(self) -> frozenset[str]:
        return frozenset(row.window for row in self._rows if row.window)

    def tables(self, at: int, open_windows: frozenset[str]) -> Mapping[tuple[str, int], Mapping[str, str]]:
        tables: dict[tuple[str, int], Mapping[str, str]] = {}
        for row in self._rows:  # a row inside an open window, and a later row, replace what stood before
            if row.starts <= at < row.ends and (not row.window or row.window in open_windows):
                tables[row.tier, row.above] = row.units
        return tables


class PriceBook:
    """Dated rates of every provider. Immutable in use; `with_overrides` makes a workspace's own book on top of this one."""

    MAX_CACHED = 8192
    """Model names come from clients: the caches are dropped whole at this size rather than grow."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.version = str(table.get("version", ""))
        self._providers: Mapping[str, Mapping[str, Any]] = table["providers"]
        self._aliases: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {}
        for provider, home in self._providers.items():
            for alias in home.get("aliases", ()):
                self._aliases[alias] = provider
        self._models: dict[tuple[str, str], _Model] = {}
        self._found: dict[tuple[str, str], tuple[_Model | None, int, str]] = {}
        self._rates: dict[tuple[str, str, int, frozenset[str]], Rates] = {}
        self._edges: dict[str, list[int]] = {}

    def rates(self, provider: str, model: str, at: datetime) -> Rates | None:
        """The rates of a model at an aware moment, or None when nobody has priced it."""
        return self.rates_at(provider, model, int(at.timestamp()))

    def rates_at(self, provider: str, model: str, at: int) -> Rates | None:
        """`rates` for a Unix time in seconds."""
        found = self._found.get((provider, model))
        if found is None:
            found = self._find(provider, model)
            if len(self._found) >= self.MAX_CACHED:
                self._found.clear()
                self._rates.clear()
            self._found[provider, model] = found
        record, snapshot_from, home = found
        if record is None or snapshot_from > at:
            return None
        windows = _NO_WINDOWS
        if "windows" in self._providers.get(home, ()):
            windows = frozenset(name for name in self._providers[home]["windows"] if self._open(home, name, at))
        key = (provider, model, bisect_right(self._edges_of(provider), at), windows)
        rates = self._rates.get(key)
        if rates is None:
            rates = self._make(provider, model, record, at, windows)
            if rates is None:
                return None
            if record.windows:
                rates.peak = self._make(provider, model, record, at, record.windows)
            self._rates[key] = rates
        return rates

    def rates_of_answer(self, provider: str, asked: str, served: str, at: datetime) -> Rates | None:
        """The rates for an answer whose model was asked for under a name of the customer's own (an Azure deployment): the served one's."""
        return self.rates(provider, asked, at) or (self.rates(provider, served, at) if served else None)

    def meta(self, provider: str, model: str) -> ModelMeta | None:
        """What bounds need to know of a model, or None when the book does not know it."""
        found = self._found.get((provider, model)) or self._find(provider, model)
        return found[0].meta if found[0] else None

    def models(self, provider: str) -> Sequence[str]:
        """The ids of a provider's models, for lists shown to people."""
        return sorted(self._providers.get(self._aliases.get(provider, provider), {}).get("models", ()))

    def with_overrides(self, rows: Iterable[Mapping[str, Any]]) -> PriceBook:
        """This book under a workspace's own rows, each one of:

        {"provider", "model" ("*" for all), "units": {unit: "price"}, "tier"?, "from"?, "to"?}  a negotiated or own model's price
        {"provider", "model", "free": true}                                                     a local model
        {"provider" ("*"), "model" ("*"), "discount": "0.10", "from"?, "to"?}                   a fraction off the list price
        """
        return _OverriddenBook(self, list(rows))

    def _edges_of(self, provider: str) -> list[int]:
        """Every second at which a price of this provider changes: between two of them its Rates, and their siblings, stay as they are."""
        edges = self._edges.get(provider)
        if edges is None:
            home = self._aliases.get(provider, provider)
            found: set[int] = set()
            for candidate in (home, *self._providers.get(home, {}).get("fallback", ())):
                for raw in self._providers.get(candidate, {}).get("models", {}).values():
                    for row in (*raw["rows"], {"from": raw.get("regional_from")}):
                        found.update(_bounds(row))
            edges = self._edges[provider] = sorted(found)
        return edges

    def _make(self, provider: str, model: str, record: _Model, at: int, windows: frozenset[str]) -> Rates | None:
        tables = record.tables(at, windows)
        if not tables and not record.free:
            return None
        return Rates(
            book=self,
            provider=provider,
            model=model,
            at=at,
            tables=tables,
            meta=record.meta,
            regional=record.regional if at >= record.regional_from else "",
            free=record.free,
            discount=Fraction(1),
        )

    def _find(self, provider: str, model: str) -> tuple[_Model | None, int, str]:
        """(the model's record or None, the moment from which this snapshot can exist, its home provider)."""
        home = self._aliases.get(provider, provider)
        wanted = model.strip().lower()
        for candidate in (home, *self._providers.get(home, {}).get("fallback", ())):
            for name in _spellings(wanted):
                record = self._record(candidate, name)
                if record is not None:
                    return record, 0, candidate
            base, dated = _without_date(wanted)
            record = self._record(candidate, base) if base else None
            if record is not None:
                return record, dated, candidate
        if self._providers.get(home, {}).get("wildcard") == "free" and wanted:
            return _Model(wanted, {"free": True}), 0, home
        return None, 0, home

    def _record(self, provider: str, name: str) -> _Model | None:
        names = self._names.get(provider)
        if names is None:
            models = self._providers.get(provider, {}).get("models", {})
            names = {alias: model_id for model_id, raw in models.items() for alias in (*raw["names"], model_id)}
            self._names[provider] = names
        model_id = names.get(name)
        if model_id is None:
            return None
        record = self._models.get((provider, model_id))
        if record is None:
            record = self._models[provider, model_id] = _Model(model_id, self._providers[provider]["models"][model_id])
        return record

    def _open(self, provider: str, window: str, at: int) -> bool:
        rule = self._providers[provider]["windows"][window]
        moment = datetime.fromtimestamp(at, UTC)
        if moment.weekday() not in rule["days"] or moment.date().isoformat() in rule.get("except", ()):
            return False
        return any(first <= moment.hour < last for first, last in rule["hours"])


class _OverriddenBook(PriceBook):
    def __init__(self, base: PriceBook, rows: list[Mapping[str, Any]]) -> None:
        super().__init__({"version": base.version, "providers": base._providers})
        self._base, self._own = base, rows
        self.version = f"{base.version}+own"
        self._models, self._names = base._models, base._names  # parsed once for all workspaces
        for row in rows:  # a bad row is the administrator's mistake: say so when the book is made, not at a call
            for amount in (*row.get("units", {}).values(), row.get("discount", "0")):
                if not fraction_of_usd(str(amount)) >= 0:
                    raise ValueError(f"a price cannot be negative: {amount}")
            if fraction_of_usd(str(row.get("discount", "0"))) > 1:
                raise ValueError("a discount is a fraction between 0 and 1")

    def _find(self, provider: str, model: str) -> tuple[_Model | None, int, str]:
        listed = super()._find(provider, model)
        wanted = model.strip().lower()
        own = [
            row
            for row in self._own
            if ("units" in row or row.get("free"))
            and row["provider"] == provider
            and row["model"].lower() in (wanted, "*")
        ]
        exact = [row for row in own if row["model"].lower() == wanted] or own
        if not exact:
            return listed
        if any(row.get("free") for row in exact):
            return _Model(wanted, {"free": True, **_meta_raw(listed[0])}), 0, listed[2]
        rows = [{**row, "tier": row.get("tier", STANDARD)} for row in exact]
        return _Model(wanted, {"rows": rows, **_meta_raw(listed[0])}, inherited=listed[0]), 0, listed[2]

    def _edges_of(self, provider: str) -> list[int]:
        edges = self._edges.get(provider)
        if edges is None:
            own = (_bounds(row) for row in self._own)
            edges = self._edges[provider] = sorted(set(self._base._edges_of(provider)).union(*own))
        return edges

    def _make(self, provider: str, model: str, record: _Model, at: int, windows: frozenset[str]) -> Rates | None:
        rates = super()._make(provider, model, record, at, windows)
        if rates is None:
            return None
        for row in self._own:
            hit = row["provider"] in (provider, "*") and row["model"].lower() in (model.strip().lower(), record.id, "*")
            if "discount" in row and hit and _epoch(row.get("from"), 0) <= at < _epoch(row.get("to"), 1 << 62):
                rates.discount *= 1 - fraction_of_usd(str(row["discount"]))
        return rates


_NO_WINDOWS: frozenset[str] = frozenset()


def _bounds(row: Mapping[str, Any]) -> set[int]:
    return {_epoch(row[key], 0) for key in ("from", "to") if row.get(key)}


def _meta_raw(record: _Model | None) -> dict[str, Any]:
    if record is None:
        return {}
    meta = record.meta
    return {
        "context": meta.context_window,
        "max_output": meta.max_output_tokens,
        "tokenizer": meta.tokenizer,
        "mode": meta.mode,
        "reasoning": meta.reasoning,
        "input": meta.modalities,
        "image_cap": meta.image_tokens_cap,
    }


def _spellings(name: str) -> Iterable[str]:
    """The exact name, and the name without the path providers put before it ("models/gemini-2.5-flash", "us.anthropic.claude-...")."""
    yield name
    if name.startswith(("models/", "publishers/google/models/", "google/", "x-ai/", "xai/")):
        yield name.rpartition("/")[2]
    if name.startswith(("projects/", "publishers/")) and "/models/" in name:
        yield name.rpartition("/models/")[2]
    if name.startswith("accounts/"):  # Fireworks
        yield name.rpartition("/")[2]
    if hit := _BEDROCK_REGION.match(name):
        yield f"regional.{hit[1]}"
    if name.startswith("ft:"):  # ft:<base>:<organisation>:<suffix>:<id>
        base = name.split(":")[1]
        yield f"ft:{base}"
        undated, _ = _without_date(base)
        if undated:
            yield f"ft:{undated}"


def _without_date(name: str) -> tuple[str, int]:
    """A snapshot's base name and the moment of its date; ("", 0) when there is no date in it."""
    hit = _SNAPSHOT.match(name)
    if hit is None:
        return "", 0
    year, month, day = (int(part) for part in (hit[2] or hit[5], hit[3] or hit[6], hit[4] or hit[7]))
    try:
        moment = datetime.combine(date(year, month, day), datetime.min.time(), UTC)
    except ValueError:
        return "", 0
    return hit[1], int(moment.timestamp())


def _epoch(text: str | None, default: int) -> int:
    if text is None:
        return default
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

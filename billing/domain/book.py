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

from billing.domain.extraction.record import BUCKETS, INPUT_BUCKETS, OUTPUT_BUCKETS
from billing.domain.money import fraction_of_usd
from billing.domain.rates import STANDARD, ModelMeta, Rates

_BEDROCK_REGION = re.compile(r"^(?:(?:us|eu|apac|jp|au|ca|us-gov)\.)?(anthropic\..+)$")
_BEDROCK_ARN = re.compile(r"^arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?:inference-profile|foundation-model)/([^/]+)$")
"""What names a model or a system-defined profile. An application's own profile (`application-inference-profile/<id>`) names none."""
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

    __slots__ = ("_free", "_regional", "_regional_from", "_rows", "id", "meta")

    def __init__(self, model_id: str, raw: Mapping[str, Any]) -> None:
        self.id = model_id
        self._free = bool(raw.get("free"))
        self._regional = str(raw.get("regional", ""))
        self._regional_from = _epoch(raw.get("regional_from"), 0)
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

    def free_at(self, at: int) -> bool:
        return self._free

    def regional_at(self, at: int) -> str:
        """The uplift of a regional endpoint as a factor; empty: none."""
        return self._regional if at >= self._regional_from else ""

    def discountable_at(self, at: int) -> bool:
        """Whether what it costs then is a list price, which a discount is taken off."""
        return True

    @property
    def windows(self) -> frozenset[str]:
        return frozenset(row.window for row in self._rows if row.window)

    def tables(self, at: int, open_windows: frozenset[str]) -> Mapping[tuple[str, int], Mapping[str, str]]:
        tables: dict[tuple[str, int], Mapping[str, str]] = {}
        for row in self._rows:  # a row inside an open window, and a later row, replace what stood before
            if row.starts <= at < row.ends and (not row.window or row.window in open_windows):
                tables[row.tier, row.above] = row.units
        return tables


class _OwnModel(_Model):
    """A workspace's own rows of a model over what the list says of it. Where and while none of them is valid, the list holds."""

    __slots__ = ("_free_between", "_listed")

    def __init__(self, model_id: str, rows: Sequence[Mapping[str, Any]], listed: _Model | None) -> None:
        priced = [{**row, "tier": row.get("tier", STANDARD)} for row in rows if "units" in row]
        about = {name: row[name] for row in rows for name in ("context", "max_output") if row.get(name)}
        super().__init__(model_id, {"rows": priced, **_meta_raw(listed), **about})
        self._listed = listed
        self._free_between = [
            (_epoch(row.get("from"), 0), _epoch(row.get("to"), 1 << 62)) for row in rows if row.get("free")
        ]

    def free_at(self, at: int) -> bool:
        if any(starts <= at < ends for starts, ends in self._free_between):
            return True
        return self._listed is not None and self._listed.free_at(at) and not self._own_tables(at)

    def regional_at(self, at: int) -> str:
        """A price that was agreed on is the whole price."""
        return "" if self._listed is None or self._own_tables(at) else self._listed.regional_at(at)

    def discountable_at(self, at: int) -> bool:
        return not self._own_tables(at)

    @property
    def windows(self) -> frozenset[str]:
        return self._listed.windows if self._listed else frozenset()

    def tables(self, at: int, open_windows: frozenset[str]) -> Mapping[tuple[str, int], Mapping[str, str]]:
        own = self._own_tables(at)
        if self._listed is None:
            return own
        tiers = {tier for tier, _ in own}  # the tiers that own rows do not name stay at the list price
        listed = self._listed.tables(at, open_windows)
        return {**{key: units for key, units in listed.items() if key[0] not in tiers}, **own}

    def _own_tables(self, at: int) -> Mapping[tuple[str, int], Mapping[str, str]]:
        return super().tables(at, _NO_WINDOWS)


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
        self._latest: dict[tuple[str, str], tuple[int, Rates | None]] = {}
        """What was found last, and for which second: calls of one second ask the same."""
        self._edges: dict[str, list[int]] = {}
        self._units: frozenset[str] = frozenset()
        self._dearest: dict[tuple[str, int], Mapping[str, Fraction]] = {}

    def rates(self, provider: str, model: str, at: datetime) -> Rates | None:
        """The rates of a model at an aware moment, or None when nobody has priced it."""
        return self.rates_at(provider, model, int(at.timestamp()))

    def rates_at(self, provider: str, model: str, at: int) -> Rates | None:
        """`rates` for a Unix time in seconds."""
        hit = self._latest.get((provider, model))
        if hit is not None and hit[0] == at:
            return hit[1]
        rates = self._rates_at(provider, model, at)
        if len(self._latest) >= self.MAX_CACHED:
            self._latest.clear()
        self._latest[provider, model] = at, rates
        return rates

    def _rates_at(self, provider: str, model: str, at: int) -> Rates | None:
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

    def knows(self, provider: str) -> bool:
        return provider in self._aliases or provider in self._providers

    @property
    def units(self) -> frozenset[str]:
        """Every unit that has a rate somewhere in the list, or could have one."""
        if not self._units:
            found = set(BUCKETS)
            for home in self._providers.values():
                found.update(unit for raw in home["models"].values() for row in raw["rows"] for unit in row["units"])
            self._units = frozenset(found)
        return self._units

    def dearest(self, provider: str, at: int) -> Mapping[str, Fraction]:
        """Per unit of tokens the highest list rate of any model and tier of a provider at a moment, in dollars per million; of all providers
        where it has none. For bounds on what nobody has priced."""
        key = (provider, at // 86_400)
        found = self._dearest.get(key)
        if found is None:
            home = self._aliases.get(provider, provider)
            places = [home] if self._providers.get(home, {}).get("models") else list(self._providers)
            highest: dict[str, Fraction] = {}
            for raw in (raw for place in places for raw in self._providers[place]["models"].values()):
                for row in raw["rows"]:
                    if _epoch(row.get("to"), 1 << 62) > at:
                        for unit in row["units"].keys() & (INPUT_BUCKETS | OUTPUT_BUCKETS):
                            highest[unit] = max(highest.get(unit, Fraction(0)), fraction_of_usd(row["units"][unit]))
            self._dearest = {key: highest, **{k: v for k, v in self._dearest.items() if k[1] == key[1]}}
            found = highest
        return found

    def with_overrides(self, rows: Iterable[Mapping[str, Any]], *, version: str = "") -> PriceBook:
        """This book under a workspace's own rows, each one of:

        {"provider", "model" ("*" for all), "units": {unit: "price"}, "tier"?, "from"?, "to"?}  a negotiated or own model's price
        {"provider", "model", "free": true, "from"?, "to"?}                                     a local model
        {"provider" ("*"), "model" ("*"), "discount": "0.10", "from"?, "to"?}                   a fraction off the list price

        A row for a model holds for its dated snapshots and other spellings too. Of several valid ones the later in `rows` counts. Of
        several discounts the one that names the model counts, then the one that names the provider; they are not taken off each other, nor
        off a price of the workspace's own. Units and free rows may say "context" and "max_output" of a model that the list does not know.
        """
        return _OverriddenBook(self, list(rows), version)

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
        free = record.free_at(at)
        if not tables and not free:
            return None
        return Rates(
            book=self,
            provider=provider,
            model=model,
            at=at,
            tables=tables,
            meta=record.meta,
            regional=record.regional_at(at),
            free=free,
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
    def __init__(self, base: PriceBook, rows: list[Mapping[str, Any]], version: str) -> None:
        super().__init__({"version": base.version, "providers": base._providers})
        self._base, self._own = base, rows
        self.version = f"{base.version}+{version or 'own'}"
        self._models, self._names = base._models, base._names  # parsed once for all workspaces
        for row in rows:  # a bad row is the administrator's mistake: say so when the book is made, not at a call
            for amount in (*row.get("units", {}).values(), row.get("discount", "0")):
                if not fraction_of_usd(str(amount)) >= 0:
                    raise ValueError(f"a price cannot be negative: {amount}")
            if fraction_of_usd(str(row.get("discount", "0"))) > 1:
                raise ValueError("a discount is a fraction between 0 and 1")

    def dearest(self, provider: str, at: int) -> Mapping[str, Fraction]:
        return self._base.dearest(provider, at)

    def models(self, provider: str) -> Sequence[str]:
        own = {
            str(row["model"])
            for row in self._own
            if "discount" not in row and row["model"] != "*" and self._same(str(row["provider"]), provider)
        }
        return sorted(own.union(self._base.models(provider)))

    def _find(self, provider: str, model: str) -> tuple[_Model | None, int, str]:
        record, snapshot_from, home = super()._find(provider, model)
        wanted = model.strip().lower()
        own = [row for row in self._own if "discount" not in row and self._same(str(row["provider"]), provider)]
        named = [row for row in own if row["model"].lower() == wanted]
        if named:
            snapshot_from = 0  # whoever prices a name knows that it exists
        elif record is not None:
            named = [row for row in own if self._covers(row, record)]
        rows = named or [row for row in own if row["model"] == "*"]
        if not rows or not wanted:
            return record, snapshot_from, home
        return _OwnModel(record.id if record else wanted, rows, record), snapshot_from, home

    def _edges_of(self, provider: str) -> list[int]:
        edges = self._edges.get(provider)
        if edges is None:
            own = (_bounds(row) for row in self._own)
            edges = self._edges[provider] = sorted(set(self._base._edges_of(provider)).union(*own))
        return edges

    def _make(self, provider: str, model: str, record: _Model, at: int, windows: frozenset[str]) -> Rates | None:
        rates = super()._make(provider, model, record, at, windows)
        if rates is not None and record.discountable_at(at):
            rates.discount = 1 - self._discount(provider, model, record, at)
        return rates

    def _discount(self, provider: str, model: str, record: _Model, at: int) -> Fraction:
        wanted = model.strip().lower()
        found, closeness = Fraction(0), (-1, -1)
        for row in self._own:
            if "discount" not in row or not _epoch(row.get("from"), 0) <= at < _epoch(row.get("to"), 1 << 62):
                continue
            whose, of = str(row["provider"]), str(row["model"]).lower()
            if (whose == "*" or self._same(whose, provider)) and (of in ("*", wanted) or self._covers(row, record)):
                this = (int(of != "*"), int(whose != "*"))
                if this >= closeness:
                    found, closeness = fraction_of_usd(str(row["discount"])), this
        return found

    def _covers(self, row: Mapping[str, Any], record: _Model) -> bool:
        """Whether a row means the whole of a listed model, whatever it is called: not when it names one dated snapshot of it."""
        name = str(row["model"]).lower()
        if name != record.id and _SNAPSHOT.match(name):
            return False
        listed = super()._find(str(row["provider"]), name)[0] if row["provider"] != "*" else None
        return name == record.id or (listed is not None and listed.id == record.id)

    def _same(self, one: str, other: str) -> bool:
        return self._aliases.get(one, one) == self._aliases.get(other, other)


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
    if hit := _BEDROCK_ARN.match(name):
        yield from _spellings(hit[1])
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

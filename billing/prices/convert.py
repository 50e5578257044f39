"""genai-prices' models, with litellm as a second witness -> our rows. A build-time tool: never imported at run time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

PROVIDERS = {  # our name -> (genai-prices id, litellm providers)
    "openai": ("openai", {"openai", "text-completion-openai"}),
    "anthropic": ("anthropic", {"anthropic"}),
    "google": (
        "google",
        {"gemini", "vertex_ai-language-models", "vertex_ai-embedding-models", "vertex_ai-anthropic_models"},
    ),
    "azure": ("azure", {"azure", "azure_ai", "azure_text"}),
    "bedrock": ("aws", {"bedrock", "bedrock_converse"}),
    "deepseek": ("deepseek", {"deepseek"}),
    "xai": ("x-ai", {"xai"}),
    "groq": ("groq", {"groq"}),
    "mistral": ("mistral", {"mistral"}),
    "fireworks": ("fireworks", {"fireworks_ai", "fireworks_ai-embedding-models"}),
    "together": ("together", {"together_ai"}),
    "perplexity": ("perplexity", {"perplexity"}),
    "cohere": ("cohere", {"cohere", "cohere_chat"}),
    "openrouter": ("openrouter", {"openrouter"}),
    "cerebras": ("cerebras", {"cerebras"}),
    "moonshot": ("moonshotai", {"moonshot"}),
    "voyage": ("voyageai", {"voyage"}),
    "zai": ("zai", {"zai"}),
    "minimax": ("minimax", {"minimax"}),
}

UNITS = {  # genai-prices price key -> (our unit, factor from its "per" to ours)
    "input_mtok": "input_uncached",
    "cache_read_mtok": "cache_read",
    "output_mtok": "output_text",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "input_audio_cached",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "input_image_cached",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "output_reasoning_mtok": "output_reasoning",
    "output_citation_mtok": "citation",
    "input_mchars": "characters",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "requests_kcount": "request",
    "input_document_kpages": "pages",
    "input_annotated_document_kpages": "annotated_pages",
    "input_text_messages_kcount": "text_message",
}
WRITES = {"anthropic": ("cache_write_5m", "cache_write_1h"), "openai": ("cache_write_30m", "cache_write_12h")}
TIERS = {
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("processing", "batch"): "batch",
    ("speed", "fast"): "fast",
}

LITELLM_UNITS = {
    "input_cost_per_token": "input_uncached",
    "cache_read_input_token_cost": "cache_read",
    "output_cost_per_token": "output_text",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_read_input_audio_token_cost": "input_audio_cached",
}
LITELLM_TIERS = {"flex": "_flex", "priority": "_priority", "batch": "_batches"}
ZERO = Decimal(0)


def text(value: Decimal) -> str:
    """A price as a plain decimal string without trailing zeros."""
    shown = format(value.normalize(), "f")
    return shown if value else "0"


class Source:
    """litellm's list, as a second witness that a model name exists and as metadata."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        for name, row in json.loads(path.read_text(), parse_float=Decimal).items():
            for ours, (_, theirs) in PROVIDERS.items():
                if row.get("litellm_provider") in theirs:
                    self.rows.setdefault(ours, {})[self._bare(name).lower()] = row

    @staticmethod
    def _bare(name: str) -> str:
        head, slash, rest = name.partition("/")
        prefixes = {
            "gemini",
            "vertex_ai",
            "azure",
            "azure_ai",
            "bedrock",
            "xai",
            "groq",
            "mistral",
            "fireworks_ai",
            "together_ai",
            "perplexity",
            "openrouter",
            "deepseek",
            "cerebras",
            "moonshot",
            "voyage",
            "zai",
            "minimax",
            "cohere",
            "anthropic",
        }
        return rest if slash and head in prefixes else name

    def names(self, provider: str) -> Mapping[str, dict[str, Any]]:
        return self.rows.get(provider, {})


def exact_names(clause: Any) -> Iterator[str]:
    for key in ("equals",):
        if hasattr(clause, key):
            yield getattr(clause, key).lower()
    for inner in getattr(clause, "or_", None) or ():
        yield from exact_names(inner)


def price_units(provider: str, model_price: Any) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    """A genai-prices ModelPrice -> (base units, {threshold: units above it})."""
    base: dict[str, str] = {}
    above: dict[int, dict[str, str]] = {}
    short, long = (
        WRITES["anthropic"]
        if provider in ("anthropic", "google", "bedrock", "openrouter", "azure")
        else WRITES["openai"]
    )
    for key, value in vars(model_price).items():
        if value is None or key.startswith("_"):
            continue
        unit = {"cache_write_mtok": short, "cache_write_5m_mtok": short, "cache_write_1h_mtok": long}.get(
            key
        ) or UNITS.get(key)
        scale = Decimal(1)
        if key == "audio_hours" or (key == "input_audio_hours" and not hasattr(model_price, "audio_hours")):
            unit = "audio_milliseconds"  # priced per hour, like the source
        if key == "input_audio_hours" and hasattr(model_price, "audio_hours"):
            continue
        if unit is None:
            raise SystemExit(f"{provider}: a unit we do not know: {key}. Teach UNITS before building.")
        tiers = getattr(value, "tiers", ())
        base[unit] = text(getattr(value, "base", value) * scale)
        for tier in tiers:
            above.setdefault(tier.start, {})[unit] = text(tier.price * scale)
    for units in above.values():
        for unit, amount in base.items():
            units.setdefault(unit, amount)
    return base, above


def row(tier: str, units: Mapping[str, str], **where: Any) -> dict[str, Any]:
    return {"tier": tier, **{k: v for k, v in where.items() if v is not None}, "units": dict(units)}


def rows_of(provider: str, model: Any) -> list[dict[str, Any]]:
    """All dated rows of one model: standard by period, then each tier beside the period it was read in."""
    periods: list[tuple[str | None, Any]] = []
    prices = model.prices if isinstance(model.prices, list) else [None]
    for entry in prices:
        if entry is None:
            periods.append((None, model.prices))
            continue
        start = getattr(entry.constraint, "start_date", None)
        if entry.constraint is not None and start is None:
            continue  # time-of-day windows are stated in the overlay
        periods.append((start.isoformat() + "T00:00:00Z" if start else None, entry.prices))
    periods.sort(key=lambda period: period[0] or "")
    rows: list[dict[str, Any]] = []
    spans = []
    for index, (start, model_price) in enumerate(periods):
        end = periods[index + 1][0] if index + 1 < len(periods) else None
        spans.append((start, end))
        base, above = price_units(provider, model_price)
        rows.append(row("standard", base, **{"from": start, "to": end}))
        rows.extend(row("standard", units, above=at, **{"from": start, "to": end}) for at, units in above.items())
    fees = {u: p for u, p in rows[0]["units"].items() if u in FEE_UNITS}
    for variant in model.price_variants or ():
        tier = next((TIERS[pair] for pair in variant.when.items() if pair in TIERS), None)
        base, above = price_units(provider, variant.prices)
        if tier is None or not base:
            continue
        seen = getattr(variant.constraint, "start_date", None)
        read_at = seen.isoformat() + "T00:00:00Z" if seen else None
        start, end = next(((s, e) for s, e in reversed(spans) if (s or "") <= (read_at or "9999")), spans[-1])
        later = [r for r in rows if r["tier"] == tier and r.get("from") == start]
        if later:
            continue
        if (
            tier == "batch" and provider == "google"
        ):  # batch leaves what it does not name (cache reads) at the standard rate
            standard = next(r for r in rows if r["tier"] == "standard" and r.get("from") == start and "above" not in r)[
                "units"
            ]
            base = {
                **{u: p for u, p in standard.items() if u.startswith("cache_read") or u.endswith("_cached")},
                **base,
            }
        rows.append(row(tier, {**fees, **base}, **{"from": start, "to": end}))
        rows.extend(row(tier, {**fees, **units}, above=at, **{"from": start, "to": end}) for at, units in above.items())
    return rows


FEE_UNITS = {
    "web_search",
    "web_search_preview",
    "file_search",
    "request",
    "grounding_prompt",
    "grounding_query",
    "grounding_maps",
    "text_message",
    "cache_token_seconds",
}


def agrees(listed: Mapping[str, Any], model: Any) -> bool:
    """Whether the second witness knows the name at a price that this model has, or had: a neighbour's name is often a dearer model's."""
    stated = listed.get("input_cost_per_token")
    if not stated:
        return True
    prices = model.prices if isinstance(model.prices, list) else [model.prices]
    known = {
        getattr(value, "base", value)
        for value in (getattr(getattr(p, "prices", p), "input_mtok", None) for p in prices)
    }
    return Decimal(stated) * 10**6 in known


def litellm_tiers(rows: list[dict[str, Any]], listed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tier tables that only litellm has (Gemini 2.5 flex and priority), taken when it agrees on the standard input price."""
    standard = [r for r in rows if r["tier"] == "standard"][-1:] or [{"units": {}}]
    base = next((r for r in reversed(rows) if r["tier"] == "standard" and "above" not in r), None)
    if base is None or not standard:
        return []
    stated = listed.get("input_cost_per_token")
    if stated is None or Decimal(stated) * 10**6 != Decimal(base["units"].get("input_uncached", "-1")):
        return []
    found = []
    for tier, suffix in LITELLM_TIERS.items():
        if any(r["tier"] == tier for r in rows):
            continue
        units = {
            unit: text(Decimal(listed[key + suffix]) * 10**6)
            for key, unit in LITELLM_UNITS.items()
            if listed.get(key + suffix) is not None
        }
        if "input_uncached" in units and "output_text" in units:
            found.append(
                row(
                    tier,
                    {**{u: p for u, p in base["units"].items() if u in FEE_UNITS}, **units},
                    **{"from": base.get("from")},
                )
            )
            long: dict[int, dict[str, str]] = {}
            for key, value in listed.items():
                hit = re.fullmatch(rf"(\w+)_above_(\d+)k_tokens{suffix}", key)
                if hit and hit[1] in LITELLM_UNITS:
                    long.setdefault(int(hit[2]) * 1000, {})[LITELLM_UNITS[hit[1]]] = text(Decimal(value) * 10**6)
            found.extend(
                row(tier, {**found[-1]["units"], **u}, above=at, **{"from": base.get("from")}) for at, u in long.items()
            )
    return found


def meta_of(listed: Mapping[str, Any], model: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    windows = [
        size
        for size in (getattr(model, "context_window", None), listed.get("max_input_tokens"))
        if isinstance(size, int)
    ]
    if windows:  # the larger: a bound must not believe the smaller of two stories
        meta["context"] = max(windows)
    output = listed.get("max_output_tokens") or (
        listed.get("max_tokens") if listed.get("mode") in ("chat", "responses", "completion") else None
    )
    if isinstance(output, int):
        meta["max_output"] = output
    if listed.get("mode"):
        meta["mode"] = listed["mode"]
    if listed.get("supports_reasoning"):
        meta["reasoning"] = True
    flags = {
        "image": "supports_vision",
        "pdf": "supports_pdf_input",
        "audio": "supports_audio_input",
        "video": "supports_video_input",
    }
    modalities = sorted(
        {m for m in listed.get("supported_modalities", ()) if m != "text"}
        | {m for m, f in flags.items() if listed.get(f)}
    )
    if modalities:
        meta["input"] = modalities
    if listed.get("regional_processing_uplift_multiplier_us"):
        meta["regional"] = str(listed["regional_processing_uplift_multiplier_us"])
    if listed.get("provider_specific_entry", {}).get("us"):
        meta["regional"] = str(listed["provider_specific_entry"]["us"])
    return meta


def add_unmatched(models: dict[str, dict[str, Any]], listed: Mapping[str, Any], taken: set[str]) -> None:
    """Models that only the second source has, at its prices: better than no price, and named as such."""
    for name, stated in sorted(listed.items()):
        regional_twin = "/" in name and stated.get("litellm_provider", "").startswith(("azure", "bedrock"))
        if name in taken or name in models or f"regional.{name}" in models or regional_twin:
            continue
        if stated.get("mode") not in ("chat", "completion", "responses", "embedding"):
            continue
        base = {unit: text(Decimal(stated[key]) * 10**6) for key, unit in LITELLM_UNITS.items() if stated.get(key)}
        if "input_uncached" not in base or ("output_text" not in base and stated["mode"] != "embedding"):
            continue
        above: dict[int, dict[str, str]] = {}
        for key, value in stated.items():
            hit = re.fullmatch(r"(\w+)_above_(\d+)k_tokens", key)
            if hit and hit[1] in LITELLM_UNITS and value:
                above.setdefault(int(hit[2]) * 1000, {})[LITELLM_UNITS[hit[1]]] = text(Decimal(value) * 10**6)
        rows = [row("standard", base), *(row("standard", {**base, **units}, above=at) for at, units in above.items())]
        rows += litellm_tiers(rows, stated)
        models[name] = {"names": [name], "second_source": True, **meta_of(stated, None), "rows": rows}


def convert(litellm: Path) -> dict[str, Any]:
    from genai_prices import __version__ as version
    from genai_prices.data import providers

    source = Source(litellm)
    theirs = {provider.id: provider for provider in providers}
    table: dict[str, Any] = {}
    for ours, (their_id, _) in PROVIDERS.items():
        models: dict[str, dict[str, Any]] = {}
        taken: set[str] = set()
        listed = source.names(ours)
        for model in theirs[their_id].models:
            taken.update(exact_names(model.match))
        for model in theirs[their_id].models:
            names = (
                set(exact_names(model.match)) | {model.id.lower()}
                if model.id.lower() not in taken
                else set(exact_names(model.match))
            )
            loose = {name for name in listed if name not in taken and model.match.is_match(name)}
            names |= {name for name in loose if agrees(listed[name], model)}
            names.discard("")
            taken |= names
            rows = rows_of(ours, model)
            hit = next(
                (
                    listed[n]
                    for n in [model.id.lower(), *sorted(names, key=lambda name: (len(name), name))]
                    if n in listed
                ),
                {},
            )
            if ours != "google":  # Gemini's other tiers are multiples of the standard table: the overlay says which
                rows += litellm_tiers(rows, hit)
            models[model.id.lower()] = {"names": sorted(names), **meta_of(hit, model), "rows": rows}
        add_unmatched(models, listed, taken)
        table[ours] = {"models": models}
    return {"source": f"genai-prices {version} + litellm metadata + overlay", "providers": table}

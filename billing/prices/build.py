"""Builds `table.json`, our dated price table, from genai-prices' data, litellm's metadata and our overlay. Never imported at run time.

    python -m billing.prices.build --litellm model_prices_and_context_window_backup.json

Both sources are development dependencies of whoever runs this script; what they say is converted, checked and committed, so that a
price change is a reviewed commit. What is guarded on the way (BILLING.md, "genai-prices' traps"):

* A prefix or substring match of the source accepts invented names. Here a model answers to exact names only: those the source
  names exactly, and those its loose pattern accepts *and* litellm lists as existing. (A dated snapshot is resolved by the book.)
* A tier the source does not model falls back to standard there. Here a tier is a table of its own or absent.
* Its tier history starts on the day somebody looked. Here a tier table is valid as long as the standard table it was read beside.
* Dates are UTC midnights there; the overlay may state the hour.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

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
}


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
            long = {}
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
            names |= {name for name in listed if name not in taken and model.match.is_match(name)}
            names.discard("")
            taken |= names
            rows = rows_of(ours, model)
            hit = next((listed[n] for n in [model.id.lower(), *sorted(names, key=len)] if n in listed), {})
            if ours != "google":  # Gemini's other tiers are multiples of the standard table: the overlay says which
                rows += litellm_tiers(rows, hit)
            models[model.id.lower()] = {"names": sorted(names), **meta_of(hit, model), "rows": rows}
        table[ours] = {"models": models}
    return {"source": f"genai-prices {version} + litellm metadata + overlay", "providers": table}


def overlay(table: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Applies `overlay.json`: see its own "about" for the shape."""
    for provider, change in changes["providers"].items():
        home = table["providers"].setdefault(provider, {"models": {}})
        home.update({key: change[key] for key in ("aliases", "fallback", "windows", "wildcard") if key in change})
        for model_id, patch in change.get("models", {}).items():
            patch_model(home["models"], model_id, patch)
        for rule in change.get("rules", ()):
            for model_id, model in home["models"].items():
                if re.fullmatch(rule["match"], model_id) and not (
                    "unless" in rule and re.fullmatch(rule["unless"], model_id)
                ):
                    apply_rule(model, rule)


def patch_model(models: dict[str, Any], model_id: str, patch: Mapping[str, Any]) -> None:
    """Adds or changes one model as the overlay says; a name it claims leaves the model that had it."""
    model = models.setdefault(model_id, {"names": [model_id], "rows": []})
    if "copy" in patch:
        model.update({k: v for k, v in json.loads(json.dumps(models[patch["copy"]])).items() if k != "names"})
    claimed = set(patch.get("names", ()))
    for other in models.values():
        if other is not model:
            other["names"] = [name for name in other["names"] if name not in claimed]
    model["names"] = sorted(set(model["names"]) | claimed)
    model.update({k: v for k, v in patch.items() if k not in ("names", "copy", "set")})
    for tier, units in patch.get("set", {}).items():
        kept = [r for r in model["rows"] if r["tier"] == tier and "above" not in r]
        for kept_row in kept:
            kept_row["units"].update(units)
        if not kept:
            model["rows"].append(row(tier, units))


def apply_rule(model: dict[str, Any], rule: Mapping[str, Any]) -> None:
    """One overlay rule on one model: its keys, its units, then its tiers."""
    model.update({key: value for key, value in rule.get("meta", {}).items() if not (rule.get("keep") and key in model)})
    for rates in model["rows"]:
        units = rates["units"]
        units.update(rule.get("units", {}))
        for unit, (base, factor) in rule.get("derive", {}).items():
            if base in units:
                units.setdefault(unit, text(Decimal(units[base]) * Decimal(factor)))
        for unit in rule.get("drop", ()):
            units.pop(unit, None)
        if "end_above" in rule and "above" in rates:
            rates["to"] = rule["end_above"]
    model["rows"] = [r for r in model["rows"] if r["tier"] not in rule.get("drop_tiers", ())]
    for tier, (base_tier, factor) in rule.get("tier_from", {}).items():
        if not any(r["tier"] == tier for r in model["rows"]):
            model["rows"] += [
                {**r, "tier": tier, "units": scaled(r["units"], factor)}
                for r in model["rows"]
                if r["tier"] == base_tier
            ]


def scaled(units: Mapping[str, str], factor: str) -> dict[str, str]:
    """Token rates times a factor; fees stay."""
    return {
        unit: price if unit in FEE_UNITS else text(Decimal(price) * Decimal(factor)) for unit, price in units.items()
    }


def check(table: Mapping[str, Any]) -> None:
    """Refuses a table in which a priced model has a row without units, a negative price, or a name that two models claim."""
    for provider, home in table["providers"].items():
        owner: dict[str, str] = {}
        for model_id, model in home["models"].items():
            for name in model["names"]:
                if owner.setdefault(name, model_id) != model_id:
                    raise SystemExit(f"{provider}: {name} is claimed by {owner[name]} and {model_id}")
            for rates in model["rows"]:
                if any(Decimal(p) < 0 for p in rates["units"].values()):
                    raise SystemExit(f"{provider} {model_id}: a negative price")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--litellm", type=Path, required=True, help="model_prices_and_context_window_backup.json from litellm's wheel"
    )
    options.add_argument("--out", type=Path, default=HERE / "table.json")
    args = options.parse_args()
    table = convert(args.litellm)
    changes = json.loads((HERE / "overlay.json").read_text())
    table["version"] = changes["version"]
    overlay(table, changes)
    for home in table[
        "providers"
    ].values():  # a model of the source without any price is free there by omission: ours must say so
        for model in home["models"].values():
            model["rows"] = [r for r in model["rows"] if r["units"]]
    check(table)
    lines = ["{"]
    head = {k: v for k, v in table.items() if k != "providers"}
    lines += [f'"{k}":{json.dumps(v)},' for k, v in sorted(head.items())]
    lines.append('"providers":{')
    chunks = []
    for provider, home in sorted(table["providers"].items()):
        models = ",\n".join(
            f"{json.dumps(i)}:{json.dumps(m, separators=(',', ':'), sort_keys=True)}"
            for i, m in sorted(home["models"].items())
        )
        rest = "".join(
            f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))},\n"
            for k, v in sorted(home.items())
            if k != "models"
        )
        chunks.append(f'{json.dumps(provider)}:{{\n{rest}"models":{{\n{models}\n}}}}')
    lines.append(",\n".join(chunks))
    lines.append("}}")
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

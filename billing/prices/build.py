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
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing.prices.convert import FEE_UNITS, convert, row, text

HERE = Path(__file__).parent


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
    model.update({k: v for k, v in patch.items() if k not in ("names", "copy", "set", "add")})
    model["rows"] += patch.get("add", ())
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
        if rule.get("inclusive") and rates.get("above", 1) % 1000 == 0:
            rates["above"] -= 1
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

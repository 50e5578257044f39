"""A value that satisfies a JSON Schema: for structured answers and for the arguments of tool calls."""

from __future__ import annotations

import random
from typing import Any

MAX_DEPTH = 8
_BY_FORMAT = {
    "date-time": "2026-11-21T12:00:00Z",
    "date": "2026-11-21",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "acme@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "018f3e2a-0000-7000-8000-000000000000",
}
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor")


def example(schema: Any, rng: random.Random) -> Any:
    """An instance of the schema. Follows what models are held to (types, enums, required, bounds, $ref); ignores `pattern`."""
    return _value(schema, schema, rng, 0)


def _value(schema: Any, root: Any, rng: random.Random, depth: int) -> Any:
    if not isinstance(schema, dict):
        return None
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    union = next((name for name in ("anyOf", "oneOf") if schema.get(name)), None)
    if union:
        branch = _branch(schema[union], rng, depth)
        return _value({**{k: v for k, v in schema.items() if k != union}, **branch}, root, rng, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if depth >= MAX_DEPTH and "null" in kind else next((k for k in kind if k != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema):
        return _object(schema, root, rng, depth)
    if kind == "array":
        return _array(schema, root, rng, depth)
    if kind in ("integer", "number"):
        return _number(schema, rng, whole=kind == "integer")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    return _string(schema, rng)


def _branch(branches: list[dict[str, Any]], rng: random.Random, depth: int) -> dict[str, Any]:
    """One of a union's branches; deep down, one that does not go deeper."""
    return rng.choice(branches) if depth < MAX_DEPTH else min(branches, key=lambda branch: "$ref" in str(branch))


def _array(schema: dict[str, Any], root: Any, rng: random.Random, depth: int) -> list[Any]:
    fewest = int(schema.get("minItems", 0))
    wanted = fewest if depth >= MAX_DEPTH else max(fewest, min(2, int(schema.get("maxItems", 2))))
    return [_value(schema.get("items", {"type": "string"}), root, rng, depth + 1) for _ in range(wanted)]


def _resolved(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    for _ in range(16):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        target = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            target = (
                target.get(part.replace("~1", "/").replace("~0", "~"), {})
                if part and isinstance(target, dict)
                else target
            )
        schema = {**{k: v for k, v in schema.items() if k != "$ref"}, **(target if isinstance(target, dict) else {})}
    merged = {k: v for k, v in schema.items() if k != "allOf"}
    for given in schema.get("allOf", []):
        added = _resolved(given, root)
        properties = {**merged.get("properties", {}), **added.get("properties", {})}
        required = [*merged.get("required", []), *added.get("required", [])]
        merged |= added
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def _object(schema: dict[str, Any], root: Any, rng: random.Random, depth: int) -> dict[str, Any]:
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    wanted = [name for name in properties if name in required or depth < MAX_DEPTH // 2]
    made = {name: _value(properties[name], root, rng, depth + 1) for name in wanted}
    for name in required:
        made.setdefault(name, "amber")
    return made


def _number(schema: dict[str, Any], rng: random.Random, *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
    step = schema.get("multipleOf", 1 if whole else 0)
    if step:
        first = -(-low // step) + (1 if "exclusiveMinimum" in schema and low % step == 0 else 0)
        last = high // step - (1 if "exclusiveMaximum" in schema and high % step == 0 else 0)
        value = step * rng.randint(int(first), max(int(first), int(last)))
        return int(value) if whole else value
    return float(low) + (float(high) - float(low)) * rng.choice((0.25, 0.5, 0.75))


def _string(schema: dict[str, Any], rng: random.Random) -> str:
    known = _BY_FORMAT.get(str(schema.get("format", "")))
    text = known or rng.choice(_WORDS)
    shortest, longest = int(schema.get("minLength", 0)), int(schema.get("maxLength", 10_000))
    return text.ljust(shortest, "x")[:longest]

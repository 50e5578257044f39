"""The reference of the REST API for people, drawn by the server from the OpenAPI document: nothing in it is written twice.

For everybody, signed in or not: it says nothing about anybody.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from workspaces import openapi_examples
from workspaces.reference import document

_DEEPEST = 3


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """Every group with its operations, and what all of them have in common."""
    server = document()["servers"][0]["url"]
    context = {"groups": list(_groups().values()), "problems": _problems(), "server": server, "active": ""}
    return render(request, "workspaces/reference.html", context)


@require_safe
def reference_group(request: HttpRequest, group: str) -> HttpResponse:
    """One group's operations in full."""
    groups = _groups()
    if group not in groups:
        raise Http404
    context = {"groups": list(groups.values()), "group": groups[group], "active": group}
    return render(request, "workspaces/reference_group.html", context)


@lru_cache(maxsize=1)
def _groups() -> dict[str, dict[str, Any]]:
    """By slug, in the order of the document's tags: {slug, name, text, operations}."""
    described = document()
    groups: dict[str, dict[str, Any]] = {
        tag["name"]: {"slug": slugify(tag["name"]), "name": tag["name"], "text": tag["description"], "operations": []}
        for tag in described["tags"]
    }
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]]["operations"].append(_operation(path, method, operation))
    return {group["slug"]: group for group in groups.values()}


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    status, answer = next(one for one in operation["responses"].items() if one[0].startswith("2"))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    shown = answer.get("content", {}).get("application/json")
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "text": _said(operation.get("description", "")),
        "scope": operation.get("x-scope", ""),
        "roles": operation.get("x-roles", []),
        "parameters": [_parameter(one) for one in operation["parameters"]],
        "fields": _fields(body["schema"]) if body else [],
        "status": status,
        "media": " or ".join(answer.get("content", {})),
        "answer_fields": _fields(shown["schema"]) if shown else [],
        "answer": _pretty(shown["example"]) if shown and "example" in shown else "",
        "curl": _curl(path, method, operation, body),
        "errors": [int(one) for one in operation["responses"] if one[0] in "45"],
    }


def _parameter(one: dict[str, Any]) -> dict[str, Any]:
    required = bool(one.get("required"))
    text = _said(one.get("description", ""))
    return {"name": one["name"], "where": one["in"], "type": _type(one["schema"]), "required": required, "text": text}


def _fields(schema: dict[str, Any], prefix: str = "", depth: int = 1) -> list[dict[str, Any]]:
    """Rows of {name, type, required, text}; what is inside an object follows it, as `outer.inner`, in a list as `outer[].inner`."""
    schema = _resolved(schema)
    required = set(schema.get("required", ()))
    rows = []
    for name, inner in schema.get("properties", {}).items():
        whole = _resolved(inner)
        text = (
            inner.get("description") or whole.get("description", "")
            if "properties" not in whole
            else inner.get("description", "")
        )
        rows.append({"name": prefix + name, "type": _type(inner), "required": name in required, "text": _said(text)})
        if depth < _DEEPEST:
            items = whole.get("items")
            rows += (
                _fields(items, f"{prefix}{name}[].", depth + 1)
                if items
                else _fields(whole, f"{prefix}{name}.", depth + 1)
            )
    return rows


def _type(schema: dict[str, Any]) -> str:
    """For people: "text", "one of a, b", "list of whole numbers", "… or null"."""
    whole = _resolved(schema)
    kinds = [whole["type"]] if isinstance(whole.get("type"), str) else list(whole.get("type", ()))
    null = " or null" if "null" in kinds or any("NullEnum" in str(one) for one in schema.get("oneOf", ())) else ""
    if "enum" in whole:
        return "one of " + ", ".join(str(one) for one in whole["enum"] if one is not None) + null
    kind = next((one for one in kinds if one != "null"), "any")
    if kind == "array":
        return f"list of {_type(whole.get('items', {}))}{null}"
    words = {"string": str(whole.get("format", "text")), "integer": "whole number", "boolean": "true or false"}
    return words.get(kind, kind) + _bounds(whole) + null


def _bounds(schema: dict[str, Any]) -> str:
    low, high, longest = schema.get("minimum"), schema.get("maximum"), schema.get("maxLength")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", at most {longest:,} characters" if longest else ""


def _curl(path: str, method: str, operation: dict[str, Any], body: dict[str, Any] | None) -> str:
    """A command for a shell that works once the token and the ids are one's own."""
    examples = {one["name"]: one.get("example", "") for one in operation["parameters"] if one["in"] == "path"}
    asked = [
        f"{one['name']}={one['example']}"
        for one in operation["parameters"]
        if one["in"] == "query" and one.get("required")
    ]
    address = document()["servers"][0]["url"] + path.format(**examples) + (f"?{'&'.join(asked)}" if asked else "")
    lines = [
        f"curl {'' if method == 'get' else f'-X {method.upper()} '}'{address}'",
        '  -H "Authorization: Bearer $SLUICE_TOKEN"',
    ]
    if body is not None:
        lines += [
            "  -H 'Content-Type: application/json'",
            "  -d '" + _pretty(body["example"]).replace("'", "'\\''") + "'",
        ]
    return " \\\n".join(lines)


@lru_cache(maxsize=1)
def _problems() -> list[dict[str, Any]]:
    found = []
    for answer in document()["components"]["responses"].values():
        (media,) = answer["content"].values()
        found.append(
            {
                "status": media["example"]["status"],
                "code": media["example"]["code"],
                "text": _said(answer["description"]),
            }
        )
    return found


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return openapi_examples.resolved(schema, document()["components"]["schemas"])


def _said(text: str) -> str:
    """Escaped, with `code` between backticks marked as such."""
    parts = " ".join(text.split()).split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", one) if at % 2 else one,) for at, one in enumerate(parts))
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)

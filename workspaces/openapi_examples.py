"""The examples of the OpenAPI document: bodies that are accepted as they stand, and answers put together from the fields' schemas.

A field's example is looked up by its name, else made from its type; a test checks each against its schema, and sends the bodies.
"""

from __future__ import annotations

from typing import Any

CODES = {
    400: "invalid", 401: "not_authenticated", 403: "not_allowed", 404: "not_found", 409: "taken", 412: "changed_meanwhile",
    415: "unsupported_media_type", 422: "idempotency_key_reused", 429: "too_many_requests",
}  # fmt: skip
_ID = "01932f6e-7c1a-7b3e-9f52-3f1d2c4b5a69"
_AT = "2026-11-21T09:30:00Z"
_LATER = "2099-12-31T23:59:59Z"

REQUESTS: dict[str, dict[str, Any]] = {
    "workspaces_create": {"slug": "acme-labs", "name": "Acme Labs", "time_zone": "Europe/Berlin"},
    "display_set": {"currency": "EUR", "rate": "0.92", "calls_shown_days": 90},
    "workspaces_change": {"name": "Acme", "time_zone": "Europe/Berlin"},
    "workspaces_suspend": {"reason": "a leaked key"},
    "virtual_keys_create": {"name": "backend", "environment": "production", "may_override": ["agent"]},
    "virtual_keys_change": {"output_limit": 4096},
    "virtual_keys_rotate": {"grace": "01:00:00"},
    "credentials_add": {"provider": "openai", "name": "main", "secret": "sk-proj-EXAMPLE-EXAMPLE-EXAMPLE", "verify": False},
    "credentials_change": {"priority": 1, "timeouts": {"first_byte_s": 30}},
    "credentials_rotate": {"secret": "sk-proj-EXAMPLE-EXAMPLE-ANOTHER", "verify": False},
    "aliases_create": {"name": "fast", "targets": ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]},
    "aliases_change": {"targets": ["openai/gpt-4o-mini"]},
    "routing_change": {"retries": 1},
    "invitations_create": {"email": "ada@example.com", "role": "member"},
    "members_change": {"role": "member"},
    "api_tokens_create": {"name": "nightly export", "scopes": ["read"], "expires_at": _LATER},
    "departments_create": {"name": "Support"},
    "agents_create": {"name": "triage-bot"},
    "workspaces_delete": {"typed_slug": "acme"},
    "alerts_archive_all": {"up_to": _ID},
    "budgets_create": {"name": "Support bot", "cap": "250", "period": "month", "scope": "feature", "value": "support"},
    "budgets_change": {"cap": "300"},
    "budgets_daily_hard_stop": {"cap": "25"},
    "budgets_monthly_control": {"cap": "500"},
    "budgets_member_caps": {"cap": "50"},
    "budgets_spend_alert": {"cap": "400"},
    "budgets_preview": {"cap": "100", "period": "month"},
    "budgets_preview_change": {"cap": "80"},
    "budgets_backtest": {"cap": "100", "period": "month", "days": 30},
    "budgets_backtest_change": {"cap": "80", "days": 30},
    "rate_limits_create": {"metric": "rpm", "limit": 600, "scope": "customer", "value": None},
    "rate_limits_change": {"limit": 1200},
    "raises_request": {"budget_id": _ID, "amount": "100", "reason": "launch week", "expires_at": "2026-12-01T00:00:00Z"},
    "prices_create": {"provider": "openai", "model": "*", "discount_percent": "12.5", "note": "contract of 2026"},
    "prices_change": {"note": "contract of 2026, extended"},
    "alert_preferences_change": {"mail": "daily", "quiet_from": "22:00", "quiet_to": "07:00"},
    "spend_alert_set": {"line": "1500"},
    "anomalies_feedback": {"feedback": "expected", "when": "this_time"},
    "anomalies_throttle": {"per_minute": 10, "minutes": 60},
    "anomaly_settings_change": {"least": "10", "responses": {"loop": "throttle"}, "throttle_per_minute": 10},
    "waste_dismiss": {"reason": "quality matters more here"},
    "waste_pull": {"lever": "done"},
    "waste_settings": {"fingerprints": True},
    "webhooks_create": {"name": "pager", "url": "https://hooks.example.com/sluice", "kinds": ["threshold", "stopped"]},
    "webhooks_change": {"paused": True},
    "saved_views_create": {"name": "By customer", "query": "by=customer"},
}  # fmt: skip
"""By operation. Sent as they are by a test: each is accepted."""

FIELDS: dict[str, Any] = {
    "period": "month", "strategy": "reject", "alert_percent": 75, "throttle_percent": 90, "kill_percent": 100, "throttle_per_minute": 0,
    "plan": "team",
    "slug": "acme", "name": "backend", "time_zone": "Europe/Berlin", "provider": "openai", "model": "gpt-4o-mini", "model_served": "gpt-4o-mini",
    "email": "ada@example.com", "user": "ada@example.com", "member": "ada@example.com", "created_by": "ada@example.com",
    "requested_by": "ada@example.com", "decided_by": "ada@example.com", "actor": "ada@example.com", "prefix": "slk_3f9a1c7e5b2d", "last_four": "x7Qa",
    "virtual_key": "slk_…", "api_token": "slt_…", "signing_secret": "whsec_…", "environment": "production", "agent": "triage-bot",
    "department": "Support", "address": "203.0.113.7", "action": "virtual_key.create", "target": "backend", "before": {},
    "after": {"name": "backend"},
    "hash": "b1946ac92492d2347c6235b4d2611184", "cap": "250", "limit": "250", "settled": "81.20", "held": "0.42", "left": "168.38", "over": "0",
    "percent": 32, "amount": "100", "reason": "launch week", "budget": "Support bot", "scope": "feature", "value": "support", "cost_usd": "0.00042",
    "held_usd": "0.0012", "charged_usd": "0.42", "at_most_usd": "0.61", "assumed_usd": "0", "cost_nano": 420000, "assumed_nano": 0,
    "calls": 12, "attempts": 12,
    "spent": "812.30", "expected": "1420.00", "low": "1305.00", "high": "1560.00", "line": "1500", "crosses_on": None,
    "url": "https://sluice.example/w/acme/alerts/", "kinds": ["threshold"], "title": "Support bot has used 75% of its cap", "kind": "threshold",
    "answer": "200 OK", "status": 200, "http_status": 200, "next": None, "endpoint": "chat", "error": "", "flags": [], "tags": {}, "fees": {},
    "usage": {"input_uncached": 812, "output_text": 64}, "raw_usage": "{}", "breakdown": [], "budgets": [], "price_version": "2026-11-20",
    "group": {"customer": "acme-eu"}, "dimensions": {"customer": "acme-eu", "feature": "support"}, "facts": {"percent": 75},
    "rates": {"input_uncached": "0.15", "output_text": "0.60"}, "tiers": {"standard": [{"unit": "input_uncached", "usd": "0.15", "per": 1000000}]},
    "discount_percent": "12.5", "unit": "usd", "usd": "0.15", "per": 1000000, "tier": "standard", "settings": {}, "timeouts": {},
    "allowed_models": [],
    "may_override": ["agent"], "scopes": ["read"], "why": ["no rate for output_image"], "notify": [50, 75, 90, 100], "quiet_from": "22:00",
    "quiet_to": "07:00", "from": "2026-11-01", "to": "2026-11-30", "start": "2026-11-01", "base_url": "", "upgrade_url": "", "message": "",
    "waste": "12.40", "waste_nano": 12400000000, "unconfirmed": "0", "saved": "3.10", "cost": "18.20", "subject": {"feature": "summary"},
    "by_category": {"overkill": "12.40"}, "evidence": {"answers": 120}, "lever": "done",
    "note": "contract of 2026", "check_message": "", "credential": None, "typed_slug": "acme",
}  # fmt: skip
"""By name, for answers and parameters; one that does not fit its schema's type is not used there."""

_BY_FORMAT = {
    "uuid": _ID, "date-time": _AT, "date": "2026-11-21", "email": "ada@example.com", "uri": "https://sluice.example/", "decimal": "12.5",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,), "null": (type(None),),
}  # fmt: skip


def add(document: dict[str, Any]) -> None:
    """Give every JSON body, every answer and every parameter of the document an example."""
    schemas = document["components"]["schemas"]
    for path_item in document.get("paths", {}).values():
        for operation in path_item.values():
            for parameter in operation.get("parameters", ()):
                if "example" not in parameter and parameter.get("required"):
                    parameter["example"] = of(parameter["schema"], schemas, parameter["name"])
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                wanted = REQUESTS.get(operation["operationId"])
                body.setdefault(
                    "example", of(body["schema"], schemas, only_required=True) if wanted is None else wanted
                )
            for answer in operation["responses"].values():
                shown = answer.get("content", {}).get("application/json")
                if shown is not None and "schema" in shown:
                    shown.setdefault("example", of(shown["schema"], schemas))


def of(schema: dict[str, Any], schemas: dict[str, Any], name: str = "", *, only_required: bool = False) -> Any:
    """A value of a schema. `name` is the field's."""
    schema = resolved(schema, schemas)
    if "enum" in schema:
        given = FIELDS.get(name)
        return given if given in schema["enum"] else schema["enum"][0]
    types = schema.get("type", "object" if "properties" in schema else None)
    types = [types] if isinstance(types, str) else list(types or ())
    if "properties" in schema:
        wanted = set(schema.get("required", ())) if only_required else set(schema["properties"])
        return {
            field: of(inner, schemas, field, only_required=only_required)
            for field, inner in schema["properties"].items()
            if field in wanted
        }
    if name in FIELDS and (not types or any(_is(FIELDS[name], one) for one in types)):
        return FIELDS[name]
    return _plain(schema, schemas, next((one for one in types if one != "null"), "null"), name)


def _plain(schema: dict[str, Any], schemas: dict[str, Any], kind: str, name: str) -> Any:
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    if kind == "array":
        return [of(schema.get("items", {}), schemas, name.removesuffix("s"))]
    if kind == "object":
        return {}
    if kind in ("integer", "number"):
        return max(1, int(schema.get("minimum", 1)))
    return {"boolean": False, "string": "text", "null": None}[kind]


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Through references, and through the allOf and oneOf that drf-spectacular wraps them in."""
    while True:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
        elif "allOf" in schema and "properties" not in schema:
            schema = schema["allOf"][0]
        elif "oneOf" in schema:
            schema = next((one for one in schema["oneOf"] if not str(one.get("$ref", "")).endswith("NullEnum")), {})
        else:
            return schema

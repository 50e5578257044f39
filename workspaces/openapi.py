"""What drf-spectacular must be told: how the API is authenticated, and the manners that every address has (`workspaces.rest`)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class ApiTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Registers itself by being defined."""

    target_class = "workspaces.authentication.ApiTokenAuthentication"
    name = "apiToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token of Sluice, `slt_...`."}


_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Makes the request safe to repeat: within 24 hours the same key with the same body is answered again, not done again.",
}
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "An ETag from reading the object: 412 when somebody edited it meanwhile.",
}


def manners(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A postprocessing hook: the headers that the base view reads, on every operation it reads them for."""
    for path, operations in result.get("paths", {}).items():
        if "{slug}" not in path:
            continue
        for method, operation in operations.items():
            if method == "post":
                operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
            if method in ("patch", "put", "delete") and "get" in operations:
                operation.setdefault("parameters", []).append(_IF_MATCH)
    return result

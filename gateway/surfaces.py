"""The surfaces: the APIs that clients speak to us. Each has its own shape for an error; what it says is the same everywhere.

OpenAI's and Anthropic's as their SDKs' types have them, Gemini's as google.rpc.Status in JSON. The facts that a program can use stand under
`sluice` in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import GatewayError

_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
_ANTHROPIC_KNOWN = frozenset(_ANTHROPIC_TYPES.values()) | {"api_error"}
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED", 409: "ABORTED", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL",
    501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_GOOGLE_KNOWN = frozenset(_GOOGLE_STATUS.values()) | {"OUT_OF_RANGE", "DATA_LOSS", "ALREADY_EXISTS", "UNKNOWN"}


@dataclass(frozen=True, slots=True)
class Surface:
    name: str
    prefix: str
    payload: Callable[[GatewayError, str], bytes]
    """(error, call id) -> the JSON of a body, or of the data of an event."""


def _openai(error: GatewayError, call_id: str) -> bytes:
    return error.payload(call_id)


def _anthropic(error: GatewayError, call_id: str) -> bytes:
    kind = error.type
    if kind not in _ANTHROPIC_KNOWN or error.status in (401, 402, 403, 404):
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    facts = _facts(error, call_id)
    stated = {"type": kind, "message": error.message, "code": error.code, "param": error.param, "sluice": facts}
    if type(error.details) is dict:
        stated["details"] = error.details
    return orjson.dumps({"type": "error", "error": stated, "request_id": call_id})


def _gemini(error: GatewayError, call_id: str) -> bytes:
    status = error.type if error.type in _GOOGLE_KNOWN else ""
    status = status or _GOOGLE_STATUS.get(error.status, "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT")
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code.upper(), "domain": "sluice"}
    ]
    if type(error.details) is list:
        details += error.details
    if error.retry_after_s is not None and not any(_is_retry_info(detail) for detail in details):
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{error.retry_after_s}s"})
    stated = {
        "code": error.status,
        "message": error.message,
        "status": status,
        "details": details,
        "sluice": _facts(error, call_id),
    }
    return orjson.dumps({"error": stated})


def _is_retry_info(detail: Any) -> bool:
    return type(detail) is dict and str(detail.get("@type")).endswith("google.rpc.RetryInfo")


def _facts(error: GatewayError, call_id: str) -> dict[str, Any]:
    facts: dict[str, Any] = orjson.loads(error.payload(call_id))["error"]["sluice"]
    return {"code": error.code, **facts}


OPENAI = Surface("openai", "/v1/", _openai)
ANTHROPIC = Surface("anthropic", "/anthropic/", _anthropic)
GEMINI = Surface("gemini", "/gemini/", _gemini)


def surface_of(path: str) -> Surface:
    """Whose API a path belongs to; OpenAI's where it is nobody's."""
    if path.startswith(ANTHROPIC.prefix):
        return ANTHROPIC
    return GEMINI if path.startswith(GEMINI.prefix) else OPENAI

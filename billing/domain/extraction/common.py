"""What every family needs: unwrapping batch results, error bodies, served tiers and regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec

from billing.domain.extraction.record import NOTHING, Usage

TIERS = {
    "": "standard", "default": "standard", "standard": "standard", "auto": "standard", "on_demand": "standard", "standard_only": "standard",
    "flex": "flex", "priority": "priority", "fast": "priority", "batch": "batch",
}  # fmt: skip
"""A served tier as providers word it -> the name of its price table. Anything else keeps its own name, and so has no price."""

_REGION = (
    re.compile(r"//([a-z]{2,3})\.api\.openai\.com"),
    re.compile(r"//(us)(?:-[a-z]+-\d)?\.api\.x\.ai"),
    re.compile(r"//([a-z]+-[a-z]+\d+)-aiplatform\."),
    re.compile(r"//aiplatform\.([a-z]{2,})\.rep\.googleapis"),
    re.compile(r"/locations/(?!global)([a-z0-9-]+)"),
    re.compile(r"//(?:api[.-])?(eu|us)[.-](?:api\.)?mistral\.ai"),
)


_WITHIN_A_ZONE = frozenset({"datazone", "datazonestandard", "datazonebatch", "regional", "standard"})
"""Azure's deployment types whose price is a regional one; no answer says its type, so an account must."""


class Call(msgspec.Struct, frozen=True):
    """What is known of a call beside its answer."""

    provider: str
    endpoint: str
    request: Mapping[str, Any]
    streamed: bool = False
    base_url: str = ""
    account: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """State of the account that decides some fees: free quotas already used, container sessions. Absent: not known."""
    batch: bool = False

    @property
    def region(self) -> str:
        """The region whose uplift applies: stated by the account, or in the address that was called; empty for a global endpoint."""
        if not self.account:
            return _region_of(self.base_url) or _region_of(self.endpoint)
        if str(self.account.get("deployment_type", "")).replace("_", "").lower() in _WITHIN_A_ZONE:
            return "zone"
        for key in ("region", "location"):
            stated = self.account.get(key)
            if isinstance(stated, str) and stated.lower() not in ("", "global"):
                return stated[:40]
        return _region_of(self.base_url) or _region_of(self.endpoint)

    def tier(self, served: Any) -> str:
        """The price table of a served tier. Batch is known from the endpoint: its results say "default"."""
        if self.batch:
            return "batch"
        if served is None:
            return "standard"
        return TIERS.get(served, served) if isinstance(served, str) else "unknown"


@lru_cache(maxsize=1024)
def _region_of(address: str) -> str:
    """The region that an address names; empty where it names none."""
    for pattern in _REGION:
        if hit := pattern.search(address):
            return hit[1]
    return ""


_WRAPPERS = frozenset({"custom_id", "key", "response", "recordId"})
"""A line of batch results has one of these."""


def unwrap(payload: Any) -> tuple[Any, bool, bool]:
    """(the answer inside a batch result line, whether it was one, whether that line failed)."""
    if isinstance(payload, Mapping) and not payload.keys().isdisjoint(_WRAPPERS):
        result, response = payload.get("result"), payload.get("response")
        if "custom_id" in payload and isinstance(result, Mapping):  # Anthropic
            return result.get("message"), True, result.get("type") != "succeeded"
        if "custom_id" in payload and isinstance(response, Mapping):  # OpenAI and its kin
            code = response.get("status_code", 200)
            return response.get("body"), True, type(code) is not int or code >= 400
        if "custom_id" in payload or ("key" in payload and "error" in payload):
            return None, True, True
        if isinstance(response, Mapping) and "usageMetadata" in response:  # Gemini
            return response, True, False
        if "recordId" in payload and ("modelOutput" in payload or "error" in payload):  # Bedrock's batch inference
            return payload.get("modelOutput"), True, "modelOutput" not in payload
    return payload, False, False


def failed(body: Mapping[str, Any]) -> bool:
    """An error body: nothing was billed."""
    return (
        bool(body.get("error"))
        or body.get("type") == "error"
        or body.get("object") == "error"
        or body.get("status") == "failed"
    )


def unbilled(why: str) -> Usage:
    return NOTHING.with_flags((why,))


def unreadable(why: str, raw: Any = None) -> Usage:
    """An answer whose usage is absent or of a wrong shape: count it instead."""
    return Usage(measured=False, flags=(why,), raw=raw)


def events(payload: Any) -> Sequence[Mapping[str, Any]]:
    """The JSON objects of a stream, in order; anything else in the list is skipped."""
    return [event for event in payload if isinstance(event, Mapping)] if isinstance(payload, Sequence) else []


def decimal(value: Any) -> Decimal | None:
    """A JSON number as an exact Decimal. A float was parsed by somebody else: its shortest text is the number that was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= 10**9 else None

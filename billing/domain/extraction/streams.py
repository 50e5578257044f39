"""Streams folded to the one body that a whole answer would have been. Cumulative usage replaces, the last one wins, nothing is summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from billing.domain.extraction import openai
from billing.domain.extraction.common import Call, unreadable
from billing.domain.extraction.record import Usage

Event = Mapping[str, Any]
FINAL_RESPONSES = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


def completions(events: Sequence[Event], call: Call) -> Usage:
    """Chat chunks: the last usage that is an object; the first model and the last tier that are named (Azure starts with an empty model)."""
    merged: dict[str, Any] = {}
    for event in events:
        for key in ("model", "id"):
            if not merged.get(key) and event.get(key):
                merged[key] = event[key]
        if event.get("service_tier") is not None:
            merged["service_tier"] = event["service_tier"]
        if event.get("error"):
            merged["error"] = event["error"]
        usage = event.get("usage")
        if usage is None and isinstance(event.get("x_groq"), Mapping):
            usage = event["x_groq"].get("usage")
        if usage is not None:
            merged["usage"] = usage
    if "usage" not in merged and any(event.get("choices") for event in events):
        return unreadable("stream_without_usage")
    return openai.completions(merged, call)


def responses(events: Sequence[Event], call: Call) -> Usage:
    final = [
        event["response"]
        for event in events
        if event.get("type") in FINAL_RESPONSES and isinstance(event.get("response"), Mapping)
    ]
    if final:
        return openai.responses(final[-1], call)
    if any(str(event.get("type", "")).endswith(".delta") for event in events):
        return unreadable("stream_without_usage")
    if any(event.get("type") == "error" or event.get("error") for event in events):
        return openai.responses({"error": True}, call)
    return unreadable("stream_without_usage")

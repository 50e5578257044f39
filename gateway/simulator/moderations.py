"""The OpenAI dialect: moderations. Free, as theirs; nothing is ever flagged but the word itself."""

from __future__ import annotations

from typing import Any

from gateway.simulator.dialect import Refused, body_object

_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm", "self-harm/instructions",
    "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def answer(raw: bytes) -> dict[str, Any]:
    body = body_object(raw)
    given = body.get("input")
    inputs = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str | dict) for one in inputs):
        raise Refused(400, "'input' must be a string or a list.", param="input")
    results = [_judged("flag me" in str(one)) for one in inputs]
    return {"id": "modr-simulator", "model": body.get("model") or "omni-moderation-latest", "results": results}


def _judged(flagged: bool) -> dict[str, Any]:
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == "harassment" for name in _CATEGORIES},
        "category_scores": {name: 0.9 if flagged and name == "harassment" else 0.0 for name in _CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }

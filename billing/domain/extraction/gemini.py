"""Gemini's native API. The prompt includes cache reads; thoughts and tool prompts stand apart (BILLING.md 1.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Any

from billing.domain.extraction.common import Call, failed, unbilled, unreadable
from billing.domain.extraction.record import Tally, Usage, UsageContext, text_of

KNOWN = frozenset(
    {
        "promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount",
        "totalTokenCount", "promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails", "toolUsePromptTokensDetails",
        "trafficType", "serviceTier", "responseTokenCount", "responseTokensDetails", "billablePromptUsage", "thoughtsTokensDetails",
    }
)  # fmt: skip
CACHE_KEYS = frozenset(
    {
        "totalTokenCount",
        "textCount",
        "imageCount",
        "videoDurationSeconds",
        "audioDurationSeconds",
        "promptTokensDetails",
    }
)
MEDIA = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "video"}
TEXT = frozenset({"TEXT", "DOCUMENT", "MODALITY_UNSPECIFIED"})
TRAFFIC = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "TRAFFIC_TYPE_UNSPECIFIED": "standard",
}
_QUOTA = re.compile(r"ground|search|quer")
"""What an account may call the count of what it has used of the free quota."""
FREE_GROUNDED_PROMPTS_A_DAY = 1_500
FREE_GROUNDED_PROMPTS_A_DAY_PRO = 10_000
FREE_GROUNDED_QUERIES_A_MONTH = 5_000


def generate(body: Mapping[str, Any], call: Call) -> Usage:
    """One GenerateContentResponse, or a bare usageMetadata."""
    usage = body.get("usageMetadata", body.get("usage_metadata"))
    if usage is None:
        if failed(body):
            return unbilled("provider_error")
        if "promptTokenCount" in body or "prompt_token_count" in body or "totalTokenCount" in body:
            usage = body
        else:
            return unreadable("usage_missing")
    if not isinstance(usage, Mapping):
        return unreadable("bad_section:usageMetadata", usage)
    return _usage(_camel(usage), usage, body, call)


def stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    """Every chunk repeats a cumulative usageMetadata: the last one counts, and is filled up from earlier ones only where it does not add up."""
    last: dict[str, Any] | None = None
    earlier: dict[str, Any] = {}
    body: dict[str, Any] = {}
    candidates: list[Any] = []
    for event in events:
        wrapped = event.get("response")
        inner: Mapping[str, Any] = wrapped if isinstance(wrapped, Mapping) and "candidates" not in event else event
        usage = inner.get("usageMetadata", inner.get("usage_metadata"))
        if isinstance(usage, Mapping):
            if last:
                earlier.update({key: value for key, value in last.items() if value is not None})
            last = _camel(usage)
        elif usage is not None:
            return unreadable("bad_section:usageMetadata", usage)
        for key in ("modelVersion", "model_version", "responseId", "error"):
            if inner.get(key):
                body[key] = inner[key]
        if isinstance(inner.get("candidates"), list):
            candidates += [
                c
                for c in inner["candidates"]
                if isinstance(c, Mapping) and (c.get("groundingMetadata") or c.get("grounding_metadata"))
            ]
            body.setdefault("answered", True)
    if last is None:
        return (
            unbilled("provider_error")
            if body.get("error") and not body.get("answered")
            else unreadable("stream_without_usage")
        )
    last = filled_up(last, earlier)
    body["candidates"] = candidates[-1:]  # the last chunk's grounding is the whole of it
    return _usage(last, last, body, call)


def filled_up(last: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The last usageMetadata of a stream; with what earlier ones said where only that makes it add up."""
    if _sum(last) != last.get("totalTokenCount"):
        filled = {**earlier, **{key: value for key, value in last.items() if value is not None}}
        if _sum(filled) == filled.get("totalTokenCount"):
            return filled
    return last


def _sum(usage: Mapping[str, Any]) -> int:
    keys = (
        "promptTokenCount",
        "candidatesTokenCount",
        "responseTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
    )
    return sum(value for value in (usage.get(key) for key in keys) if type(value) is int)


def cache_storage(body: Mapping[str, Any], call: Call) -> Usage:
    """An explicit cache that was made or prolonged: its tokens for as long as it is kept. (Reading from it is part of each answer's usage.)"""
    usage = body.get("usageMetadata", body.get("usage_metadata"))
    if not isinstance(usage, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    usage = _camel(usage)
    tally = Tally()
    tally.expect(usage, CACHE_KEYS)
    tokens, seconds = tally.count(usage, "totalTokenCount", required=True), _kept_s(body, call.request)
    if seconds is None:
        tally.unknowable.append("cache_storage_time")
    tally.fee("cache_token_seconds", tokens * (seconds or 0))
    context = UsageContext(model_served=text_of(body, "model"), response_id=text_of(body, "name"), prompt_total=tokens)
    return tally.usage(context, usage)


def _kept_s(body: Mapping[str, Any], request: Mapping[str, Any]) -> int | None:
    """For how many seconds a cache is kept, rounded up."""
    try:
        ends = datetime.fromisoformat(text_of(body, "expireTime"))
        begins = datetime.fromisoformat(text_of(body, "updateTime") or text_of(body, "createTime"))
        return max(0, ceil((ends - begins).total_seconds()))
    except (ValueError, TypeError):  # TypeError: one with a time zone, one without
        asked = re.fullmatch(r"(\d{1,9})(?:\.\d+)?s", text_of(body, "ttl") or text_of(request, "ttl"))
        return int(asked[1]) if asked else None


def _usage(usage: Mapping[str, Any], raw: Any, body: Mapping[str, Any], call: Call) -> Usage:
    tally = Tally()
    tally.expect(usage, KNOWN)
    prompt = tally.count(usage, "promptTokenCount")
    tool = tally.count(usage, "toolUsePromptTokenCount")
    cached = tally.part_of(prompt, tally.count(usage, "cachedContentTokenCount"), "cachedContentTokenCount")
    candidates = tally.count(usage, "candidatesTokenCount") + tally.count(usage, "responseTokenCount")
    thoughts = tally.count(usage, "thoughtsTokenCount")
    total = tally.count(usage, "totalTokenCount")
    if not usage.get("promptTokenCount") and not tool + candidates + thoughts:
        tally.unusable("missing_count:promptTokenCount")  # a total alone does not say what was read and what written
    if total and total != prompt + tool + candidates + thoughts:
        tally.flag("provider_total_differs")
    _input(tally, usage, prompt, cached)
    tally.add("tool_input", tool)
    text = candidates
    for medium, quantity in _by_medium(tally, usage, "candidatesTokensDetails", "responseTokensDetails").items():
        taken = min(quantity, text)
        tally.add(f"output_{medium}", taken)
        text -= taken
    tally.add("output_text", text + thoughts)
    model = text_of(body, "modelVersion") or text_of(body, "model_version")
    _grounding(tally, body, model or _asked(call), call)
    context = UsageContext(
        tier=_tier(usage, call, tally),
        batch=call.batch,
        regional=call.region,
        prompt_total=prompt,
        model_served=model.removeprefix("models/"),
        response_id=text_of(body, "responseId"),
    )
    return tally.usage(context, raw)


def _input(tally: Tally, usage: Mapping[str, Any], prompt: int, cached: int) -> None:
    by_medium = _by_medium(tally, usage, "promptTokensDetails")
    by_cached = _by_medium(tally, usage, "cacheTokensDetails")
    fresh_text, cached_text = prompt - cached, cached
    stated = sum(by_medium.values())
    if stated > prompt:
        tally.unusable("subset_exceeds_total:promptTokensDetails")
        by_medium, stated = {}, 0
    if (
        not by_cached and cached > prompt - stated
    ):  # more than the text there is: the rest of what was cached must be media
        left = cached - (prompt - stated)
        for medium, quantity in by_medium.items():
            by_cached[medium] = min(quantity, left)
            left -= by_cached[medium]
    for medium, quantity in by_medium.items():
        old = min(by_cached.get(medium, 0), quantity, cached_text)
        new = min(quantity - old, fresh_text)
        tally.add(f"input_{medium}", new)
        tally.add(f"input_{medium}_cached", old)
        fresh_text -= new
        cached_text -= old
    tally.add("input_uncached", fresh_text)
    tally.add("cache_read", cached_text)


def _by_medium(tally: Tally, usage: Mapping[str, Any], *keys: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in keys:
        details = usage.get(key)
        for entry in details if isinstance(details, list) else ():
            if not isinstance(entry, Mapping):
                tally.unusable(f"bad_section:{key}")
                continue
            modality = str(entry.get("modality", "")).upper()
            quantity = tally.count(entry, "tokenCount" if "tokenCount" in entry else "token_count")
            if modality in MEDIA:
                found[MEDIA[modality]] = found.get(MEDIA[modality], 0) + quantity
            elif modality not in TEXT:
                tally.flag(f"schema_drift:{key}.{modality[:40]}")
    return found


def _grounding(tally: Tally, body: Mapping[str, Any], model: str, call: Call) -> None:
    """Gemini 2: a fee per grounded prompt. Gemini 3 and later: a fee per executed query, empty ones ignored. Both after a free quota."""
    queries = maps = 0
    grounded = False
    candidates = body.get("candidates")
    for candidate in candidates if isinstance(candidates, list) else ():
        meta = (
            candidate.get("groundingMetadata", candidate.get("grounding_metadata"))
            if isinstance(candidate, Mapping)
            else None
        )
        if not isinstance(meta, Mapping):
            continue
        asked = meta.get("webSearchQueries", meta.get("web_search_queries"))
        asked = asked if isinstance(asked, list) else []
        images = meta.get("imageSearchQueries", meta.get("image_search_queries"))
        asked = [*asked, *(images if isinstance(images, list) else [])]
        queries += sum(1 for query in asked if isinstance(query, str) and query.strip())
        chunks = meta.get("groundingChunks", meta.get("grounding_chunks"))
        chunks = [chunk for chunk in chunks if isinstance(chunk, Mapping)] if isinstance(chunks, list) else []
        maps += any("maps" in chunk for chunk in chunks)
        grounded |= any("web" in chunk for chunk in chunks)
    tally.fee("grounding_maps", min(maps, 1))
    by_prompt = re.search(r"gemini-(?:1|2)(?:\.|-|$)", model) is not None
    if by_prompt:
        free = FREE_GROUNDED_PROMPTS_A_DAY_PRO if "2.5-pro" in model else FREE_GROUNDED_PROMPTS_A_DAY
        _after_quota(tally, "grounding_prompt", int(queries > 0 or grounded), free, call, charge_unknown=False)
    else:
        _after_quota(tally, "grounding_query", queries, FREE_GROUNDED_QUERIES_A_MONTH, call, charge_unknown=True)


def _after_quota(tally: Tally, fee: str, quantity: int, free: int, call: Call, *, charge_unknown: bool) -> None:
    if not quantity:
        return
    used = next(
        (value for key, value in call.account.items() if type(value) is int and _QUOTA.search(str(key))),
        None,
    )
    if (
        used is None
    ):  # the quota is the account's, over many calls: without its state the line is a guess either way, and says so
        tally.missing.append(f"free_quota_unknown:{fee}")
        if charge_unknown:
            tally.fee(fee, quantity)
        return
    tally.fee(fee, min(quantity, max(0, used + quantity - free)))


def _tier(usage: Mapping[str, Any], call: Call, tally: Tally) -> str:
    if call.batch:
        return "batch"
    traffic = text_of(usage, "trafficType")
    if traffic.startswith("PROVISIONED"):
        tally.unknowable.append("priority_tier")
        return "standard"
    tier = text_of(usage, "serviceTier").lower().removeprefix("service_tier_")
    if tier and tier != "unspecified":
        return call.tier(tier)
    return TRAFFIC.get(traffic, traffic.lower()) if traffic else "standard"


def _asked(call: Call) -> str:
    hit = re.search(r"models/([^/:]+)", call.endpoint)
    return hit[1] if hit and "{" not in hit[1] else text_of(call.request, "model")


def _camel(usage: Mapping[str, Any]) -> dict[str, Any]:
    """snake_case keys, as SDKs print them, to the wire's camelCase."""
    return {re.sub(r"_([a-z])", lambda hit: hit[1].upper(), str(key)): value for key, value in usage.items()}

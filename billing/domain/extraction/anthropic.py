"""Anthropic messages. Totals are exclusive: uncached, cache reads and cache writes stand side by side (BILLING.md 1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from billing.domain.extraction.common import Call, decimal, failed, unbilled, unreadable
from billing.domain.extraction.record import Tally, Usage, UsageContext, text_of

COUNTS = frozenset(
    {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "cache_read_input_tokens",
        "output_tokens",
        "output_tokens_details",
    }
)
USAGE_KEYS = COUNTS | {"server_tool_use", "service_tier", "inference_geo", "speed", "iterations", "fallback_credit"}
OPENROUTER_KEYS = frozenset({"cost", "is_byok", "cost_details"})
"""What OpenRouter adds where it speaks this dialect: its own charge."""
ITERATION_KEYS = COUNTS | {"type", "model", "service_tier", "speed", "inference_geo"}
ITERATION_TYPES = frozenset({"message", "compaction", "advisor_message", "fallback_message"})
WRITE_KEYS = frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"})
TOOL_KEYS = frozenset(
    {
        "web_search_requests",
        "web_fetch_requests",
        "code_execution_requests",
        "tool_search_requests",
        "bash_code_execution_requests",
    }
    | {"text_editor_code_execution_requests"}
)
CODE_EXECUTION = frozenset({"code_execution", "bash_code_execution", "text_editor_code_execution"})
GLOBAL = frozenset({"", "global", "not_available"})
FREE_CODE_EXECUTION_SINCE = 20260209
"""Web tools of this version or later run code inside their own price."""


def messages(body: Mapping[str, Any], call: Call) -> Usage:
    """A whole message, or a bare usage object."""
    usage = body.get("usage")
    if usage is None:
        if failed(body):
            return unbilled("provider_error")
        if "input_tokens" not in body and "output_tokens" not in body:
            return unreadable("usage_missing")
        usage = body
    if not isinstance(usage, Mapping):
        return unreadable("bad_section:usage", usage)
    return _usage(usage, body, call, Tally())


def stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    """`message_start` holds the split of writes, tier, speed and geo; each `message_delta` is cumulative and *replaces* what it names."""
    start: Mapping[str, Any] | None = None
    stated: Mapping[str, Any] = {}
    deltas = []
    content = []
    broken = False
    for event in events:
        kind = event.get("type")
        message = event.get("message")
        if kind == "message_start" and isinstance(message, Mapping):
            start = message
            if isinstance(message.get("usage"), Mapping):
                stated = message["usage"]
        elif kind == "content_block_start":
            content.append(event.get("content_block"))
        elif kind == "message_delta":
            if isinstance(event.get("usage"), Mapping):
                deltas.append(event["usage"])
        elif kind == "error":
            broken = True
    if start is None and not deltas:
        return unbilled("provider_error") if broken or not events else unreadable("stream_without_usage")
    tally = Tally()
    if not deltas:  # the start's output count is a placeholder of one to five tokens
        tally.unusable("stream_without_usage")
    return _usage(merged(stated, deltas), {**(start or {}), "content": content}, call, tally)


def merged(start: Mapping[str, Any], deltas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The one usage object that a stream's start and its cumulative deltas amount to."""
    usage = dict(start)
    for delta in deltas:
        usage.update({key: value for key, value in delta.items() if value is not None})
    split = usage.get("cache_creation")
    written = usage.get("cache_creation_input_tokens")
    if (
        isinstance(split, Mapping)
        and type(written) is int
        and sum(v for v in split.values() if type(v) is int) != written
    ):
        usage["cache_creation"] = (
            None  # the split is the start's, the total the delta's: what grew since is a five-minute write
        )
        _grown_split(usage, split, written)
    return usage


def _grown_split(usage: dict[str, Any], split: Mapping[str, Any], written: int) -> None:
    long = split.get("ephemeral_1h_input_tokens")
    if type(long) is int and 0 <= long <= written:
        usage["cache_creation"] = {"ephemeral_1h_input_tokens": long, "ephemeral_5m_input_tokens": written - long}


def _usage(usage: Mapping[str, Any], body: Mapping[str, Any], call: Call, tally: Tally) -> Usage:
    tally.expect(usage, USAGE_KEYS if call.provider != "openrouter" else USAGE_KEYS | OPENROUTER_KEYS)
    tally.count(tally.section(usage, "output_tokens_details"), "thinking_tokens")  # inside output_tokens
    context = UsageContext(
        tier=_tier(usage, call, tally),
        batch=call.batch,
        regional=_region(usage, call),
        # Bedrock answers with the bare name, but bills the regional or global id that was asked for
        model_served="" if call.provider == "bedrock" else text_of(body, "model"),
        response_id=text_of(body, "id"),
        stated_cost_usd=decimal(usage.get("cost")) if call.provider == "openrouter" else None,
    )
    iterations = usage.get("iterations")
    if isinstance(iterations, list) and iterations:
        prompt = _iterations(tally, iterations, usage, context)
    else:
        prompt = _counts(tally, usage)
    _tools(tally, usage, body, call)
    if usage.get("fallback_credit"):
        tally.missing.append("fallback_credit")
    return tally.usage(_sized(context, prompt), usage)


def _sized(context: UsageContext, prompt: int, model: str = "") -> UsageContext:
    return UsageContext(
        tier=context.tier,
        batch=context.batch,
        regional=context.regional,
        prompt_total=prompt,
        model_served=model or context.model_served,
        response_id=context.response_id,
        stated_cost_usd=context.stated_cost_usd,
    )


def _counts(tally: Tally, usage: Mapping[str, Any]) -> int:
    """Adds one set of counts; returns its prompt size (input + read + written)."""
    fresh = tally.count(usage, "input_tokens", required=True)
    read = tally.count(usage, "cache_read_input_tokens")
    output = tally.count(usage, "output_tokens", required=True)
    written = tally.count(usage, "cache_creation_input_tokens")
    split = tally.section(usage, "cache_creation")
    tally.expect(split, WRITE_KEYS, "cache_creation.")
    long = tally.count(split, "ephemeral_1h_input_tokens")
    short = tally.count(split, "ephemeral_5m_input_tokens")
    if split and long + short != written:
        tally.flag("provider_total_differs")
    short = max(short, written - long)  # without a split, or for what it leaves out: five minutes
    tally.add("input_uncached", fresh)
    tally.add("cache_read", read)
    tally.add("cache_write_5m", short)
    tally.add("cache_write_1h", long)
    tally.add("output_text", output)
    return fresh + read + short + long


def _iterations(tally: Tally, iterations: Iterable[Any], usage: Mapping[str, Any], context: UsageContext) -> int:
    """Bills each iteration at its own model: compaction, advisors and fallbacks are not in the top-level counts."""
    prompt = 0
    seen_message = False
    for iteration in iterations:
        if not isinstance(iteration, Mapping):
            tally.unusable("bad_section:iterations")
            continue
        kind = text_of(iteration, "type")
        if kind not in ITERATION_TYPES:
            tally.flag(f"schema_drift:iterations.{kind[:64]}")
            tally.missing.append(f"unread:iterations.{kind[:64]}")  # priced as any other, which nobody has confirmed
        tally.expect(iteration, ITERATION_KEYS, "iterations.")
        part = Tally()
        size = _counts(part, iteration)
        other = text_of(iteration, "model")
        if kind == "message" and other in ("", context.model_served):
            seen_message = True
            for bucket, quantity in part.buckets.items():
                tally.add(bucket, quantity)
            prompt += size
        else:
            tally.parts.append(part.usage(_sized(context, size, other), iteration))
        tally.measured &= part.measured
        for flag in part.flags:
            tally.flag(flag)
    if not seen_message and not any(
        text_of(i, "type") == "fallback_message" for i in iterations if isinstance(i, Mapping)
    ):
        return _counts(tally, usage)
    top = Tally()
    _counts(top, usage)
    if sum(top.buckets.values()) == sum(tally.buckets.values()) and "cache_write_1h" in top.buckets:
        tally.buckets = top.buckets  # the same tokens, with the split of writes that iterations leave out
    return prompt


def _tools(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    used = tally.section(usage, "server_tool_use")
    tally.expect(used, TOOL_KEYS, "server_tool_use.")
    searches = tally.count(used, "web_search_requests")
    fetches = tally.count(used, "web_fetch_requests")
    tally.fee("web_search", searches)  # failed searches are not counted, fetches are free
    ran = sum(tally.count(used, key) for key in used if str(key).endswith("code_execution_requests"))
    blocks = body.get("content")
    if isinstance(blocks, list):
        ran += sum(
            1
            for block in blocks
            if isinstance(block, Mapping)
            and block.get("name") in CODE_EXECUTION
            and block.get("type") == "server_tool_use"
        )
    if ran and not _code_execution_free(call.request, searches + fetches > 0):
        tally.unknowable.append("container_time")


def _code_execution_free(request: Mapping[str, Any], used_web: bool) -> bool:
    tools = request.get("tools")
    if not isinstance(tools, list) or not tools:
        return used_web
    versions = [
        re.fullmatch(r"web_(?:search|fetch)_(\d{8})", text_of(tool, "type"))
        for tool in tools
        if isinstance(tool, Mapping)
    ]
    return any(version is not None and int(version[1]) >= FREE_CODE_EXECUTION_SINCE for version in versions)


def _tier(usage: Mapping[str, Any], call: Call, tally: Tally) -> str:
    served = text_of(usage, "service_tier")
    if served == "priority":  # committed spend under contract: the list price does not apply
        tally.unknowable.append("priority_tier")
        return "standard"
    if served == "batch" or call.batch:
        return "batch"
    if usage.get("speed") == "fast":
        return "fast"
    speed = usage.get("speed")
    if speed not in (None, "standard"):
        return str(speed)[:40]
    return call.tier(served)


def _region(usage: Mapping[str, Any], call: Call) -> str:
    geo = text_of(usage, "inference_geo")
    return call.region if geo in GLOBAL else geo

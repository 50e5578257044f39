"""OpenAI's APIs and the many that imitate them: chat and text completions, embeddings, responses. Totals are inclusive (BILLING.md 1.1).

Where an imitator counts differently, `Quirks` says so in one line of `QUIRKS`; the reading is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.domain.extraction import fees
from billing.domain.extraction.common import Call, decimal, failed, unbilled, unreadable
from billing.domain.extraction.record import Tally, Usage, UsageContext, text_of

CHAT_KEYS = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    # Responses' spelling: some imitators mix the two in one object.
    | {"input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"}
)
INPUT_DETAILS = frozenset(
    {
        "cached_tokens",
        "cache_write_tokens",
        "cache_write_tokens_details",
        "audio_tokens",
        "image_tokens",
        "text_tokens",
        "video_tokens",
    }
    | {"cached_tokens_details", "orchestration_input_cached_tokens", "orchestration_input_tokens", "file_tokens"}
)
OUTPUT_DETAILS = frozenset(
    {
        "reasoning_tokens",
        "audio_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
        "image_tokens",
    }
    | {"orchestration_output_tokens"}
)
WRITE_DETAILS = frozenset({"ttl_30m_tokens", "ttl_12h_tokens"})


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an OpenAI-shaped API counts differently from OpenAI."""

    reasoning_outside: bool = False
    """Chat completions leave reasoning out of `completion_tokens`; only `total_tokens` has it (xAI, Gemini's compatible endpoint)."""
    extra_keys: frozenset[str] = frozenset()
    """Usage keys that are known to cost nothing."""
    stated_cost: Callable[[Mapping[str, Any]], Decimal | None] | None = None
    write_bucket: str = "cache_write_30m"
    fees: Callable[[Tally, Mapping[str, Any], Mapping[str, Any], Call], None] | None = None

    @property
    def plain(self) -> bool:
        """It counts as OpenAI does, as far as text goes."""
        return not self.reasoning_outside and self.fees is None and self.stated_cost is None


def _ticks(usage: Mapping[str, Any]) -> Decimal | None:
    ticks = usage.get("cost_in_usd_ticks")
    return Decimal(ticks).scaleb(-10) if type(ticks) is int and 0 <= ticks <= 10**19 else None


def _openrouter_cost(usage: Mapping[str, Any]) -> Decimal | None:
    return decimal(usage.get("cost"))


def _perplexity_cost(usage: Mapping[str, Any]) -> Decimal | None:
    cost = usage.get("cost")
    return decimal(cost.get("total_cost")) if isinstance(cost, Mapping) else None


_TIMES = frozenset({"queue_time", "prompt_time", "completion_time", "total_time"})
QUIRKS: Mapping[str, Quirks] = {
    "openai": Quirks(),
    "simulator": Quirks(),
    "google": Quirks(reasoning_outside=True, extra_keys=frozenset({"extra_properties"})),
    "xai": Quirks(
        reasoning_outside=True,
        stated_cost=_ticks,
        fees=fees.xai,
        extra_keys=frozenset(
            {
                "cost_in_usd_ticks",
                "num_sources_used",
                "num_server_side_tools_used",
                "context_details",
                "server_side_tool_usage_details",
            }
        ),
    ),
    "openrouter": Quirks(
        stated_cost=_openrouter_cost,
        write_bucket="cache_write_5m",
        extra_keys=frozenset(
            {"cost", "is_byok", "cost_details", "server_tool_use", "server_tool_use_details", "cache_discount"}
        ),
    ),
    "perplexity": Quirks(
        stated_cost=_perplexity_cost,
        fees=fees.perplexity,
        extra_keys=frozenset(
            {"cost", "search_context_size", "citation_tokens", "num_search_queries", "reasoning_tokens"}
        ),
    ),
    "deepseek": Quirks(extra_keys=frozenset({"prompt_cache_hit_tokens", "prompt_cache_miss_tokens"})),
    "groq": Quirks(extra_keys=_TIMES),
    "cerebras": Quirks(extra_keys=_TIMES),
    "mistral": Quirks(
        extra_keys=frozenset({"prompt_audio_seconds", "service_tier", "num_cached_tokens"}), fees=fees.mistral
    ),
    "together": Quirks(extra_keys=frozenset({"cached_tokens"})),
    "moonshot": Quirks(extra_keys=frozenset({"cached_tokens"})),
    "fireworks": Quirks(extra_keys=frozenset({"cached_tokens"})),
    "azure": Quirks(extra_keys=frozenset({"latency_checkpoint"})),
}
STANDARD = Quirks()


def completions(body: Mapping[str, Any], call: Call) -> Usage:
    """Chat completions, text completions, embeddings: one body, or a merged stream. (Plain chats are read by `usage._plainly`.)"""
    quirks = QUIRKS.get(call.provider, STANDARD)
    usage = body.get("usage")
    if usage is None and isinstance(body.get("x_groq"), Mapping):
        usage = body["x_groq"].get("usage")
    if usage is None:
        if failed(body):
            return unbilled("provider_error")
        if "prompt_tokens" in body or "input_tokens" in body:
            usage = body  # a bare usage object
        else:
            return unreadable("usage_missing")
    if not isinstance(usage, Mapping):
        return unreadable("bad_section:usage", usage)
    tally = Tally()
    prompt = _tokens(tally, usage, quirks, inclusive=not quirks.reasoning_outside)
    if not tally.buckets and (body.get("choices") or call.streamed):
        tally.unusable("zero_usage")  # an answer cannot have cost no tokens at all
    if quirks.fees is not None:
        quirks.fees(tally, usage, body, call)
    fees.chat_search_model(tally, body, call)
    if str(call.account.get("deployment_type", "")).lower().startswith("provisioned"):
        tally.unknowable.append("priority_tier")  # capacity that was paid for by the hour
    _by_model(tally, body, call, quirks)
    return tally.usage(_context(usage, body, call, quirks, prompt), usage)


def _by_model(tally: Tally, body: Mapping[str, Any], call: Call, quirks: Quirks) -> None:
    """Groq's compound systems bill each model that took part, and the tools, which the answer does not count."""
    breakdown = body.get("usage_breakdown")
    listed = breakdown.get("models") if isinstance(breakdown, Mapping) else None
    if not isinstance(listed, list) or not listed:
        return
    tally.buckets = {}
    for one in listed:
        usage = one.get("usage") if isinstance(one, Mapping) else None
        if not isinstance(usage, Mapping):
            tally.unusable("bad_section:usage_breakdown")
            continue
        part = Tally()
        prompt = _tokens(part, usage, quirks, inclusive=True)
        tally.parts.append(part.usage(_context(usage, {"model": one.get("model")}, call, quirks, prompt), usage))
        tally.measured &= part.measured
    tally.missing.append("tool_fees_unknown")


def responses(body: Mapping[str, Any], call: Call) -> Usage:
    """The Responses API: the final response object, whole or from `response.completed | incomplete | failed`."""
    quirks = QUIRKS.get(call.provider, STANDARD)
    usage = body.get("usage")
    if usage is None:
        if "input_tokens" in body:
            usage = body
        elif failed(body) or body.get("status") == "cancelled":
            return unbilled("provider_error")
        else:
            return unreadable("usage_missing")
    if not isinstance(usage, Mapping):
        return unreadable("bad_section:usage", usage)
    tally = Tally()
    prompt = _tokens(tally, usage, quirks, inclusive=True)
    if not tally.buckets and body.get("output"):
        tally.unusable("zero_usage")
    if quirks.fees is not None:
        quirks.fees(tally, usage, body, call)
    else:
        fees.openai_tools(tally, body, call)
    return tally.usage(_context(usage, body, call, quirks, prompt), usage)


def _tokens(tally: Tally, usage: Mapping[str, Any], quirks: Quirks, *, inclusive: bool) -> int:
    """Adds the tokens of one usage object; returns its prompt total."""
    tally.expect(usage, CHAT_KEYS | quirks.extra_keys)
    new = "input_tokens" in usage and "prompt_tokens" not in usage
    names = ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
    if not new:
        names = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
    prompt = tally.count(usage, names[0], required=True)
    total = tally.count(usage, "total_tokens")
    output = tally.count(usage, names[1], required=not total or total != prompt)  # embeddings state no output
    inside = tally.section(usage, names[2])
    outside = tally.section(usage, names[3])
    tally.expect(inside, INPUT_DETAILS, "input.")
    tally.expect(outside, OUTPUT_DETAILS, "output.")
    _input(tally, usage, inside, prompt, quirks)
    reasoning = tally.count(outside, "reasoning_tokens")
    if not inclusive:
        output = max(output, total - prompt) if total else output + reasoning
    elif total and total != prompt + output:
        tally.flag("provider_total_differs")
    audio = tally.part_of(output, tally.count(outside, "audio_tokens"), "output.audio_tokens")
    image = tally.part_of(output - audio, tally.count(outside, "image_tokens"), "output.image_tokens")
    tally.add("output_audio", audio)
    tally.add("output_image", image)
    tally.add("output_text", output - audio - image)
    return prompt


def _input(tally: Tally, usage: Mapping[str, Any], inside: Mapping[str, Any], prompt: int, quirks: Quirks) -> None:
    """Splits the inclusive prompt count: every token is uncached, cached *or* written; audio has rates of its own."""
    cached = tally.count(inside, "cached_tokens") or tally.count(usage, "prompt_cache_hit_tokens")
    if "cached_tokens" not in inside and not cached:
        cached = tally.count(usage, "cached_tokens") or tally.count(usage, "num_cached_tokens")
    cached = tally.part_of(prompt, cached, "cached_tokens")
    if "prompt_cache_miss_tokens" in usage and cached + tally.count(usage, "prompt_cache_miss_tokens") != prompt:
        tally.flag("provider_total_differs")
    written = tally.part_of(prompt - cached, tally.count(inside, "cache_write_tokens"), "cache_write_tokens")
    ttl = tally.section(inside, "cache_write_tokens_details")
    tally.expect(ttl, WRITE_DETAILS, "input.cache_write.")
    long = tally.part_of(written, tally.count(ttl, "ttl_12h_tokens"), "ttl_12h_tokens")
    rest = prompt - cached - written
    audio = tally.count(inside, "audio_tokens")
    split = tally.section(inside, "cached_tokens_details")
    cached_audio = tally.part_of(cached, tally.count(split, "audio_tokens"), "cached.audio_tokens")
    if not split and audio > rest:  # cached tokens that can only be audio
        cached_audio = tally.part_of(cached, audio - rest, "input.audio_tokens")
    fresh_audio = tally.part_of(rest, max(audio - cached_audio, 0), "input.audio_tokens")
    tally.add("input_uncached", rest - fresh_audio)
    tally.add("input_audio", fresh_audio)
    tally.add("cache_read", cached - cached_audio)
    tally.add("input_audio_cached", cached_audio)
    tally.add(quirks.write_bucket, written - long)
    tally.add("cache_write_12h", long)


def _context(
    usage: Mapping[str, Any], body: Mapping[str, Any], call: Call, quirks: Quirks, prompt: int
) -> UsageContext:
    served = body.get("service_tier")
    if served is None and call.provider == "mistral":
        served = usage.get("service_tier")
    return UsageContext(
        tier=call.tier(served),
        batch=call.batch,
        regional=call.region,
        prompt_total=prompt,
        stated_cost_usd=quirks.stated_cost(usage) if quirks.stated_cost else None,
        model_served=text_of(body, "model"),
        response_id=text_of(body, "id"),
    )

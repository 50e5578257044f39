"""Small native APIs with counts of their own: Ollama, Cohere, Bedrock Converse, Voyage, OCR by the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.domain.extraction.common import Call, decimal, failed, unbilled, unreadable
from billing.domain.extraction.record import Tally, Usage, UsageContext, text_of


def ollama(body: Mapping[str, Any], call: Call) -> Usage:
    """`prompt_eval_count` may be absent when the prompt was cached."""
    if "eval_count" not in body and "prompt_eval_count" not in body:
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    prompt = tally.count(body, "prompt_eval_count")
    tally.add("input_uncached", prompt)
    tally.add("output_text", tally.count(body, "eval_count"))
    raw = {key: body[key] for key in ("prompt_eval_count", "eval_count") if key in body}
    return tally.usage(UsageContext(prompt_total=prompt, model_served=text_of(body, "model")), raw)


def ollama_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    done = [event for event in events if event.get("done") is True]
    return ollama(done[-1], call) if done else unreadable("stream_without_usage")


def cohere(body: Mapping[str, Any], call: Call) -> Usage:
    """`billed_units` is the bill; `tokens` counts what was processed."""
    meta = body.get("usage", body.get("meta", body))
    units = meta.get("billed_units") if isinstance(meta, Mapping) else None
    if not isinstance(units, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    tally.expect(
        units,
        frozenset({"input_tokens", "output_tokens", "search_units", "classifications", "images", "image_tokens"}),
        "billed_units.",
    )
    counts = {key: _whole(units.get(key)) for key in units}  # Cohere writes whole numbers as 12.0
    prompt = tally.count(counts, "input_tokens")
    tally.add("input_uncached", prompt)
    pictured = tally.count(counts, "image_tokens")
    tally.add("input_image", pictured)
    if not pictured and counts.get("images"):
        tally.add("images", tally.count(counts, "images"))
    tally.add("output_text", tally.count(counts, "output_tokens"))
    tally.fee("request", tally.count(counts, "search_units"))
    tally.fee("classification", tally.count(counts, "classifications"))
    return tally.usage(UsageContext(prompt_total=prompt, response_id=text_of(body, "id")), units)


def cohere_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    for event in reversed(events):
        delta = event.get("delta") if event.get("type") == "message-end" else event.get("response")
        if isinstance(delta, Mapping):
            return cohere(delta, call)
    return unreadable("stream_without_usage")


def bedrock(body: Mapping[str, Any], call: Call) -> Usage:
    """Converse, Nova and Titan: exclusive totals, like Anthropic's. Llama and older Titan models count in words of their own."""
    usage = body.get("usage", body if "inputTokens" in body else _own_words(body))
    if isinstance(usage, Mapping) and "inputTokens" not in usage:
        usage = _own_words(usage) or usage
    if not isinstance(usage, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    known = {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "cacheDetails",
    }
    tally.expect(usage, frozenset(known | {"cacheReadInputTokenCount", "cacheWriteInputTokenCount", "serverToolUsage"}))
    fresh = tally.count(usage, "inputTokens", required=True)
    read = tally.count(usage, "cacheReadInputTokens")
    written = tally.count(usage, "cacheWriteInputTokens")
    details = usage.get("cacheDetails")
    long = sum(
        tally.count(entry, "inputTokens") for entry in details if isinstance(entry, Mapping) and entry.get("ttl") == "1h"
    ) if isinstance(details, list) else 0  # fmt: skip
    long = tally.part_of(written, long, "cacheDetails")
    tally.add("input_uncached", fresh)
    tally.add("cache_read", read)
    tally.add("cache_write_5m", written - long)
    tally.add("cache_write_1h", long)
    tally.add("output_text", tally.count(usage, "outputTokens", required=True))
    if call.request.get("inputImage"):  # Titan's multimodal embeddings: a price a picture, which no answer counts
        tally.add("images", 1)
    tier, speed = body.get("serviceTier"), body.get("performanceConfig")
    served = text_of(tier, "type") if isinstance(tier, Mapping) else ""
    if isinstance(speed, Mapping) and speed.get("latency") == "optimized":
        served = "optimized"  # has a price list of its own
    return tally.usage(
        UsageContext(
            tier=call.tier(served), batch=call.batch, regional=call.region, prompt_total=fresh + read + written
        ),
        usage,
    )


def bedrock_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    for event in reversed(events):
        metadata = event.get("metadata", event)
        if isinstance(metadata, Mapping) and "usage" in metadata:
            return bedrock(metadata, call)
    return unreadable("stream_without_usage")


def _own_words(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The counts of the models that Bedrock invokes in their own API: Llama's body, Titan's text and embeddings."""
    if (
        "inputTokenCount" in body
    ):  # Nova's embeddings, and the count that Bedrock states in a header of every invocation
        return {"inputTokens": body["inputTokenCount"], "outputTokens": body.get("outputTokenCount") or 0}
    if "prompt_token_count" in body:
        return {"inputTokens": body["prompt_token_count"], "outputTokens": body.get("generation_token_count", 0)}
    if "inputTextTokenCount" in body:
        results = body.get("results")
        counts = (
            [one.get("tokenCount", 0) for one in results if isinstance(one, Mapping)]
            if isinstance(results, list)
            else []
        )
        output = (
            sum(count for count in counts if type(count) is int)
            if all(type(count) is int for count in counts)
            else None
        )
        return {"inputTokens": body["inputTextTokenCount"], "outputTokens": output}
    return None


def predictions(body: Mapping[str, Any], call: Call) -> Usage:
    """Vertex's `:predict`. Imagen: a price a picture. Embeddings: the tokens that each prediction's statistics state."""
    if isinstance(body.get("statistics"), list):
        return _embedded(body["statistics"], call)
    made = body.get("predictions")
    vectors = [one.get("embeddings") for one in made if isinstance(one, Mapping)] if isinstance(made, list) else []
    if any(isinstance(vector, Mapping) for vector in vectors):
        return _embedded(
            [vector.get("statistics") if isinstance(vector, Mapping) else None for vector in vectors], call
        )
    if not isinstance(made, list):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    tally.add("images", sum(1 for one in made if isinstance(one, Mapping) and not one.get("raiFilteredReason")))
    return tally.usage(UsageContext(tier=call.tier(None), batch=call.batch, regional=call.region), None)


def _embedded(statistics: Sequence[Any], call: Call) -> Usage:
    tally = Tally()
    prompt = 0
    for one in statistics:
        if not isinstance(one, Mapping):
            return unreadable("bad_section:statistics", list(statistics))
        tally.expect(one, frozenset({"token_count", "truncated"}))
        count = one.get("token_count")  # a protobuf number: 8 or 8.0
        prompt += tally.count({"token_count": _whole(count)}, "token_count", required=True)
    tally.add("input_uncached", prompt)
    context = UsageContext(tier=call.tier(None), batch=call.batch, regional=call.region, prompt_total=prompt)
    return tally.usage(context, {"statistics": list(statistics)})


def only_total(body: Mapping[str, Any], call: Call) -> Usage:
    """Embeddings and rerankers that state nothing but `total_tokens`."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    prompt = tally.count(usage, "total_tokens", required=True)
    tally.add("input_uncached", prompt)
    return tally.usage(
        UsageContext(tier=call.tier(None), batch=call.batch, prompt_total=prompt, model_served=text_of(body, "model")),
        usage,
    )


def openrouter_generation(body: Mapping[str, Any], call: Call) -> Usage:
    """OpenRouter's account of one answer, asked for afterwards (a stream that was lost): the charge, and the tokens as the model counts them."""
    data = body.get("data")
    if not isinstance(data, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    stated = decimal(data.get("total_cost", data.get("usage")))
    tally = Tally()
    if stated is None:
        tally.unusable("missing_count:total_cost")
    prompt, cached = tally.count(data, "native_tokens_prompt"), tally.count(data, "native_tokens_cached")
    cached = tally.part_of(prompt, cached, "native_tokens_cached")
    tally.add("input_uncached", prompt - cached)
    tally.add("cache_read", cached)
    tally.add("output_text", tally.count(data, "native_tokens_completion"))
    context = UsageContext(
        prompt_total=prompt,
        stated_cost_usd=stated,
        model_served=text_of(data, "model"),
        response_id=text_of(data, "id"),
    )
    return tally.usage(context, data)


def pages(body: Mapping[str, Any], call: Call) -> Usage:
    """OCR by the page."""
    usage = body.get("usage_info")
    if not isinstance(usage, Mapping):
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    tally = Tally()
    tally.expect(usage, frozenset({"pages_processed", "doc_size_bytes"}))
    tally.add("pages", tally.count(usage, "pages_processed", required=True))
    if (
        body.get("document_annotation")
        or call.request.get("document_annotation_format")
        or call.request.get("bbox_annotation_format")
    ):
        tally.fee("annotated_pages", tally.buckets.pop("pages", 0))
    return tally.usage(
        UsageContext(tier=call.tier(None), batch=call.batch, regional=call.region, model_served=text_of(body, "model")),
        usage,
    )


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float | Decimal) and value == value // 1 else value

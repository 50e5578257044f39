"""From a provider's native answer to the canonical Usage. Pure: values in, values out; it never raises for what a provider sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from billing.domain.extraction import dialects
from billing.domain.extraction.common import TIERS, Call, failed, unbilled, unreadable, unwrap
from billing.domain.extraction.openai import QUIRKS, STANDARD
from billing.domain.extraction.record import BUCKETS, INPUT_BUCKETS, OUTPUT_BUCKETS, Usage, UsageContext
from billing.domain.plain import plain_buckets

__all__ = ["BUCKETS", "INPUT_BUCKETS", "OUTPUT_BUCKETS", "Usage", "UsageContext", "extract", "is_believed"]

PROVIDER_ALIASES: Mapping[str, str] = {
    "gemini": "google", "vertex": "google", "vertex_ai": "google", "google-vertex": "google", "google_ai_studio": "google", "google-gla": "google",
    "google-vertex-ai": "google", "x-ai": "xai", "x_ai": "xai", "grok": "xai", "fireworks_ai": "fireworks", "fireworks-ai": "fireworks",
    "together_ai": "together", "together-ai": "together", "azure_openai": "azure", "azure-openai": "azure", "azure_ai": "azure", "aws": "bedrock",
    "amazon-bedrock": "bedrock", "aws_bedrock": "bedrock", "aws-bedrock": "bedrock", "amazon_bedrock": "bedrock", "moonshotai": "moonshot",
    "mistralai": "mistral", "voyageai": "voyage", "voyage-ai": "voyage", "perplexity-ai": "perplexity", "open-router": "openrouter",
}  # fmt: skip
"""Other spellings of a provider's name -> ours."""


def canonical(provider: str) -> str:
    """A provider's name as the readers and the price book know it."""
    name = provider.strip().lower()
    return PROVIDER_ALIASES.get(name, name)


def is_believed(usage: Usage, *, answered: bool) -> bool:
    """Whether a bill may be made of a stated usage. Zero is believed of no answer: at least its input was read, also where a model only thought.

    `answered`: something was generated, or the provider says that its answer is complete. What broke off before it said anything may have been
    free. A cost that the provider states itself is its word, zero too.
    """
    if usage.buckets or usage.fees:
        return True
    return bool(usage.all_buckets or usage.all_fees) or usage.context.stated_cost_usd is not None or not answered


def extract(
    provider: str,
    endpoint: str,
    payload: Any,
    *,
    request: Mapping[str, Any] | None = None,
    streamed: bool = False,
    base_url: str = "",
    account: Mapping[str, Any] | None = None,
) -> Usage:
    """What an answer consumed.

    `payload` is the answer's JSON as the provider sent it, before any translation: one object, a bare usage object, the list of a
    stream's events, a line of batch results, or None for a binary answer. `base_url` decides regional uplifts; `account` is state that
    decides some fees (`grounded_prompts_today_before_this`, ...). Numbers may be int, Decimal or float; counts must be int.
    """
    if type(payload) is dict and not account:
        stated = payload.get("usage")
        usage = plainly(provider, endpoint, payload, stated, request, base_url) if type(stated) is dict else None
        if usage is not None:
            return usage
    return carefully(provider, endpoint, payload, request, streamed, base_url, account)


_PLAIN = frozenset({"id", "model", "service_tier", "usage"})


def plainly(
    provider: str,
    endpoint: str,
    said: dict[str, Any],
    stated: dict[str, Any] | bytes,
    request: Mapping[str, Any] | None,
    base_url: str,
) -> Usage | None:
    """`extract`, for what the gateway keeps of a plain chat's answer; None for any other (`billing.domain.plain` says why it is right).

    `stated` is the usage beside what is `said`, as an object or as the provider wrote it: bytes are read once, straight into counts, and are
    not kept as the usage's `raw`.
    """
    region = _plain_region(provider, endpoint, base_url)
    if region is None or not _PLAIN.issuperset(said):
        return None
    model, name, tier = said.get("model", ""), said.get("id", ""), said.get("service_tier", "")
    asked = request.get("model", "") if request else ""
    if not (type(model) is type(name) is type(tier) is type(asked) is str) or "search" in model or "search" in asked:
        return None
    buckets = plain_buckets(stated)
    if buckets is None:
        return None
    context = UsageContext(
        tier=TIERS.get(tier, tier),
        regional=region,
        prompt_total=buckets.get("input_uncached", 0) + buckets.get("cache_read", 0),
        model_served=model[:256],
        response_id=name[:256],
    )
    return Usage(buckets, context=context, raw=None if type(stated) is bytes else stated)


@lru_cache(maxsize=1024)
def _plain_region(provider: str, endpoint: str, base_url: str) -> str | None:
    """The region of a chat that is counted as OpenAI counts; None of anything else."""
    name = PROVIDER_ALIASES.get(provider, provider)
    if endpoint not in ("/v1/chat/completions", "/chat/completions") or not QUIRKS.get(name, STANDARD).plain:
        return None
    return Call(name, endpoint, {}, base_url=base_url).region


def carefully(
    provider: str,
    endpoint: str,
    payload: Any,
    request: Mapping[str, Any] | None = None,
    streamed: bool = False,
    base_url: str = "",
    account: Mapping[str, Any] | None = None,
) -> Usage:
    """`extract`, for whatever an answer may be."""
    body, batched, line_failed = unwrap(payload)
    if line_failed:
        return unbilled("batch_line_failed")
    call = Call(
        provider=PROVIDER_ALIASES.get(provider, provider),
        endpoint=endpoint,
        request=request if isinstance(request, Mapping) else {},
        streamed=streamed,
        base_url=base_url,
        account=account or {},
        batch=batched or "batch" in endpoint.lower() or (account or {}).get("batch") is True,
    )
    dialect = dialects.choose(call, body)
    if isinstance(body, Mapping):
        status = body.get("_http_status")
        if type(status) is int and status >= 400:
            return unbilled("provider_error")
        if failed(body) and not body.get("usage") and not isinstance(body.get("response"), Mapping):
            return unbilled("provider_error")
        return dialect.whole(body, call)
    if isinstance(body, Sequence) and not isinstance(body, str | bytes):
        return dialect.stream([event for event in body if isinstance(event, Mapping)], call)
    if body is None or isinstance(body, str | bytes):
        return dialect.absent(call)
    return unreadable("bad_payload")

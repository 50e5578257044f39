"""Usage counted by us, for an answer that ended without any: never mistaken for the provider's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.domain import tokens
from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.modalities import survey
from billing.domain.rates import Rates


def counted_usage(
    provider: str,
    endpoint: str,
    body: Mapping[str, Any],
    delivered_text: str,
    rates: Rates,
    *,
    safety_percent: int = 110,
    output_floor: int = 0,
) -> Usage:
    """Usage for an answer that ended without one: the request counted as a bound, the delivered text by tokeniser, with a safety margin.

    It may be billed, and is marked `counted`: its price is ESTIMATED and its basis is never mistaken for the provider's.
    """
    family = rates.meta.tokenizer
    contents = survey(body, provider, rates.model, rates.meta.image_tokens_cap, texts=True)
    text = sum(tokens.likely_tokens(piece, family) for piece in contents.texts) + tokens.per_message(family) * (
        contents.messages + 1
    )
    prompt = text + contents.image_tokens + contents.audio_tokens + contents.document_tokens
    output = max(
        -(-tokens.likely_tokens(delivered_text, family) * safety_percent // 100) if delivered_text else 0, output_floor
    )
    buckets = {"input_uncached": prompt, "output_text": output}
    return Usage(
        buckets={k: v for k, v in buckets.items() if v}, context=UsageContext(prompt_total=prompt), counted=True
    )

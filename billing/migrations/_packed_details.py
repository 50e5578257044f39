"""The cold part of an entry as it was kept until migration 0012: JSON, deflated against a preset dictionary. Read once more, by that migration."""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

# Most frequent last: deflate reaches back cheaper to what is near.
_DICTIONARY_1: Final = (
    b'"flags":["over","schema_drift","provider_total_differs","clamped","unpriced"],"speed":"geo":"batch":"long_context":'
    b'"provider_stated_cost":"prompt_total":"cost_in_usd_ticks":"server_tool_use":{"web_search_requests":0},"grounding_query":'
    b'"promptTokenCount":,"candidatesTokenCount":,"thoughtsTokenCount":,"cachedContentTokenCount":,"totalTokenCount":,"promptTokensDetails":[{"modality":"TEXT","tokenCount":'
    b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"input_tokens":,"output_tokens":,"service_tier":"standard"'
    b'"input_tokens_details":{"cached_tokens":0},"output_tokens":1,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":'
    b'"cost":0.000,"cost_details":{"upstream_inference_cost":null},"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":0'
    b'"fees":{"web_search":1,"file_search":"container_session":"web_search_preview":'
    b'"cache_write_5m":,"cache_write_1h":,"input_audio":,"input_image":,"output_audio":,"output_image":,"tool_input":'
    b'{"unit":"cache_write_5m","quantity":1,"rate_per_m_usd":"1.25","cost_usd":"0.000"},{"unit":"cache_read","quantity":1,"rate_per_m_usd":"0.075","cost_usd":"0.0000'
    b'"service_tier":"default","context":{"service_tier_served":"default","model_served":"gpt-4o-mini-2024-07-18"}'
    b'"raw_usage":"{\\"prompt_tokens\\":1,\\"completion_tokens\\":1,\\"total_tokens\\":1,\\"prompt_tokens_details\\":{\\"cached_tokens\\":0,\\"audio_tokens\\":0},'
    b'\\"completion_tokens_details\\":{\\"reasoning_tokens\\":0,\\"audio_tokens\\":0,\\"accepted_prediction_tokens\\":0,\\"rejected_prediction_tokens\\":0}}"'
    b'"provider_request_id":"chatcmpl-","usage":{"input_uncached":1,"cache_read":0,"output_text":1},'
    b'"breakdown":[{"unit":"input_uncached","quantity":1,"rate_per_m_usd":"0.15","cost_usd":"0.00000"},{"unit":"output_text","quantity":1,"rate_per_m_usd":"0.6","cost_usd":"0.0000"}]'
)
_DICTIONARIES: Final = {1: _DICTIONARY_1}


def unpack(packed: bytes | memoryview) -> dict[str, Any]:
    """Raises ValueError on bytes that are not such a detail."""
    raw = bytes(packed)
    if not raw:
        return {}
    dictionary = _DICTIONARIES.get(raw[0])
    if dictionary is None:
        raise ValueError(f"packed with an unknown dictionary: {raw[0]}")
    try:
        text = zlib.decompressobj(-15, dictionary).decompress(raw[1:])
    except zlib.error as error:
        raise ValueError(f"not a packed detail: {error}") from error
    unpacked: dict[str, Any] = msgspec.json.decode(text)
    return unpacked

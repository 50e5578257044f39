"""Answers that were found wrong or unpriced when BILLING.md was read again rule by rule, and their neighbours."""

# ruff: noqa: E501 - a table reads better in rows than in paragraphs
from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.billing.domain.vectors.own import GENERATE as G
from tests.billing.domain.vectors.own import Case, chat, gemini, message, response
from tests.billing.domain.vectors.own import million as m

CACHES = "/v1beta/cachedContents"


def cache(model: str, tokens: int, **times: str) -> dict[str, Any]:
    """An explicit cache of Gemini's that was made."""
    return {
        "name": "cachedContents/x",
        "model": f"models/{model}",
        "usageMetadata": {"totalTokenCount": tokens},
        **times,
    }


def generation(**data: Any) -> dict[str, Any]:
    """OpenRouter's account of one answer, `GET /api/v1/generation?id=`."""
    return {
        "data": {
            "id": "gen-1",
            "model": "openai/gpt-4o",
            "tokens_prompt": 10,
            "tokens_completion": 25,
            "native_tokens_prompt": 12,
            "native_tokens_completion": 26,
            "native_tokens_reasoning": 0,
            **data,
        }
    }


RULES = [
    Case("an hour of an explicit cache", "google", CACHES, "gemini-2.5-flash", cache("gemini-2.5-flash", 100_000, createTime="2026-11-21T12:00:00.5Z", updateTime="2026-11-21T12:00:00.5Z", expireTime="2026-11-21T13:00:00.5Z"), Decimal("0.1")),
    Case("ten minutes of a large model's cache", "google", CACHES, "gemini-2.5-pro", cache("gemini-2.5-pro", 300_000, ttl="600s"), Decimal("0.225")),
    Case("a cache whose time was asked for", "google", CACHES, "gemini-3.1-pro-preview", cache("gemini-3.1-pro-preview", 1_000_000), Decimal("9"), request={"ttl": "7200s"}),
    Case("a cache that is prolonged", "google", f"{CACHES}/x", "gemini-2.5-flash-lite", cache("gemini-2.5-flash-lite", 50_000, createTime="2026-11-21T10:00:00Z", updateTime="2026-11-21T12:00:00Z", expireTime="2026-11-21T14:00:00Z"), Decimal("0.1")),
    Case("a cache kept for nobody knows how long has no price", "google", CACHES, "gemini-2.5-flash", cache("gemini-2.5-flash", 100_000), None),
    Case("a cache of a model whose storage nobody has priced", "google", CACHES, "gemini-3.8-flash", cache("gemini-3.8-flash", 100_000, ttl="3600s"), None),
    Case("a cache that was refused", "google", CACHES, "gemini-2.5-flash", {"error": {"code": 400, "message": "too small"}}, Decimal(0)),
    Case("a total alone says nothing of input and output", "google", G, "gemini-2.5-flash", {"usageMetadata": {"totalTokenCount": 100}, "modelVersion": "gemini-2.5-flash"}, None),
    Case("a prompt that was blocked is read and billed", "google", G, "gemini-2.5-flash", {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}, "modelVersion": "gemini-2.5-flash"}, m((10, "0.3"))),
    Case("priority traffic on Vertex", "vertex", G, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 1000, 100, trafficType="ON_DEMAND_PRIORITY"), m((1000, "3.6"), (100, "21.6"))),
    Case("flex traffic on Vertex", "vertex", G, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 1000, 100, trafficType="ON_DEMAND_FLEX"), m((1000, "1"), (100, "6"))),
    Case("a live turn in sound", "google", "/v1beta/models/{m}:bidiGenerateContent", "gemini-2.5-flash-native-audio-preview-09-2025", {"usageMetadata": {"promptTokenCount": 100, "responseTokenCount": 50, "totalTokenCount": 150, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 80}], "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}]}}, m((20, "0.5"), (80, "3"), (50, "12"))),
    Case("a Bedrock id without a region is regional", "bedrock", "/model/anthropic.claude-opus-4-6-v1/invoke", "anthropic.claude-opus-4-6-v1", message("claude-opus-4-6", 1000, 100), m((1000, "5.5"), (100, "27.5"))),
    Case("another Bedrock id without a region", "bedrock", "/model/anthropic.claude-sonnet-4-6/converse", "anthropic.claude-sonnet-4-6", {"usage": {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}}, m((1000, "3.3"), (100, "16.5"))),
    Case("a lost stream's charge, asked for afterwards", "openrouter", "/api/v1/generation", "openai/gpt-4o", generation(total_cost=0.00029), Decimal("0.00029")),
    Case("an account without a charge", "openrouter", "/api/v1/generation", "openai/gpt-4o", generation(), None),
    Case("no such generation", "openrouter", "/api/v1/generation", "openai/gpt-4o", {"error": {"code": 404, "message": "Generation not found"}}, Decimal(0)),
    Case("Groq's batch is half for Llama, too", "groq", "/openai/v1/batches", "llama-3.3-70b-versatile", {"custom_id": "1", "response": {"status_code": 200, "body": chat("llama-3.3-70b-versatile", 1000, 100)}}, m((1000, "0.295"), (100, "0.395"))),
    Case("compaction and answer are each below and above a threshold", "anthropic", "/v1/messages", "claude-haiku-5-5", {**message("claude-haiku-5-5", 1, 1), "usage": {"input_tokens": 60_000, "output_tokens": 100, "iterations": [{"type": "compaction", "input_tokens": 120_000, "output_tokens": 1000, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}, {"type": "message", "input_tokens": 60_000, "output_tokens": 100, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}]}}, m((60_000, "0.1"), (100, "0.5"), (120_000, "0.5"), (1000, "2.5"))),
    Case("an image tool that does not state its tokens", "openai", "/v1/responses", "gpt-5.4", response("gpt-5.4", 100, 10, items=[{"type": "image_generation_call", "status": "completed"}]), m((100, "2.5"), (10, "15")), status="partial"),
    Case("an image that failed", "openai", "/v1/responses", "gpt-5.4", response("gpt-5.4", 100, 10, items=[{"type": "image_generation_call", "status": "failed"}]), m((100, "2.5"), (10, "15")), status="exact"),
    Case("a transcript of a session that was asked for with its model", "openai", "/v1/realtime", "gpt-realtime", {"type": "conversation.item.input_audio_transcription.completed", "usage": {"type": "tokens", "input_tokens": 100, "input_token_details": {"text_tokens": 0, "audio_tokens": 100}, "output_tokens": 10, "total_tokens": 110}}, m((100, "1.25"), (10, "5")), request={"session": {"audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}}}}),
    Case("a stream's lines as texts", "openai", "/v1/chat/completions", "gpt-4o", ['data: {"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}', "data: [DONE]"], m((100, "2.5"), (10, "10")), streamed=True),
    Case("a stream under a name", "openai", "/v1/responses", "gpt-5", {"events": [{"type": "response.completed", "response": response("gpt-5", 100, 10)}]}, m((100, "1.25"), (10, "10")), streamed=True),
    Case("the larger reranker", "cohere", "/v2/rerank", "rerank-v4.0-pro", {"results": [], "meta": {"billed_units": {"search_units": 2}}}, Decimal("0.005")),
]  # fmt: skip

"""Answers priced by hand for every rule of BILLING.md 1.1 to 1.4. Rates are written here as vendors print them, never read from our table."""

# ruff: noqa: E501 - a table reads better in rows than in paragraphs
from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

NOON = "2026-11-21T12:00:00Z"  # a Saturday


def million(*lines: tuple[int, str]) -> Decimal:
    """Quantities at dollars per million."""
    return sum((Decimal(quantity) * Decimal(rate) for quantity, rate in lines), Decimal(0)) / 1_000_000


def each(quantity: int, usd: str) -> Decimal:
    return quantity * Decimal(usd)


@dataclass(frozen=True)
class Case:
    name: str
    provider: str
    endpoint: str
    model: str
    answer: Any
    cost: Decimal | None
    request: dict[str, Any] = field(default_factory=dict)
    at: str = NOON
    context: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    streamed: bool = False

    def line(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "endpoint": self.endpoint,
            "model": self.model,
            "request": self.request,
            "response_or_usage": self.answer,
            "streamed": self.streamed,
            "at": self.at,
            "context": self.context,
        }


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GENERATE = "/v1beta/models/{m}:generateContent"


def chat(
    model: str, prompt: int, output: int, *, cached: int = 0, tier: str | None = None, **details: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached, **details.pop("inside", {})},
            "completion_tokens_details": {"reasoning_tokens": 0, **details.pop("outside", {})},
            **details,
        },
    }
    if tier:
        body["service_tier"] = tier
    return body


def message(model: str, fresh: int, output: int, **usage: Any) -> dict[str, Any]:
    counts = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard", **usage}
    return {
        "id": "msg_1",
        "type": "message",
        "model": model,
        "content": [],
        "usage": {"input_tokens": fresh, "output_tokens": output, **counts},
    }


def gemini(
    model: str, prompt: int, output: int, *, grounding: dict[str, Any] | None = None, **usage: Any
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}
    if grounding:
        candidate["groundingMetadata"] = grounding
    total = prompt + output + usage.get("thoughtsTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": output,
            "totalTokenCount": total,
            **usage,
        },
        "modelVersion": model,
    }


def response(
    model: str, prompt: int, output: int, *, items: list[dict[str, Any]] | None = None, cached: int = 0, **more: Any
) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": model,
        "output": items or [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + output,
        },
        **more,
    }


def web_search(kind: str = "search") -> dict[str, Any]:
    return {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": kind}}


def chunk(model: str, **more: Any) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "model": model,
        "choices": [{"index": 0, "delta": {"content": "Hi"}}],
        "usage": None,
        **more,
    }


USAGE = {"prompt_tokens": 1200, "completion_tokens": 345, "total_tokens": 1545}
AUDIO_DETAILS = [{"modality": "TEXT", "tokenCount": 100}, {"modality": "AUDIO", "tokenCount": 900}]
SPLIT = {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}

OPENAI = [
    Case("a stream's usage is in its last chunk", "openai", CHAT, "gpt-4o-mini",
         [chunk("gpt-4o-mini"), {**chunk("gpt-4o-mini"), "choices": [], "usage": USAGE}], million((1200, "0.15"), (345, "0.60")), streamed=True),
    Case("usage repeated in every chunk counts once", "openai", CHAT, "gpt-4o-mini",
         [chunk("gpt-4o-mini", usage={**USAGE, "completion_tokens": 5, "total_tokens": 1205}), chunk("gpt-4o-mini", usage=USAGE)],
         million((1200, "0.15"), (345, "0.60")), streamed=True),
    Case("a stream cut before its usage has no known price", "openai", CHAT, "gpt-4o-mini", [chunk("gpt-4o-mini")], None, streamed=True),
    Case("a priority request downgraded to default bills default", "openai", CHAT, "gpt-5-mini", chat("gpt-5-mini-2025-08-07", 1000, 100, tier="default"),
         million((1000, "0.25"), (100, "2")), request={"service_tier": "priority"}),
    Case("priority bills the priority table", "openai", CHAT, "gpt-4o", chat("gpt-4o-2024-08-06", 1000, 100, cached=400, tier="priority"),
         million((600, "4.25"), (400, "2.125"), (100, "17"))),
    Case("priority has no long-context table", "openai", CHAT, "gpt-5.4", chat("gpt-5.4-2026-03-05", 272_001, 100, tier="priority"), None),
    Case("o4-mini flex has a rounded cached rate", "openai", CHAT, "o4-mini", chat("o4-mini-2025-04-16", 3000, 500, cached=2000, tier="flex"),
         million((1000, "0.55"), (2000, "0.138"), (500, "2.2"))),
    Case("gpt-5.4 flex has a rounded cached rate", "openai", CHAT, "gpt-5.4", chat("gpt-5.4-2026-03-05", 3000, 500, cached=2000, tier="flex"),
         million((1000, "1.25"), (2000, "0.13"), (500, "7.5"))),
    Case("a tier without a table has no price", "openai", CHAT, "gpt-4o", chat("gpt-4o-2024-08-06", 1000, 100, tier="scale"), None, status="unpriced"),
    Case("batch results say default and are billed at half", "openai", "/v1/batches", "gpt-4o-mini",
         {"id": "b", "custom_id": "1", "response": {"status_code": 200, "body": chat("gpt-4o-mini-2024-07-18", 1000, 500, tier="default")}, "error": None},
         million((1000, "0.075"), (500, "0.30"))),
    Case("a failed batch line is not billed", "openai", "/v1/batches", "gpt-4o-mini",
         {"id": "b", "custom_id": "1", "response": {"status_code": 400, "body": {"error": {"message": "bad"}}}, "error": None}, Decimal(0)),
    Case("batch long context", "openai", "/v1/batches", "gpt-5.4", {"custom_id": "1", "response": {"status_code": 200, "body": chat("gpt-5.4", 300_000, 1000)}},
         million((300_000, "2.5"), (1000, "11.25"))),
    Case("cached at 25 percent on 4.1", "openai", CHAT, "gpt-4.1", chat("gpt-4.1-2025-04-14", 10_000, 0, cached=8000), million((2000, "2"), (8000, "0.5"))),
    Case("cached at 5 percent on 6.1", "openai", CHAT, "gpt-6.1-sol", chat("gpt-6.1-sol", 10_000, 10, cached=8000), million((2000, "2"), (8000, "0.1"), (10, "10"))),
    Case("a twelve-hour write is twice a thirty-minute write", "openai", RESPONSES, "gpt-6-sol",
         {**response("gpt-6-sol", 10_000, 500), "usage": {"input_tokens": 10_000, "output_tokens": 500, "total_tokens": 10_500,
          "input_tokens_details": {"cached_tokens": 6000, "cache_write_tokens": 3000,
                                   "cache_write_tokens_details": {"ttl_30m_tokens": 1000, "ttl_12h_tokens": 2000}}}},
         million((1000, "2"), (6000, "0.2"), (1000, "2.5"), (2000, "5"), (500, "10"))),
    Case("long context doubles writes and cached too", "openai", CHAT, "gpt-6-sol",
         chat("gpt-6-sol", 300_000, 1000, cached=100_000, inside={"cache_write_tokens": 100_000}),
         million((100_000, "4"), (100_000, "0.4"), (100_000, "5"), (1000, "15"))),
    Case("the threshold counts cached tokens", "openai", CHAT, "gpt-5.5", chat("gpt-5.5", 272_001, 10, cached=272_000), million((1, "10"), (272_000, "1"), (10, "45"))),
    Case("a regional endpoint adds a tenth on new models", "openai", CHAT, "gpt-5.4", chat("gpt-5.4-2026-03-05", 1000, 1000),
         million((1000, "2.75"), (1000, "16.5")), context={"base_url": "https://eu.api.openai.com/v1"}),
    Case("an endpoint without a region adds nothing", "openai", CHAT, "gpt-5.4", chat("gpt-5.4-2026-03-05", 1000, 1000), million((1000, "2.5"), (1000, "15")),
         context={"base_url": "https://api.openai.com/v1"}),
    Case("reasoning is inside the output", "openai", CHAT, "o3", chat("o3-2025-04-16", 100, 900, outside={"reasoning_tokens": 800}), million((100, "2"), (900, "8"))),
    Case("o3 before its price cut", "openai", CHAT, "o3", chat("o3-2025-04-16", 100, 900), million((100, "10"), (900, "40")), at="2025-06-09T23:59:59Z"),
    Case("audio chat has its own rates on both sides", "openai", CHAT, "gpt-audio",
         chat("gpt-audio-2025-08-28", 1000, 500, inside={"audio_tokens": 800}, outside={"audio_tokens": 400}),
         million((200, "2.5"), (800, "32"), (100, "10"), (400, "64"))),
    Case("image tokens in chat are plain input", "openai", CHAT, "gpt-4o", chat("gpt-4o-2024-08-06", 1000, 10, cached=900, inside={"image_tokens": 800}),
         million((100, "2.5"), (900, "1.25"), (10, "10"))),
    Case("a fine-tune of another base", "openai", CHAT, "ft:gpt-4.1-nano-2025-04-14:acme::id", chat("ft:gpt-4.1-nano-2025-04-14:acme::id", 1000, 100),
         million((1000, "0.2"), (100, "0.8"))),
    Case("a fine-tune of an unknown base has no price", "openai", CHAT, "ft:gpt-9:acme::id", chat("ft:gpt-9:acme::id", 1000, 100), None),
    Case("web search by the provider's own count", "openai", RESPONSES, "gpt-5", response("gpt-5-2025-08-07", 1000, 100, items=[web_search(), web_search()],
         tool_usage={"web_search": {"num_requests": 3}}), million((1000, "1.25"), (100, "10")) + each(3, "0.01")),
    Case("opening a page is no search", "openai", RESPONSES, "gpt-5", response("gpt-5-2025-08-07", 1000, 100, items=[web_search(), web_search("open_page"), web_search("find_in_page")]),
         million((1000, "1.25"), (100, "10")) + each(1, "0.01")),
    Case("web_search_preview costs 25 on a model that does not reason", "openai", RESPONSES, "gpt-4o", response("gpt-4o-2024-08-06", 1000, 100, items=[web_search()],
         tools=[{"type": "web_search_preview"}]), million((1000, "2.5"), (100, "10")) + each(1, "0.025")),
    Case("web_search_preview costs 10 on a model that reasons", "openai", RESPONSES, "o3", response("o3-2025-04-16", 1000, 100, items=[web_search()]),
         million((1000, "2"), (100, "8")) + each(1, "0.01"), request={"tools": [{"type": "web_search_preview_2025_03_11"}]}),
    Case("file search", "openai", RESPONSES, "gpt-4.1", response("gpt-4.1-2025-04-14", 1000, 100, items=[{"type": "file_search_call"}, {"type": "file_search_call"}]),
         million((1000, "2"), (100, "8")) + each(2, "0.0025")),
    Case("one session for two calls in one container", "openai", RESPONSES, "gpt-5", response("gpt-5", 1000, 100,
         items=[{"type": "code_interpreter_call", "container_id": "c1"}, {"type": "code_interpreter_call", "container_id": "c1"}]),
         million((1000, "1.25"), (100, "10")) + each(1, "0.03"), status="partial"),
    Case("a large container", "openai", RESPONSES, "gpt-5", response("gpt-5", 1000, 100, items=[{"type": "code_interpreter_call", "container_id": "c1"}],
         tools=[{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}]), million((1000, "1.25"), (100, "10")) + each(1, "0.12")),
    Case("a container that was already running", "openai", RESPONSES, "gpt-5", response("gpt-5", 1000, 100, items=[{"type": "code_interpreter_call", "container_id": "c1"}]),
         million((1000, "1.25"), (100, "10")), context={"container_sessions_started": 0}, status="exact"),
    Case("the image tool bills the image model", "openai", RESPONSES, "gpt-5", response("gpt-5", 1000, 100, items=[{"type": "image_generation_call"}],
         tools=[{"type": "image_generation", "model": "gpt-image-1.5"}],
         tool_usage={"image_gen": {"input_tokens": 50, "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}, "output_tokens": 1056,
                                   "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0}, "total_tokens": 1106}}),
         million((1000, "1.25"), (100, "10"), (50, "5"), (1056, "32"))),
    Case("an incomplete response is billed in full", "openai", RESPONSES, "gpt-5", {**response("gpt-5", 1000, 100), "status": "incomplete"}, million((1000, "1.25"), (100, "10"))),
    Case("a failed response without usage is free", "openai", RESPONSES, "gpt-5", {"object": "response", "status": "failed", "error": {"code": "x"}, "usage": None}, Decimal(0)),
    Case("a response stream ends in response.completed", "openai", RESPONSES, "gpt-5-mini",
         [{"type": "response.created", "response": {"usage": None}}, {"type": "response.output_text.delta", "delta": "x"},
          {"type": "response.completed", "response": response("gpt-5-mini", 500, 50, cached=128)}],
         million((372, "0.25"), (128, "0.025"), (50, "2")), streamed=True),
    Case("a response stream may end incomplete", "openai", RESPONSES, "gpt-5-mini",
         [{"type": "response.incomplete", "response": {**response("gpt-5-mini", 500, 50), "status": "incomplete"}}], million((500, "0.25"), (50, "2")), streamed=True),
    Case("an error body is free", "openai", CHAT, "gpt-4o", {"error": {"message": "no", "type": "invalid_request_error"}}, Decimal(0)),
    Case("embeddings", "openai", "/v1/embeddings", "text-embedding-3-small", {"object": "list", "model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
         million((8, "0.02"))),
    Case("embeddings in a batch", "openai", "/v1/batches", "text-embedding-3-large",
         {"custom_id": "1", "response": {"status_code": 200, "body": {"object": "list", "model": "text-embedding-3-large", "usage": {"prompt_tokens": 800, "total_tokens": 800}}}},
         million((800, "0.065"))),
    Case("text completions", "openai", "/v1/completions", "gpt-3.5-turbo-instruct", {"object": "text_completion", "model": "gpt-3.5-turbo-instruct", "choices": [{}], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}},
         million((10, "1.5"), (5, "2"))),
    Case("tts-1-hd by characters, not bytes", "openai", "/v1/audio/speech", "tts-1-hd", None, million((4, "30")), request={"model": "tts-1-hd", "input": "äöü€"}),
    Case("token speech without its SSE form has no known price", "openai", "/v1/audio/speech", "gpt-4o-mini-tts", None, None, request={"model": "gpt-4o-mini-tts", "input": "hello"}),
    Case("whisper by duration", "openai", "/v1/audio/transcriptions", "whisper-1", {"text": "x", "usage": {"type": "duration", "seconds": 90}}, Decimal("0.009")),
    Case("whisper's verbose duration", "openai", "/v1/audio/translations", "whisper-1", {"task": "translate", "duration": 8.5, "text": "x"}, Decimal("0.00085")),
    Case("a transcription stream", "openai", "/v1/audio/transcriptions", "gpt-4o-mini-transcribe",
         [{"type": "transcript.text.delta", "delta": "x"}, {"type": "transcript.text.done", "text": "x", "usage": {"type": "tokens", "input_tokens": 110, "output_tokens": 20, "total_tokens": 130,
           "input_token_details": {"text_tokens": 10, "audio_tokens": 100}}}], million((10, "1.25"), (100, "1.25"), (20, "5")), streamed=True),
    Case("an image from text", "openai", "/v1/images/generations", "gpt-image-1",
         {"created": 1, "data": [{}], "usage": {"input_tokens": 13, "input_tokens_details": {"text_tokens": 13, "image_tokens": 0}, "output_tokens": 1056, "total_tokens": 1069}},
         million((13, "5"), (1056, "40")), request={"model": "gpt-image-1"}),
    Case("an image stream", "openai", "/v1/images/generations", "gpt-image-1-mini",
         [{"type": "image_generation.partial_image"}, {"type": "image_generation.completed", "usage": {"input_tokens": 13, "input_tokens_details": {"text_tokens": 13, "image_tokens": 0}, "output_tokens": 272, "total_tokens": 285}}],
         million((13, "2"), (272, "8")), streamed=True),
    Case("realtime bills every response.done", "openai", "/v1/realtime", "gpt-realtime",
         [{"type": "session.created", "session": {"model": "gpt-realtime"}}] + [{"type": "response.done", "response": {"usage": {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
           "input_token_details": {"text_tokens": 20, "audio_tokens": 80, "cached_tokens": 0}, "output_token_details": {"text_tokens": 10, "audio_tokens": 40}}}}] * 2,
         2 * million((20, "4"), (80, "32"), (10, "16"), (40, "64")), streamed=True),
    Case("what the user said is transcribed on another bill", "openai", "/v1/realtime", "gpt-realtime",
         [{"type": "session.updated", "session": {"model": "gpt-realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}},
          {"type": "conversation.item.input_audio_transcription.completed", "usage": {"type": "tokens", "input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
           "input_token_details": {"audio_tokens": 100, "text_tokens": 0}}},
          {"type": "response.done", "response": {"usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"text_tokens": 10}, "output_token_details": {"text_tokens": 5}}}}],
         million((10, "4"), (5, "16"), (100, "2.5"), (20, "10")), streamed=True),
    Case("a name nobody has heard of has no price", "openai", CHAT, "gpt-4o-ultra-2027", chat("gpt-4o-ultra-2027", 10, 10), None, status="unpriced"),
    Case("a snapshot from the future has no price", "openai", CHAT, "gpt-4.1-2027-01-01", chat("gpt-4.1-2027-01-01", 10, 10), None),
    Case("a chat search model searches once a request", "openai", CHAT, "gpt-4o-search-preview", chat("gpt-4o-search-preview-2025-03-11", 100, 100),
         million((100, "2.5"), (100, "10")) + each(1, "0.025")),
]  # fmt: skip

ANTHROPIC = [
    Case("the documented cache example", "anthropic", MESSAGES, "claude-sonnet-4-5", message("claude-sonnet-4-5-20250929", 21, 393,
         cache_creation_input_tokens=1000, cache_creation=SPLIT, cache_read_input_tokens=188_086, inference_geo="not_available"), Decimal("0.0670338")),
    Case("writes without a split are five-minute writes", "anthropic", MESSAGES, "claude-opus-5", message("claude-opus-5", 10, 10, cache_creation_input_tokens=1000),
         million((10, "5"), (1000, "6.25"), (10, "25"))),
    Case("reads at a fortieth on Fable 5.1", "anthropic", MESSAGES, "claude-fable-5-1", message("claude-fable-5-1", 10, 10, cache_read_input_tokens=1000),
         million((10, "10"), (1000, "0.25"), (10, "50"))),
    Case("reads at a twentieth on Opus 5.5", "anthropic", MESSAGES, "claude-opus-5-5", message("claude-opus-5-5", 10, 10, cache_read_input_tokens=1000),
         million((10, "4"), (1000, "0.2"), (10, "20"))),
    Case("fast mode on Opus 5.5", "anthropic", MESSAGES, "claude-opus-5-5", message("claude-opus-5-5", 100, 10, speed="fast"), million((100, "8"), (10, "40"))),
    Case("fast mode on Opus 4.6 bills standard", "anthropic", MESSAGES, "claude-opus-4-6", message("claude-opus-4-6", 100, 10, speed="fast"), million((100, "5"), (10, "25"))),
    Case("US inference adds a tenth to tokens and nothing to fees", "anthropic", MESSAGES, "claude-opus-4-8", message("claude-opus-4-8", 1000, 100, inference_geo="us",
         server_tool_use={"web_search_requests": 2}), million((1000, "5.5"), (100, "27.5")) + each(2, "0.01")),
    Case("US inference with fast mode and a cache stacks", "anthropic", MESSAGES, "claude-opus-5", message("claude-opus-5", 1000, 100, inference_geo="us", speed="fast",
         cache_read_input_tokens=1000), million((1000, "11"), (1000, "1.1"), (100, "55"))),
    Case("Haiku 5.5 over 100,000 is five times on every token", "anthropic", MESSAGES, "claude-haiku-5-5", message("claude-haiku-5-5", 1000, 100,
         cache_read_input_tokens=90_000, cache_creation_input_tokens=9_001), million((1000, "0.5"), (90_000, "0.05"), (9_001, "0.625"), (100, "2.5"))),
    Case("Sonnet 4.5 over 200k while the beta ran", "anthropic", MESSAGES, "claude-sonnet-4-5", message("claude-sonnet-4-5", 200_001, 100),
         million((200_001, "6"), (100, "22.5")), at="2026-04-29T00:00:00Z"),
    Case("no long-context price on 4.6", "anthropic", MESSAGES, "claude-opus-4-6", message("claude-opus-4-6", 300_000, 100), million((300_000, "5"), (100, "25"))),
    Case("thinking is inside the output", "anthropic", MESSAGES, "claude-sonnet-4-6", message("claude-sonnet-4-6", 100, 1000, output_tokens_details={"thinking_tokens": 900}),
         million((100, "3"), (1000, "15"))),
    Case("web fetch is free", "anthropic", MESSAGES, "claude-sonnet-4-6", message("claude-sonnet-4-6", 100, 10, server_tool_use={"web_search_requests": 0, "web_fetch_requests": 4}),
         million((100, "3"), (10, "15"))),
    Case("code execution is free beside a new web tool", "anthropic", MESSAGES, "claude-sonnet-4-6", message("claude-sonnet-4-6", 100, 10,
         server_tool_use={"web_search_requests": 1, "code_execution_requests": 1}), million((100, "3"), (10, "15")) + each(1, "0.01"),
         request={"tools": [{"type": "web_search_20260209", "name": "web_search"}, {"type": "code_execution_20260120", "name": "code_execution"}]}),
    Case("code execution beside an old web tool is billed by time", "anthropic", MESSAGES, "claude-sonnet-4-6", message("claude-sonnet-4-6", 100, 10,
         server_tool_use={"web_search_requests": 1, "code_execution_requests": 1}), None,
         request={"tools": [{"type": "web_search_20250305", "name": "web_search"}, {"type": "code_execution_20250825", "name": "code_execution"}]}),
    Case("a stream's split of writes is in its start", "anthropic", MESSAGES, "claude-sonnet-4-6",
         [{"type": "message_start", "message": message("claude-sonnet-4-6", 20, 1, cache_creation_input_tokens=1000, cache_creation=SPLIT)},
          {"type": "message_delta", "usage": {"output_tokens": 50}},
          {"type": "message_delta", "usage": {"input_tokens": 20, "cache_creation_input_tokens": 1000, "output_tokens": 120}}, {"type": "message_stop"}],
         million((20, "3"), (600, "3.75"), (400, "6"), (120, "15")), streamed=True),
    Case("a stream cut after its start has no known price", "anthropic", MESSAGES, "claude-sonnet-4-6",
         [{"type": "message_start", "message": message("claude-sonnet-4-6", 20, 1)}, {"type": "content_block_delta"}], None, streamed=True),
    Case("an overloaded stream before its start is free", "anthropic", MESSAGES, "claude-sonnet-4-6", [{"type": "error", "error": {"type": "overloaded_error"}}], Decimal(0), streamed=True),
    Case("a batch of a model with a threshold", "anthropic", "/v1/messages/batches", "claude-haiku-5-5",
         {"custom_id": "a", "result": {"type": "succeeded", "message": message("claude-haiku-5-5", 100_001, 100, service_tier="batch")}}, million((100_001, "0.25"), (100, "1.25"))),
    Case("an expired batch line is not billed", "anthropic", "/v1/messages/batches", "claude-haiku-5-5", {"custom_id": "a", "result": {"type": "expired"}}, Decimal(0)),
    Case("batch fees are not halved", "anthropic", "/v1/messages/batches", "claude-opus-5",
         {"custom_id": "a", "result": {"type": "succeeded", "message": message("claude-opus-5", 100, 100, service_tier="batch", server_tool_use={"web_search_requests": 1})}},
         million((100, "2.5"), (100, "12.5")) + each(1, "0.01")),
    Case("counting tokens is free", "anthropic", "/v1/messages/count_tokens", "claude-opus-5", {"input_tokens": 2095}, Decimal(0)),
    Case("a fallback is billed at its own model", "anthropic", MESSAGES, "claude-fable-5", message("claude-fable-5", 500, 100, iterations=[
         {"type": "message", "input_tokens": 500, "output_tokens": 0}, {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 500, "output_tokens": 100}]),
         million((500, "10"), (500, "5"), (100, "25"))),
    Case("an advisor nobody priced leaves the bill unknown", "anthropic", MESSAGES, "claude-opus-5", message("claude-opus-5", 500, 100, iterations=[
         {"type": "message", "input_tokens": 500, "output_tokens": 100}, {"type": "advisor_message", "model": "claude-oracle-9", "input_tokens": 5, "output_tokens": 5}]), None),
]  # fmt: skip

GEMINI = [
    Case("the documented thinking example", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 20, 198, thoughtsTokenCount=405,
         promptTokensDetails=[{"modality": "TEXT", "tokenCount": 20}], grounding={"webSearchQueries": ["a", "", "b"]}), Decimal("0.0015135"), status="partial"),
    Case("grounding beyond the free quota", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 50, 300, grounding={"webSearchQueries": ["a", "b"]}),
         million((50, "0.3"), (300, "2.5")) + each(1, "0.035"), context={"grounded_prompts_today_before_this": 1500}),
    Case("the last free grounded prompt", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 50, 300, grounding={"webSearchQueries": ["a"]}),
         million((50, "0.3"), (300, "2.5")), context={"grounded_prompts_today_before_this": 1499}),
    Case("Gemini 3 bills executed queries", "google", GENERATE, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 50, 300, grounding={"webSearchQueries": ["a", "", "b"]}),
         million((50, "2"), (300, "12")) + each(2, "0.014"), context={"grounded_queries_this_month_before_this": 5000}),
    Case("Gemini 3 within the month's free queries", "google", GENERATE, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 50, 300, grounding={"webSearchQueries": ["a"]}),
         million((50, "2"), (300, "12")), context={"grounded_queries_this_month_before_this": 10}),
    Case("over 200k reprices input, cached and output", "google", GENERATE, "gemini-2.5-pro", gemini("gemini-2.5-pro", 200_001, 1000, cachedContentTokenCount=100_000),
         million((100_001, "2.5"), (100_000, "0.25"), (1000, "15"))),
    Case("cached audio has its own rate", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 1000, 10, cachedContentTokenCount=500, promptTokensDetails=AUDIO_DETAILS,
         cacheTokensDetails=[{"modality": "AUDIO", "tokenCount": 500}]), million((100, "0.3"), (400, "1"), (500, "0.1"), (10, "2.5"))),
    Case("tool prompts are input", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 100, 10, toolUsePromptTokenCount=4000), million((4100, "0.3"), (10, "2.5"))),
    Case("batch halves all but cached on 2.5", "google", "/v1beta/models/{m}:batchGenerateContent", "gemini-2.5-flash", {"response": gemini("gemini-2.5-flash", 1000, 100, cachedContentTokenCount=400)},
         million((600, "0.15"), (400, "0.03"), (100, "1.25"))),
    Case("flex", "google", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 1000, 100, serviceTier="flex"), million((1000, "0.15"), (100, "1.25"))),
    Case("priority at 1.8", "google", GENERATE, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 1000, 100, serviceTier="PRIORITY"), million((1000, "3.6"), (100, "21.6"))),
    Case("provisioned throughput cannot be priced at list", "vertex", GENERATE, "gemini-2.5-flash", gemini("gemini-2.5-flash", 1000, 100, trafficType="PROVISIONED_THROUGHPUT"), None),
    Case("a regional Vertex endpoint on Gemini 3", "vertex", GENERATE, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 1000, 100, trafficType="ON_DEMAND"),
         million((1000, "2.2"), (100, "13.2")), context={"base_url": "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1"}),
    Case("a regional Vertex endpoint before the uplift", "vertex", GENERATE, "gemini-3.1-pro-preview", gemini("gemini-3.1-pro-preview", 1000, 100),
         million((1000, "2"), (100, "12")), at="2026-06-30T23:59:59Z", context={"base_url": "https://us-central1-aiplatform.googleapis.com"}),
    Case("the promotion before it ends", "google", GENERATE, "gemini-4-argon", gemini("gemini-4-argon", 1000, 100), million((1000, "2"), (100, "10")), at="2026-11-30T23:59:59Z"),
    Case("the promotion has ended", "google", GENERATE, "gemini-4-argon", gemini("gemini-4-argon", 1000, 100), million((1000, "4"), (100, "20")), at="2026-12-01T00:00:00Z"),
    Case("the compatible endpoint's cached tokens", "google", "/v1beta/openai/chat/completions", "gemini-2.5-flash", chat("gemini-2.5-flash", 1000, 10, cached=600, total_tokens=1110),
         million((400, "0.3"), (600, "0.03"), (110, "2.5"))),
    Case("image output", "google", GENERATE, "gemini-3.1-flash-image-preview", gemini("gemini-3.1-flash-image-preview", 10, 1220, candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 1120}]),
         million((10, "0.5"), (100, "3"), (1120, "60"))),
    Case("only thoughts so far", "google", GENERATE, "gemini-2.5-flash", {"usageMetadata": {"promptTokenCount": 10, "thoughtsTokenCount": 50, "totalTokenCount": 60}, "modelVersion": "gemini-2.5-flash"},
         million((10, "0.3"), (50, "2.5"))),
]  # fmt: skip

CROWD = [
    Case("DeepSeek off-peak at the weekend", "deepseek", CHAT, "deepseek-flash", chat("deepseek-flash", 10_000, 1000, prompt_cache_hit_tokens=8000, prompt_cache_miss_tokens=2000, cached=8000),
         million((8000, "0.003"), (2000, "0.15"), (1000, "0.60")), at="2026-11-21T02:00:00Z"),
    Case("DeepSeek at the end of the morning's peak", "deepseek", CHAT, "deepseek-flash", chat("deepseek-flash", 1000, 1000), million((1000, "0.15"), (1000, "0.60")), at="2026-11-16T04:00:00Z"),
    Case("DeepSeek in the afternoon's peak", "deepseek", CHAT, "deepseek-flash", chat("deepseek-flash", 1000, 1000), million((1000, "0.30"), (1000, "1.20")), at="2026-11-16T09:59:59Z"),
    Case("DeepSeek on a Chinese holiday", "deepseek", CHAT, "deepseek-flash", chat("deepseek-flash", 1000, 1000), million((1000, "0.15"), (1000, "0.60")), at="2026-10-01T02:00:00Z"),
    Case("DeepSeek before the change of the hour", "deepseek", CHAT, "deepseek-v4-pro", chat("deepseek-v4-pro", 1000, 1000), million((1000, "0.435"), (1000, "0.87")), at="2026-08-16T15:59:59Z"),
    Case("xAI's chat leaves reasoning outside", "xai", CHAT, "grok-4.3", chat("grok-4.3", 1000, 100, cached=200, total_tokens=1500), million((800, "1.25"), (200, "0.2"), (500, "2.5"))),
    Case("xAI's threshold is inclusive", "xai", RESPONSES, "grok-4.3", response("grok-4.3", 200_000, 100), million((200_000, "2.5"), (100, "5"))),
    Case("xAI just under its threshold", "xai", RESPONSES, "grok-4.3", response("grok-4.3", 199_999, 100), million((199_999, "1.25"), (100, "2.5"))),
    Case("xAI's server tools", "xai", RESPONSES, "grok-4.3", {"model": "grok-4.3", "usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100,
         "server_side_tool_usage_details": {"web_search_calls": 2, "x_search_calls": 3, "file_search_calls": 1, "mcp_calls": 5}}},
         million((1000, "1.25"), (100, "2.5")) + each(5, "0.005") + each(1, "0.0025")),
    Case("xAI's US endpoint", "xai", CHAT, "grok-4.3", chat("grok-4.3", 1000, 100), million((1000, "1.375"), (100, "2.75")), context={"base_url": "https://us.api.x.ai/v1"}),
    Case("OpenRouter with the customer's own key bills its fee", "openrouter", CHAT, "openai/gpt-4o", chat("openai/gpt-4o", 194, 2, cost=Decimal("0.000025"), is_byok=True,
         cost_details={"upstream_inference_cost": Decimal("0.000505")}), Decimal("0.000025")),
    Case("OpenRouter states a cost of zero", "openrouter", CHAT, "meta-llama/llama-3.3-70b-instruct:free", chat("meta-llama/llama-3.3-70b-instruct:free", 10, 2, cost=0), Decimal(0)),
    Case("Groq's older streams", "groq", "/openai/v1/chat/completions", "llama-3.3-70b-versatile",
         [chunk("llama-3.3-70b-versatile"), {**chunk("llama-3.3-70b-versatile"), "x_groq": {"id": "r", "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "total_time": 0.1}}}],
         million((100, "0.59"), (10, "0.79")), streamed=True),
    Case("Groq's batch does not stack with its cache", "groq", "/openai/v1/batches", "openai/gpt-oss-120b",
         {"custom_id": "1", "response": {"status_code": 200, "body": chat("openai/gpt-oss-120b", 1000, 100, cached=800)}}, million((1000, "0.075"), (100, "0.30"))),
    Case("Groq bills ten seconds of audio at least", "groq", "/openai/v1/audio/transcriptions", "whisper-large-v3", {"text": "x", "duration": 3.2}, Decimal("0.111") * 10 / 3600),
    Case("Mistral's cached tenth", "mistral", CHAT, "mistral-medium-2604", chat("mistral-medium-2604", 2000, 300, cached=1000, prompt_audio_seconds=None, service_tier="standard"),
         million((1000, "1.5"), (1000, "0.15"), (300, "7.5"))),
    Case("Mistral's OCR by the page", "mistral", "/v1/ocr", "mistral-ocr-2512", {"model": "mistral-ocr-2512", "pages": [], "usage_info": {"pages_processed": 7, "doc_size_bytes": 100}}, Decimal("0.014")),
    Case("Together's three numbers", "together", CHAT, "meta-llama/Llama-3.3-70B-Instruct-Turbo", {"model": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "choices": [{}],
         "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}, million((1000, "0.88"), (100, "0.88"))),
    Case("Perplexity states its cost", "perplexity", "/chat/completions", "sonar", chat("sonar", 14, 100, search_context_size="low", cost={"input_tokens_cost": 0.000014,
         "output_tokens_cost": 0.0001, "request_cost": 0.005, "total_cost": 0.005114}), Decimal("0.005114")),
    Case("Perplexity's request fee by context size", "perplexity", "/chat/completions", "sonar-pro", chat("sonar-pro", 14, 100, search_context_size="high"),
         million((14, "3"), (100, "15")) + each(1, "0.014")),
    Case("Azure's first chunk names no model", "azure", "/openai/deployments/mine/chat/completions", "mine",
         [{"choices": [], "model": "", "prompt_filter_results": []}, chunk("gpt-4o-2024-11-20"), {**chunk("gpt-4o-2024-11-20"), "choices": [], "usage": USAGE}],
         million((1200, "2.5"), (345, "10")), streamed=True),
    Case("Ollama is the operator's own machine", "ollama", "/api/chat", "llama3.2", {"model": "llama3.2", "done": True, "prompt_eval_count": 26, "eval_count": 282}, Decimal(0)),
    Case("Ollama's stream without a prompt count", "ollama", "/api/chat", "llama3.2", [{"model": "llama3.2", "message": {"content": "x"}, "done": False}, {"model": "llama3.2", "done": True, "eval_count": 5}],
         Decimal(0), streamed=True),
    Case("Cohere's billed units", "cohere", "/v2/chat", "command-a-03-2025", {"id": "1", "message": {}, "usage": {"billed_units": {"input_tokens": 5.0, "output_tokens": 10}, "tokens": {"input_tokens": 70}}},
         million((5, "2.5"), (10, "10"))),
    Case("Bedrock bills the id that was asked for", "bedrock", "/model/us.anthropic.claude-opus-5/invoke", "us.anthropic.claude-opus-5", message("claude-opus-5", 1000, 100),
         million((1000, "5.5"), (100, "27.5")), status="exact"),
    Case("Bedrock's Converse counts like Anthropic", "bedrock", "/model/x/converse", "global.anthropic.claude-opus-5",
         {"output": {}, "usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 1110, "cacheReadInputTokens": 800, "cacheWriteInputTokens": 200}},
         million((100, "5"), (800, "0.5"), (200, "6.25"), (10, "25"))),
    Case("Claude on a regional Vertex endpoint", "vertex", "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-opus-4-8:rawPredict", "claude-opus-4-8",
         message("claude-opus-4-8", 1000, 100), million((1000, "5.5"), (100, "27.5"))),
    Case("Claude on the global Vertex endpoint", "vertex", "/v1/projects/p/locations/global/publishers/anthropic/models/claude-opus-4-8:rawPredict", "claude-opus-4-8",
         message("claude-opus-4-8", 1000, 100), million((1000, "5"), (100, "25"))),
    Case("Fireworks caches at half where it prints no rate", "fireworks", "/inference/v1/chat/completions", "accounts/fireworks/models/llama-v3p3-70b-instruct",
         chat("accounts/fireworks/models/llama-v3p3-70b-instruct", 1000, 100, cached=600), million((400, "0.9"), (600, "0.45"), (100, "0.9"))),
    Case("the simulator", "simulator", CHAT, "sim-small", chat("sim-small", 1000, 100, cached=400), million((600, "0.15"), (400, "0.075"), (100, "0.60"))),
    Case("the simulator in Anthropic's dialect", "simulator", MESSAGES, "sim-large", message("sim-large", 1000, 100, cache_read_input_tokens=500), million((1000, "2.5"), (500, "1.25"), (100, "10"))),
    Case("the simulator in Gemini's dialect", "simulator", GENERATE, "sim-reasoner", gemini("sim-reasoner", 1000, 100, thoughtsTokenCount=50), million((1000, "1.25"), (150, "10"))),
    Case("a provider nobody has heard of", "nobody", CHAT, "x", chat("x", 10, 10), None, status="unpriced"),
]  # fmt: skip

LATER = [
    Case("Mistral bills its classifiers", "mistral", "/v1/moderations", "mistral-moderation-latest", {"model": "mistral-moderation-2411", "results": [],
         "usage": {"prompt_tokens": 1000, "total_tokens": 1000}}, million((1000, "0.1"))),
    Case("Azure's provisioned capacity has no price a call", "azure", "/openai/v1/chat/completions", "gpt-4o", chat("gpt-4o-2024-11-20", 1000, 100), None,
         context={"deployment_type": "ProvisionedManaged"}),
    Case("a snapshot of a retired Claude", "anthropic", MESSAGES, "claude-3-5-haiku-latest", message("claude-3-5-haiku-20241022", 1000, 100), million((1000, "0.8"), (100, "4")), status="exact"),
    Case("Voyage's reranker", "voyage", "/v1/rerank", "rerank-2.5", {"data": [], "model": "rerank-2.5", "usage": {"total_tokens": 1000}}, million((1000, "0.05"))),
    Case("deep research is no search model", "openai", CHAT, "o3-deep-research", chat("o3-deep-research-2025-06-26", 1000, 100), million((1000, "10"), (100, "40"))),
    Case("batch long context of 5.5 pro", "openai", "/v1/batches", "gpt-5.5-pro", {"custom_id": "1", "response": {"status_code": 200, "body": chat("gpt-5.5-pro", 300_000, 1000)}},
         million((300_000, "30"), (1000, "135"))),
    Case("Bedrock's bare usage", "bedrock", "/model/x/converse", "amazon.nova-pro-v1:0", {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}, million((100, "0.8"), (10, "3.2"))),
    Case("Bedrock's Llama counts in its own words", "bedrock", "/model/meta.llama3-1-70b-instruct-v1:0/invoke", "meta.llama3-1-70b-instruct-v1:0",
         {"generation": "x", "prompt_token_count": 100, "generation_token_count": 10, "stop_reason": "stop"}, million((100, "0.72"), (10, "0.72"))),
    Case("Bedrock's Titan embeds", "bedrock", "/model/amazon.titan-embed-text-v2:0/invoke", "amazon.titan-embed-text-v2:0", {"embedding": [1], "inputTextTokenCount": 100}, million((100, "0.02"))),
    Case("Bedrock's optimized latency has no list here", "bedrock", "/model/x/converse", "us.anthropic.claude-3-5-haiku-20241022-v1:0",
         {"usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}, "performanceConfig": {"latency": "optimized"}}, None, status="unpriced"),
    Case("a Converse stream ends with its metadata", "aws_bedrock", "/model/x/converse-stream", "global.anthropic.claude-opus-5",
         [{"messageStart": {"role": "assistant"}}, {"metadata": {"usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}, "metrics": {"latencyMs": 1}}}],
         million((100, "5"), (10, "25")), streamed=True),
    Case("Azure's Data Zone is a tenth above", "azure", "/openai/v1/chat/completions", "gpt-5.4", chat("gpt-5.4-2026-03-05", 1000, 100), million((1000, "2.75"), (100, "16.5")),
         context={"deployment_type": "DataZoneStandard"}),
    Case("Azure's Global is the list", "azure-openai", "/openai/v1/chat/completions", "gpt-5.4", chat("gpt-5.4-2026-03-05", 1000, 100), million((1000, "2.5"), (100, "15")),
         context={"deployment_type": "GlobalStandard"}),
    Case("a retired name of xAI's before it was redirected", "xai", CHAT, "grok-code-fast-1", chat("grok-code-fast-1", 1000, 100), million((1000, "0.2"), (100, "1.5")), at="2026-05-15T18:59:59Z"),
    Case("a retired name of xAI's answers as today's model", "xai", CHAT, "grok-code-fast-1", chat("grok-code-fast-1", 1000, 100), million((1000, "1"), (100, "2")), at="2026-05-15T19:00:00Z"),
    Case("xAI's threshold is inclusive where only the second source has it", "xai", CHAT, "grok-build-latest", chat("grok-build-latest", 200_000, 100), million((200_000, "4"), (100, "12"))),
    Case("a picture of xAI's", "xai", "/v1/images/generations", "grok-2-image", {"data": [{"url": "u"}, {"url": "v"}]}, each(2, "0.07"), request={"model": "grok-2-image"}),
    Case("Imagen by the picture", "google", "/v1beta/models/imagen-4.0-generate-001:predict", "imagen-4.0-generate-001", {"predictions": [{"mimeType": "image/png"}, {"raiFilteredReason": "x"}]},
         each(1, "0.04")),
    Case("Groq's compound bills its models, and tools that nobody counts", "groq", "/openai/v1/chat/completions", "groq/compound", {**chat("groq/compound", 3000, 300),
         "usage_breakdown": {"models": [{"model": "openai/gpt-oss-120b", "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}},
                                        {"model": "llama-3.3-70b-versatile", "usage": {"prompt_tokens": 2000, "completion_tokens": 200, "total_tokens": 2200}}]}},
         million((1000, "0.15"), (100, "0.60"), (2000, "0.59"), (200, "0.79")), status="partial"),
    Case("Mistral's transcription by the minute alone", "mistral", "/v1/audio/transcriptions", "voxtral-mini-latest", {"model": "voxtral-mini-latest", "text": "x",
         "usage": {"prompt_audio_seconds": 60, "prompt_tokens": 4, "completion_tokens": 30, "total_tokens": 34}}, Decimal("0.003")),
    Case("Cohere's compatible API", "cohere", "/compatibility/v1/chat/completions", "command-a-03-2025", chat("command-a-03-2025", 5, 10), million((5, "2.5"), (10, "10"))),
    Case("Cohere's bare units", "cohere", "/v2/chat", "command-a-03-2025", {"billed_units": {"input_tokens": 5, "output_tokens": 10}}, million((5, "2.5"), (10, "10"))),
    Case("Fireworks prints MiniMax's cached rate", "fireworks_ai", "/inference/v1/chat/completions", "accounts/fireworks/models/minimax-m2p1",
         chat("accounts/fireworks/models/minimax-m2p1", 1000, 100, cached=600), million((400, "0.3"), (600, "0.03"), (100, "1.2"))),
    Case("a stream as the text that came", "openai", CHAT, "gpt-4o-mini", 'data: {"model":"gpt-4o-mini","choices":[{"delta":{}}],"usage":null}\n\ndata: '
         '{"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\ndata: [DONE]\n\n', million((10, "0.15"), (5, "0.60")), streamed=True),
    Case("all results of a batch at once", "openai", "/v1/batches", "gpt-4o-mini", [
         {"custom_id": "1", "response": {"status_code": 200, "body": chat("gpt-4o-mini-2024-07-18", 1000, 100)}},
         {"custom_id": "2", "response": {"status_code": 500, "body": {"error": {}}}},
         {"custom_id": "3", "response": {"status_code": 200, "body": chat("gpt-4o-2024-08-06", 1000, 100)}}], million((1000, "0.075"), (100, "0.30"), (1000, "1.25"), (100, "5"))),
]  # fmt: skip

ALL = [*LATER, *OPENAI, *ANTHROPIC, *GEMINI, *CROWD]

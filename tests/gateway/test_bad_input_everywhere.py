"""Bodies that cannot be meant, or that hide a cost, on every surface and under a hard budget: a clear 4xx in that surface's own shape and nothing
sent, or forwarded and priced exactly as the provider bills it (SECURITY.md S67 to S72)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"
NUMBERS: list[Any] = [0, -1, 1.5, "9", "", True, False, [], {}, 10**18, 1e300]
"""What stands for a count and is none, or an absurd one. (Null is as good as absent.)"""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@dataclass(frozen=True)
class Surface:
    name: str
    path: str
    header: Callable[[str], dict[str, str]]
    good: dict[str, Any]
    limits: tuple[str, ...]
    """Where output limits stand, dotted"""
    counts: tuple[str, ...]
    """Where the number of answers stands"""
    tool: Callable[[int], dict[str, Any]]
    image: dict[str, Any]
    paid: tuple[dict[str, Any], ...]
    """Fields that nobody here knows, or that cost something which nothing bounds"""
    is_error: Callable[[Any], bool]

    def with_image(self, count: int) -> dict[str, Any]:
        body = json.loads(json.dumps(self.good))
        place, key = (
            (body["contents"][0], "parts") if self.name == "gemini" else (body.get("messages", [None])[0], "content")
        )
        if self.name == "responses":
            return {**body, "input": [{"role": "user", "content": [self.image] * count}]}
        place[key] = [self.image] * count
        return dict(body)

    def with_tools(self, tools: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.good, "tools": [{"functionDeclarations": tools}] if self.name == "gemini" else tools}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def openai_error(answer: Any) -> bool:
    return bool(answer["error"]["message"]) and {"type", "code", "param"} <= answer["error"].keys()


USER = [{"role": "user", "content": "Hello"}]
SURFACES = [
    Surface(
        "chat",
        "/v1/chat/completions",
        bearer,
        {"model": "sim-small", "messages": USER},
        ("max_tokens", "max_completion_tokens"),
        ("n",),
        lambda n: {"type": "function", "function": {"name": f"tool_{n}", "parameters": SCHEMA}},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        (
            {"tools": [{"type": "quantum_search"}]},
            {"web_search_options": {}},
            {"service_tier": "platinum"},
            {"deluxe_output": {"quality": "paid"}},
            {"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]},
            {"plugins": [{"id": "web"}]},
            {"prediction": {"type": "content", "content": "x" * 1000}},
            {"best_of": 50},
        ),
        openai_error,
    ),
    Surface(
        "responses",
        "/v1/responses",
        bearer,
        {"model": "sim-small", "input": "Hello"},
        ("max_output_tokens",),
        ("max_tool_calls",),
        lambda n: {"type": "function", "name": f"tool_{n}", "parameters": SCHEMA},
        {"type": "input_image", "image_url": PICTURE},
        (
            {"tools": [{"type": "quantum_search"}]},
            {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://example.com"}]},
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}]},
            {"tools": [{"type": "image_generation"}]},
            {"service_tier": "platinum"},
            {"deluxe_output": {"quality": "paid"}},
            {"prompt": {"id": "pmpt_1"}},
            {"previous_response_id": "resp_nobody"},
            {"conversation": "conv_1"},
        ),
        openai_error,
    ),
    Surface(
        "anthropic",
        "/anthropic/v1/messages",
        lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
        {"model": "sim-small", "max_tokens": 64, "messages": USER},
        ("max_tokens", "thinking.budget_tokens"),
        (),
        lambda n: {"name": f"tool_{n}", "input_schema": SCHEMA},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        (
            {"tools": [{"type": "web_search_20990101", "name": "web_search"}]},
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
            {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]},
            {"container": "container_1"},
            {"service_tier": "platinum"},
            {"speed": "ludicrous"},
            {"inference_geo": "mars"},
            {"deluxe_output": {"quality": "paid"}},
        ),
        lambda answer: answer["type"] == "error" and bool(answer["error"]["message"]) and bool(answer["error"]["type"]),
    ),
    Surface(
        "gemini",
        "/gemini/v1beta/models/sim-small:generateContent",
        lambda key: {"x-goog-api-key": key},
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        ("generationConfig.maxOutputTokens", "generationConfig.thinkingConfig.thinkingBudget"),
        ("generationConfig.candidateCount",),
        lambda n: {"name": f"tool_{n}", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        (
            {"tools": [{"quantumSearch": {}}]},
            {"tools": [{"googleSearch": {}}]},
            {"tools": [{"codeExecution": {}}]},
            {"tools": [{"urlContext": {}}]},
            {"cachedContent": "cachedContents/somebody-elses"},
            {"serviceTier": "PLATINUM"},
            {"deluxeOutput": {"quality": "paid"}},
            {"generationConfig": {"responseModalities": ["IMAGE", "AUDIO"]}},
            {"generationConfig": {"deluxe": True}},
        ),
        lambda answer: bool(answer["error"]["message"]) and type(answer["error"]["code"]) is int,
    ),
]


def at(body: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The body with a value at a dotted place."""
    head, _, rest = place.partition(".")
    inner = body.get(head, {})
    return {**body, head: at(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def cases(surface: Surface) -> Iterator[tuple[str, bytes | dict[str, Any], bool]]:
    """(what it is, the body, whether it must be refused)."""
    good = surface.good
    text = json.dumps(good)
    for place in (*surface.limits, *surface.counts):
        for value in (*NUMBERS, None):
            # Zero is a limit for Anthropic's and Gemini's readers, a huge one is lowered; a budget of thoughts or tool calls bounds nothing by itself
            judged = "thinking" not in place and place != "max_tool_calls"
            yield f"{place}={value!r}", at(good, place, value), judged and type(value) not in (int, type(None))
    for value in ("true", "false", 1, 0, [], {}):
        if surface.name != "gemini":
            yield f"stream={value!r}", {**good, "stream": value}, True
    first = next(iter(good))
    yield "a key twice", f'{{"{first}":{json.dumps(good[first])},{text[1:]}'.encode(), True
    yield "a key twice inside", (text[:-1] + ',"metadata":{"a":"1","a":"2"}}').encode(), True
    for token in ("NaN", "Infinity", "-Infinity", "1e999"):
        yield token, (text[:-1] + f',"temperature":{token}}}').encode(), True
    yield "a lone surrogate", text.replace("Hello", "\\ud83d").encode(), True
    yield "a lone surrogate in a name", (text[:-1] + ',"\\udfff":1}').encode(), True
    yield "not UTF-8", text.encode().replace(b"Hello", b"\xff\xfe"), True
    yield "a thousand images", surface.with_image(1_000), False
    yield "five thousand tools", surface.with_tools([surface.tool(n) for n in range(5_000)]), False
    yield "a tool that is none", surface.with_tools([7]), True  # type: ignore[list-item]
    yield "tools that are none", {**good, "tools": "all"}, True
    for field in surface.paid:
        yield json.dumps(field)[:60], {**good, **field}, False


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_under_a_hard_budget_a_strange_body_is_refused_clearly_or_priced_as_it_is_billed(
    gateway: GatewayProcess, shop: Shop, surface: Surface
) -> None:
    shop.do(create_budget, cap="500", period="day")
    simulator = shop.world.simulator
    wrong: list[str] = []
    passed = 0
    headers = {"content-type": "application/json", **surface.header(shop.key)}
    before = len(simulator.invoice())
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        for what, body, must_refuse in cases(surface):
            answer = client.post(surface.path, content=body if isinstance(body, bytes) else json.dumps(body).encode())
            if answer.status_code == 200 and not must_refuse:
                passed += 1
            elif not 400 <= answer.status_code < 500 or not surface.is_error(answer.json()):
                wrong.append(f"{what}: {answer.status_code} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)

    billed = {line.attempt: line.cost_nano for line in simulator.invoice()[before:] if line.cost_nano}
    for _ in range(100):  # the last finish travels after its answer
        if not shop.open_holds():
            break
        time.sleep(0.05)
    entries = [entry for entry in shop.booked() if entry.state != "void"]
    assert {str(entry.rid): entry.cost_nano for entry in entries} == billed
    assert {entry.price_status for entry in entries} == {"exact"}
    assert all(entry.cost_nano <= entry.hold_nano for entry in entries)
    assert len(entries) == passed
    assert not shop.open_holds()

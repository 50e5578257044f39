"""The conformance table, cell by cell: endpoint x provider x whole or streamed, against each dialect's wire format (docs/conformance.md)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from billing.prices import default_book
from gateway import endpoints
from gateway.providers.eventstream import encode
from gateway.sse import Splitter, data_of
from tests.gateway.dialects.cells import FREE, Cell, cells, table
from tests.gateway.dialects.service_accounts import service_account
from tests.gateway.world import GatewayProcess, Shop, World

PAGE = Path(__file__).resolve().parents[3] / "docs" / "conformance.md"
CHAT_USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920},
}
MESSAGE_USAGE = {
    "input_tokens": 86,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 1920,
    "output_tokens": 300,
}
GENERATE_USAGE = {
    "promptTokenCount": 2006,
    "cachedContentTokenCount": 1920,
    "candidatesTokenCount": 100,
    "thoughtsTokenCount": 200,
    "totalTokenCount": 2306,
}
RESPONSE_USAGE = {
    "input_tokens": 2006,
    "input_tokens_details": {"cached_tokens": 1920},
    "output_tokens": 300,
    "total_tokens": 2306,
}
IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 1056,
    "total_tokens": 1106,
}
HEARD_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 5,
    "total_tokens": 19,
}
WORDS = "Hello from the wire"


def sse(events: list[dict[str, Any]], *, named: bool = False, done: bool = False) -> tuple[str, bytes]:
    lines = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "text/event-stream", ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def whole(answer: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(answer).encode()


def framed(answer: tuple[str, bytes]) -> tuple[str, bytes]:
    """The events of a stream in the frames that Bedrock puts them in."""
    events = [data_of(event) for event, _ in Splitter().feed(answer[1])]
    frames = [
        encode(
            {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"},
            json.dumps({"bytes": base64.b64encode(event).decode(), "p": "abc"}).encode(),
        )
        for event in events
    ]
    return "application/vnd.amazon.eventstream", b"".join(frames)


def _cloud(path: str, raw: bytes) -> tuple[str, bytes] | None:
    """What the clouds have of their own: access tokens, paths by model, versions in the body, frames."""
    if path.endswith("/token"):
        return whole({"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"})
    if path.endswith("count-tokens:rawPredict"):
        return whole({"input_tokens": 9})
    if path.endswith("/invoke") and "embed" in path:
        return _invoked(json.loads(raw))
    if path.endswith(":predict"):
        assert json.loads(raw) == {"instances": [{"content": "Hi"}]}
        return whole(
            {"predictions": [{"embeddings": {"values": [0.5], "statistics": {"token_count": 9, "truncated": False}}}]}
        )
    if path.endswith(("/invoke", "/invoke-with-response-stream")):
        body = json.loads(raw)
        assert body["anthropic_version"] == "bedrock-2023-05-31"
        assert body.keys().isdisjoint(("model", "stream"))
        return _message(False) if path.endswith("/invoke") else framed(_message(True))
    if path.endswith(("/converse", "/converse-stream")):
        assert json.loads(raw).keys().isdisjoint(("model", "stream"))
        return _conversed(path.endswith("stream"))
    if path.endswith(("rawPredict", "RawPredict")):
        body = json.loads(raw)
        assert body["anthropic_version"] == "vertex-2023-10-16"
        assert "model" not in body
        return _message(path.endswith("streamRawPredict"))
    return None


def _invoked(body: dict[str, Any]) -> tuple[str, bytes]:
    """An embedding on Bedrock: Titan counts its tokens, Cohere leaves that to a header."""
    if "inputText" in body:
        return whole({"embedding": [0.5], "embeddingsByType": {"float": [0.5]}, "inputTextTokenCount": 9})
    assert body == {"texts": ["Hi"], "input_type": "search_document"}
    return whole({"id": "e", "response_type": "embeddings_floats", "embeddings": [[0.5]], "texts": ["Hi"]})


def _conversed(streamed: bool) -> tuple[str, bytes]:
    usage = {
        "inputTokens": 86,
        "outputTokens": 300,
        "totalTokens": 2306,
        "cacheReadInputTokens": 1920,
        "cacheWriteInputTokens": 0,
    }
    if not streamed:
        message = {"role": "assistant", "content": [{"text": WORDS}]}
        return whole({"output": {"message": message}, "stopReason": "end_turn", "usage": usage})
    events: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": WORDS}, "p": "abc"}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": usage, "metrics": {"latencyMs": 9}}),
    ]
    frames = [
        encode({":event-type": name, ":message-type": "event"}, json.dumps(event).encode()) for name, event in events
    ]
    return "application/vnd.amazon.eventstream", b"".join(frames)


def wire(path: str, raw: bytes) -> tuple[str, bytes]:
    """What a provider of each dialect answers: its own format, always the same usage."""
    path, _, query = path.partition("?")
    clouds = _cloud(path, raw)
    if clouds is not None:
        return clouds
    body = json.loads(raw)
    streamed = body.get("stream") is True or "alt=sse" in query
    if path.endswith("/chat/completions"):
        return _chat(streamed, "message", {"role": "assistant", "content": WORDS}, {"content": WORDS})
    if path.endswith("/completions"):
        return _chat(streamed, "text", WORDS, None)
    if path.endswith("/embeddings"):
        rows = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return whole({"object": "list", "data": rows, "model": "e", "usage": {"prompt_tokens": 9, "total_tokens": 9}})
    if "/images/" in path or "/audio/" in path:
        return _media(path, streamed, body)
    if path.endswith("/moderations"):
        return whole({"id": "modr", "model": "m", "results": []})
    if path.endswith("/input_tokens"):
        return whole({"object": "response.input_tokens", "input_tokens": 9})
    if path.endswith("/responses"):
        part = {"type": "output_text", "text": WORDS, "annotations": []}
        item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        final = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": RESPONSE_USAGE}
        events = [
            {"type": "response.created", "response": {**final, "output": [], "usage": None}},
            {"type": "response.output_text.delta", "delta": WORDS},
            {"type": "response.completed", "response": final},
        ]
        return sse(events, named=True) if streamed else whole(final)
    if path.endswith("/count_tokens"):
        return whole({"input_tokens": 9})
    if path.endswith("/messages"):
        return _message(streamed)
    return _gemini(path.rpartition(":")[2], streamed)


def _media(path: str, streamed: bool, body: dict[str, Any]) -> tuple[str, bytes]:
    if "/images/" in path:
        return _pictures(streamed)
    if path.endswith("/audio/speech"):
        return _spoken(streamed or body.get("stream_format") == "sse")
    return _heard(streamed)


def _pictures(streamed: bool) -> tuple[str, bytes]:
    done = {"type": "image_generation.completed", "b64_json": WORDS, "usage": IMAGE_USAGE}
    partial = {"type": "image_generation.partial_image", "b64_json": WORDS, "partial_image_index": 0}
    return (
        sse([partial, done], named=True) if streamed else whole({"data": [{"b64_json": WORDS}], "usage": IMAGE_USAGE})
    )


def _spoken(streamed: bool) -> tuple[str, bytes]:
    if not streamed:
        return "audio/mpeg", WORDS.encode()
    usage = {"input_tokens": 9, "output_tokens": 20, "total_tokens": 29}
    delta = {"type": "speech.audio.delta", "audio": base64.b64encode(WORDS.encode()).decode(), "said": WORDS}
    return sse([delta, {"type": "speech.audio.done", "usage": usage}])


def _heard(streamed: bool) -> tuple[str, bytes]:
    done = {"text": WORDS, "usage": HEARD_USAGE}
    if not streamed:
        return whole(done)
    return sse([{"type": "transcript.text.delta", "delta": WORDS}, {"type": "transcript.text.done", **done}])


def _chat(streamed: bool, name: str, told: Any, delta: Any) -> tuple[str, bytes]:
    head = {"id": "c1", "object": "chat.completion", "created": 1}
    if not streamed:
        return whole({**head, "choices": [{"index": 0, name: told, "finish_reason": "stop"}], "usage": CHAT_USAGE})
    said = {"delta": delta} if delta else {"text": told}
    last = {"delta": {}} if delta else {"text": ""}
    events = [
        {**head, "choices": [{"index": 0, **said, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, **last, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": CHAT_USAGE},
    ]
    return sse(events, done=True)


def _message(streamed: bool) -> tuple[str, bytes]:
    head = {"id": "msg_1", "type": "message", "role": "assistant"}
    if not streamed:
        content = [{"type": "text", "text": WORDS}]
        return whole({**head, "content": content, "stop_reason": "end_turn", "usage": MESSAGE_USAGE})
    events = [
        {"type": "message_start", "message": {**head, "content": [], "usage": {**MESSAGE_USAGE, "output_tokens": 2}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 300}},
        {"type": "message_stop"},
    ]
    return sse(events, named=True)


def _gemini(verb: str, streamed: bool) -> tuple[str, bytes]:
    if verb == "countTokens":
        return whole({"totalTokens": 9})
    if "mbedContent" in verb:
        usage = {"promptTokenCount": 9, "totalTokenCount": 9}
        row = {"values": [0.5]}
        return whole(
            {"embeddings": [row], "usageMetadata": usage}
            if "batch" in verb
            else {"embedding": row, "usageMetadata": usage}
        )
    content = {"role": "model", "parts": [{"text": WORDS}]}
    last = {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": GENERATE_USAGE}
    first = {
        "candidates": [{"index": 0, "content": content}],
        "usageMetadata": {"promptTokenCount": 2006, "totalTokenCount": 2006},
    }
    return sse([first, {**last, "candidates": [{"index": 0, "finishReason": "STOP"}]}]) if streamed else whole(last)


@pytest.fixture(scope="module")
def played() -> Iterator[str]:
    """The base URL of a server that plays every provider."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-type"].startswith("multipart/form-data; boundary="):
                body = b'{"stream":true}' if b'name="stream"\r\n\r\ntrue' in body else b"{}"
            content_type, answer = wire(self.path, body)
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(answer)))
            if self.path.endswith("/invoke"):
                self.send_header("X-Amzn-Bedrock-Input-Token-Count", "9")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join(5)


TEXT: list[Any] = [{"role": "user", "content": "Hi"}]
PARTS: dict[str, Any] = {"parts": [{"text": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    endpoints.CHAT: {"messages": TEXT},
    endpoints.RESPONSES: {"input": "Hi"},
    endpoints.RESPONSES_COUNT: {"input": "Hi"},
    endpoints.COMPLETIONS: {"prompt": "Hi"},
    endpoints.EMBEDDINGS: {"input": "Hi"},
    endpoints.MODERATIONS: {"input": "Hi"},
    endpoints.IMAGES: {"prompt": "A cat"},
    endpoints.IMAGE_EDITS: {"prompt": "A cat"},
    endpoints.IMAGE_VARIATIONS: {},
    endpoints.SPEECH: {"input": "Hi", "voice": "coral"},
    endpoints.TRANSCRIPTIONS: {},
    endpoints.TRANSLATIONS: {},
    endpoints.MESSAGES: {"messages": TEXT, "max_tokens": 500},
    endpoints.COUNT_TOKENS: {"messages": TEXT},
    endpoints.EMBED_GEMINI: {"content": PARTS},
    endpoints.EMBED_GEMINI_MANY: {"requests": [{"content": PARTS}]},
}
FILES = {
    endpoints.IMAGE_EDITS: {"image": ("a.png", b"PNG", "image/png")},
    endpoints.IMAGE_VARIATIONS: {"image": ("a.png", b"PNG", "image/png")},
    endpoints.TRANSCRIPTIONS: {"file": ("a.wav", b"RIFF", "audio/wav")},
    endpoints.TRANSLATIONS: {"file": ("a.wav", b"RIFF", "audio/wav")},
}
SPENT = {"input_uncached": 86, "cache_read": 1920, "output_text": 300}
PRICED = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "simulator": "sim-small",
    "bedrock claude": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock openai": "openai.gpt-oss-120b-1:0",
    "bedrock nova": "eu.amazon.nova-lite-v1:0",
    "bedrock titan embeddings": "amazon.titan-embed-text-v2:0",
    "bedrock cohere embeddings": "us.cohere.embed-v4:0",
    "bedrock others": "qwen.qwen3-32b-v1:0",
    "vertex claude": "claude-sonnet-4-5@20250929",
    "vertex gemini": "gemini-2.5-flash",
    "vertex gemini embeddings": "gemini-embedding-001",
    "vertex text embeddings": "text-embedding-005",
}
SETTINGS: dict[str, dict[str, object]] = {"bedrock": {"region": "eu-central-1"}, "vertex": {"location": "europe-west1"}}


def model_of(cell: Cell) -> str:
    book = default_book()
    if (cell.provider, cell.endpoint) == ("openai", endpoints.SPEECH):
        return "gpt-4o-mini-tts"
    name = f"{cell.provider} {cell.family}".strip()
    if name in PRICED:
        return PRICED[name]
    metas = ((name, book.meta(cell.provider, name)) for name in book.models(cell.provider))
    return next((name for name, meta in metas if meta is not None and meta.mode == "chat"), "any-model")


def spent(cell: Cell) -> dict[str, int]:
    if "/images/" in cell.endpoint:
        return {"input_uncached": 10, "input_image": 40, "output_image": 1056}
    if cell.endpoint == endpoints.SPEECH:
        # Where OpenAI bills tokens the gateway asks for the events that state them
        told = cell.streamed or cell.provider == "openai"
        return {"input_uncached": 9, "output_audio": 20} if told else {"characters": 2}
    if "/audio/" in cell.endpoint:
        return {"input_audio": 10, "input_uncached": 4, "output_text": 5}
    return {"input_uncached": 9} if "mbed" in cell.endpoint else SPENT


def ask(gateway: GatewayProcess, shop: Shop, cell: Cell) -> httpx.Response:
    model = f"{cell.provider}/{model_of(cell)}"
    path = cell.endpoint.replace("{model}", model).replace(":embedContents", ":batchEmbedContents")
    body = {**BODIES.get(cell.endpoint, {"contents": [PARTS]})}
    if "{model}" not in cell.endpoint:
        manner = {"stream_format": "sse"} if cell.endpoint == endpoints.SPEECH else {"stream": True}
        body |= {"model": model} | (manner if cell.streamed else {})
    if cell.endpoint in FILES:
        fields = {name: "true" if value is True else value for name, value in body.items()}
        files = FILES[cell.endpoint]
        head = {"authorization": f"Bearer {shop.key}"}
        return httpx.post(f"{gateway.url}{path}", data=fields, files=files, headers=head, timeout=20)
    return httpx.post(f"{gateway.url}{path}", json=body, headers={"authorization": f"Bearer {shop.key}"}, timeout=20)


@dataclass
class Customer:
    """A workspace that buys of one provider, and how many of its calls are in the books."""

    shop: Shop
    calls: int = 0


@pytest.fixture(scope="module")
def customer_of(world: World, played: str) -> Callable[[str], Customer]:
    """One for each provider, cell after cell: a workspace for each of the cells would cost more than all their calls."""

    @cache
    def customer(provider: str) -> Customer:
        secret = service_account(f"{played}/token") if provider == "vertex" else "a-key"
        settings = SETTINGS.get(provider)
        return Customer(world.shop(provider=provider, base_url=played, secret=secret, access_settings=settings))

    return customer


@pytest.mark.parametrize("cell", list(cells()), ids=lambda cell: cell.id)
def test_a_call_is_answered_and_billed_bucket_by_bucket(
    gateway: GatewayProcess, customer_of: Callable[[str], Customer], cell: Cell
) -> None:
    customer = customer_of(cell.provider)
    shop = customer.shop
    answer = ask(gateway, shop, cell)
    assert answer.status_code == 200, answer.text
    if cell.endpoint in FREE:
        assert len(shop.booked()) == customer.calls
        return
    customer.calls += 1
    if "mbed" not in cell.endpoint:
        assert WORDS in answer.text
    as_events = cell.streamed and cell.endpoint != endpoints.STREAM_ARRAY
    kind = "audio/mpeg" if cell.endpoint == endpoints.SPEECH else "application/json"
    assert answer.headers["content-type"].startswith("text/event-stream" if as_events else kind)
    entry = shop.entries(customer.calls)[-1]
    assert (entry.endpoint, entry.model) == (cell.endpoint, model_of(cell))
    assert (entry.basis, entry.streamed, entry.provider) == ("measured", cell.streamed, cell.provider)
    assert entry.unpacked()["usage"] == spent(cell)
    assert not [flag for flag in entry.flags if flag.startswith("schema_drift")]


def test_the_page_shows_these_cells() -> None:
    assert PAGE.read_text() == table()


def test_every_endpoint_is_served_by_somebody_and_has_a_body() -> None:
    served = {cell.endpoint for cell in cells()}
    assert served == set(endpoints.NAMES)

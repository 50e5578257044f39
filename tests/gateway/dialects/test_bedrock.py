"""Claude on Bedrock with a pair of AWS keys, from the unmodified SDKs, against a server that checks each signature over what it received."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import anthropic
import pytest
from anthropic import Anthropic
from openai import OpenAI

from gateway.providers.eventstream import encode
from tests.gateway.world import GatewayProcess, Shop, World
from workspaces.domain import sigv4

PAIR = "AKIDEXAMPLE:" + "s" * 30 + ":a-session-token"
MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
USAGE = {"input_tokens": 86, "cache_read_input_tokens": 1920, "output_tokens": 300}
WHOLE = {
    "id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello from Frankfurt"}], "usage": USAGE,
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {**WHOLE, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 2}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello from Frankfurt"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 300}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 86, "outputTokenCount": 300}},
]


class Bedrock(ThreadingHTTPServer):
    """Answers requests whose signature holds, and refuses the others as AWS does."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.fails = 0
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bedrock

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((unquote(self.path), json.loads(body)))
        if not self._signed(body):
            self._answer(
                403,
                "application/json",
                b'{"message":"The request signature we calculated does not match"}',
                "InvalidSignatureException",
            )
        elif self.server.fails:
            self._answer(
                self.server.fails,
                "application/json",
                b'{"message":"Too many requests, AKIDEXAMPLE"}',
                "ThrottlingException:x",
            )
        elif self.path.endswith("-with-response-stream"):
            head = {":message-type": "event", ":event-type": "chunk"}
            chunks = [{"bytes": base64.b64encode(json.dumps(event).encode()).decode()} for event in EVENTS]
            frames = b"".join(encode(head, json.dumps(chunk).encode()) for chunk in chunks)
            self._answer(200, "application/vnd.amazon.eventstream", frames)
        else:
            self._answer(200, "application/json", json.dumps(WHOLE).encode())

    def _signed(self, body: bytes) -> bool:
        keys = sigv4.parse(PAIR)
        assert keys is not None
        expected = sigv4.headers(
            keys, method="POST", path=self.path, body=body, region="eu-central-1", service="bedrock",
            sent={name: self.headers[name] for name in ("host", "content-type")},
            now=datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        )  # fmt: skip
        return all(self.headers[name] == value for name, value in expected.items())

    def _answer(self, status: int, content_type: str, body: bytes, kind: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-amzn-requestid", "req-1")
        if kind:
            self.send_header("x-amzn-errortype", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bedrock() -> Iterator[Bedrock]:
    server = Bedrock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shop(world: World, bedrock: Bedrock) -> Shop:
    settings: dict[str, object] = {"region": "eu-central-1"}
    return world.shop(provider="bedrock", base_url=bedrock.url, secret=PAIR, access_settings=settings)


def test_the_anthropic_sdk_whole_and_streamed_over_signed_requests(
    gateway: GatewayProcess, shop: Shop, bedrock: Bedrock
) -> None:
    asked: Any = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": "Hi"}]}
    with Anthropic(base_url=f"{gateway.url}/anthropic", auth_token=shop.key, max_retries=0, timeout=20) as client:
        whole = client.beta.messages.create(**asked, betas=["context-1m-2025-08-07"])
        assert whole.content[0].type == "text"
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
    assert (final.usage.output_tokens, final.stop_reason) == (300, "end_turn")
    (path, body), (streamed, _) = bedrock.asked
    assert (path, streamed) == (f"/model/{MODEL}/invoke", f"/model/{MODEL}/invoke-with-response-stream")
    assert (body["anthropic_version"], body["anthropic_beta"]) == ("bedrock-2023-05-31", ["context-1m-2025-08-07"])
    assert body.keys().isdisjoint(("model", "stream"))
    for entry in shop.entries(2):
        assert (entry.basis, entry.price_status) == ("measured", "exact")
        # a regional id of Bedrock's is a tenth above the list: 86 x 3.30 + 1920 x 0.33 + 300 x 16.50
        assert entry.cost_nano == 5_867_400


def test_the_openai_sdk_streamed(gateway: GatewayProcess, shop: Shop, bedrock: Bedrock) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        chunks = list(
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True)
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello from Frankfurt"
    assert bedrock.asked[0][1]["max_tokens"] > 0
    [entry] = shop.entries(1)
    assert entry.basis == "measured"


def test_an_error_of_aws_says_its_kind_and_shows_no_key(gateway: GatewayProcess, shop: Shop, bedrock: Bedrock) -> None:
    bedrock.fails = 429
    with (
        Anthropic(base_url=f"{gateway.url}/anthropic", auth_token=shop.key, max_retries=0, timeout=20) as client,
        pytest.raises(anthropic.RateLimitError) as caught,
    ):
        client.messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "Hi"}])
    assert "Too many requests" in str(caught.value)
    assert "AKIDEXAMPLE" not in str(caught.value)
    [entry] = shop.entries(1)
    assert (entry.state, entry.error) == ("void", "ThrottlingException")

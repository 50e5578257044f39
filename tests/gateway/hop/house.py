"""A gateway inside the test's own event loop, real stores behind it, and a provider that does what each call tells it to, attempt by attempt."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from billing.domain import keys as money_keys
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from billing.models import Entry
from gateway.asgi import Gateway
from gateway.hop.health import Health
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from tests.cast import Cast
from workspaces import tenancy

CHAT = "/v1/chat/completions"
SAID = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_PLAN = re.compile(r"plan:(\d+):([^\"\\]*)")


async def sync(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Synchronous work of the test, in a thread with a connection of its own."""

    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


@dataclass
class Asked:
    """One request as the provider saw it."""

    path: str
    secret: str
    attempt: str
    model: str
    outcome: str


class ScriptedProvider:
    """Speaks OpenAI's and Anthropic's chat. The last message says `plan:<number>:<outcome>,<outcome>,...`, one for each attempt of that call:
    `ok`, a status (`503`, `429`), a status with a Retry-After (`429/1`), `drop` (no answer), `silent`, `html`, `cut` (a stream that breaks)."""

    def __init__(self) -> None:
        self.asked: dict[int, list[Asked]] = defaultdict(list)
        self.base_url = ""
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        plan = _PLAN.search(json.dumps(body))
        assert plan is not None
        number, outcomes = int(plan[1]), plan[2].split(",")
        path = head.split(" ")[1]
        earlier = self.asked[number]
        outcome = outcomes[min(len(earlier), len(outcomes) - 1)]
        secret = headers.get("authorization", headers.get("x-api-key", "")).removeprefix("bearer ")
        earlier.append(Asked(path, secret, headers.get("x-sluice-attempt", ""), body.get("model", ""), outcome))
        if outcome == "silent":
            await asyncio.sleep(5)
        if outcome in ("silent", "drop"):
            return False
        if outcome == "cut":
            writer.write(_head(200, "text/event-stream", b"") + _event({"choices": [_delta("Hel")]}))
            await writer.drain()
            writer.transport.abort()
            return False
        writer.write(_response(outcome, body, path))
        return True


def _response(outcome: str, body: dict[str, Any], path: str) -> bytes:
    if outcome == "html":
        return _head(200, "text/html", b"<html>", whole=True)
    if outcome != "ok":
        status, _, after = outcome.partition("/")
        error = {"message": f"told to say {status}", "type": "server_error", "code": f"told_{status}"}
        extra = f"retry-after: {after}\r\n" if after else ""
        return _head(int(status), "application/json", json.dumps({"error": error}).encode(), extra, whole=True)
    if body.get("stream"):
        last = {"choices": [], "usage": SAID} if (body.get("stream_options") or {}).get("include_usage") else {}
        events = [{"choices": [_delta("Hello")]}, {"choices": [_delta("", "stop")]}, *([last] if last else [])]
        text = b"".join(_event({"id": "c", "model": body["model"], **event}) for event in events)
        return _head(200, "text/event-stream", text + b"data: [DONE]\n\n", whole=True)
    if path.endswith("/messages"):
        usage = {"input_tokens": 9, "output_tokens": 3}
        content = [{"type": "text", "text": "Hello"}]
        answer = {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "content": content}
        text = json.dumps({**answer, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}).encode()
        return _head(200, "application/json", text, whole=True)
    message = {"role": "assistant", "content": "Hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": SAID}
    return _head(200, "application/json", json.dumps(answer).encode(), whole=True)


def _head(status: int, content_type: str, body: bytes, extra: str = "", *, whole: bool = False) -> bytes:
    length = f"content-length: {len(body)}\r\n" if whole else ""
    return f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n{extra}{length}\r\n".encode() + body


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "created": 1, **value}).encode() + b"\n\n"


def _delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}, "finish_reason": finish}


@dataclass
class Answered:
    """What the client got."""

    number: int
    starts: int = 0
    """How many answers began: one, or none for a client that left."""
    ends: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


_NUMBERS = itertools.count(1)


@dataclass
class House:
    """Acme's application at the gateway's door."""

    cast: Cast
    gateway: Gateway
    provider: ScriptedProvider
    key: str

    async def call(
        self,
        *outcomes: str,
        model: str = "sim-small",
        stream: bool = False,
        path: str = CHAT,
        leaving: asyncio.Event | None = None,
        **headers: str,
    ) -> Answered:
        """`leaving`: the client hangs up when it is set."""
        number = next(_NUMBERS)
        content = f"plan:{number}:{','.join(outcomes)}"
        body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": content}], "stream": stream}
        return await self.send(number, path, json.dumps(body).encode(), headers, leaving)

    async def send(
        self, number: int, path: str, body: bytes, headers: dict[str, str], leaving: asyncio.Event | None = None
    ) -> Answered:
        named = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }  # fmt: skip
        got, messages = Answered(number), [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await (leaving or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                got.starts += 1
                got.status = message["status"]
                got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                got.body += message["body"]
                got.ends += not message.get("more_body", False)

        await self.gateway(scope, receive, send)
        return got

    def asked(self, answered: Answered) -> list[Asked]:
        return self.provider.asked[answered.number]

    def forget(self, clock: Callable[[], float] = time.monotonic) -> None:
        """What this process has seen of credentials; from now on by another clock, if one is given."""
        self.gateway.runtime.health = Health(clock=clock)

    async def until_asked(self, requests: int) -> None:
        """Until the provider has seen one more call, at whatever attempt."""
        while len(self.provider.asked) < requests:
            await asyncio.sleep(0.002)

    async def do(self, action: Callable[..., Any], **arguments: Any) -> Any:
        return await sync(action, workspace=self.cast.acme, by=self.cast.alice.actor, **arguments)

    async def entries(self, *answers: Answered) -> list[Entry]:
        """The lines of these calls, by attempt, once every finish has been delivered."""
        gate = self.gateway.runtime.gate
        while gate.limiter.unanswered:
            await asyncio.sleep(0.005)
        ids = [answered.headers["sluice-call-id"] for answered in answers]

        def read() -> list[Entry]:
            drain(money_stream(), money_keys.partition_of(self.cast.acme.pk))
            with tenancy.entered(self.cast.acme):
                rows = Entry.objects.filter(workspace_id=self.cast.acme.pk)
                wanted = [row for row in rows if not ids or str(row.call_id) in ids]
                return sorted(wanted, key=lambda row: (row.attempt, row.leg))

        found: list[Entry] = await sync(read)
        return found

    async def open_holds(self) -> tuple[list[str], int]:
        """Open holds and nano-dollars and calls that are still held."""

        def read() -> tuple[list[str], int]:
            counters = control.read_counters(sync_store(), self.cast.acme.pk).values()
            return control.open_holds(sync_store(), self.cast.acme.pk), sum(counter.held for counter in counters)

        found: tuple[list[str], int] = await sync(read)
        return found

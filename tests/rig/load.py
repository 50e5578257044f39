"""Bounded load: raw HTTP/1.1 calls that start together, read streams as they come, and hang up when told to.

A raw client, because the official ones retry, pool and hide what exactly came over the wire, and because a thousand of them at once
must not need more CPU than the gateway under test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools


@dataclass(frozen=True, slots=True)
class Call:
    """One request to make, and when to leave."""

    port: int
    body: bytes
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = ()
    hang_up_after_bytes: int | None = None
    """Leave once so many bytes of the answer's body came; 0: once the request is sent."""
    patience_s: float = 60.0
    label: str = ""

    def encoded(self) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            "Connection: close",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


@dataclass(slots=True)
class Answer:
    """What came back. `status` 0: nothing that is HTTP."""

    call: Call
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False
    """The answer ended as HTTP says it ends."""
    hung_up: bool = False
    error: str = ""
    started_at: float = 0.0
    """Wall clock."""
    seconds: float = 0.0
    first_byte_s: float = 0.0

    @property
    def call_id(self) -> str:
        return self.headers.get("sluice-call-id", "")

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error_object(self) -> dict[str, Any] | None:
        """The OpenAI-shaped error of a refusal, or of the event that ended a stream."""
        if not self.is_stream:
            found = self.json()
            return found.get("error") if isinstance(found, dict) else None
        for line in self.body.split(b"\n"):
            if line.startswith(b"data:") and b'"error"' in line:
                try:
                    event = json.loads(line[5:])
                except ValueError:
                    continue
                if isinstance(event, dict) and isinstance(event.get("error"), dict):
                    return dict(event["error"])
        return None

    @property
    def kind(self) -> str:
        """The answer in a few words, for counting alike ones: "200", "503 budget_store_unavailable overloaded", "hung up"."""
        if self.hung_up:
            return "hung up"
        error = self.error_object
        if error is None:
            return f"{self.status} {self.error}".strip()
        reason = (error.get("sluice") or {}).get("reason", "")  # of a budget store that can promise nothing: why
        return f"{self.status} {error.get('code') or error.get('type')} {reason}".strip()


class _Reader:
    """Feeds a response parser; keeps head and body."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._parts: list[bytes] = []
        self.size = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.answer.complete = True

    def finish(self) -> None:
        self.answer.body = b"".join(self._parts)


async def make(call: Call, ready: asyncio.Barrier | None = None) -> Answer:
    """One call. Never raises for what the network does: the answer says it. `ready`: wait for the others once connected."""
    answer = Answer(call)
    reader = _Reader(answer)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(call.patience_s):
            await _exchange(call, answer, reader, ready)
    except TimeoutError:
        answer.error = "timeout"
    except OSError as error:
        answer.error = type(error).__name__
    except httptools.HttpParserError as error:
        answer.error = f"not HTTP: {error}"
    finally:
        reader.finish()
        answer.seconds = answer.seconds or time.perf_counter() - started
    return answer


async def _exchange(call: Call, answer: Answer, reader: _Reader, ready: asyncio.Barrier | None) -> None:
    connected = False
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            incoming, writer = await asyncio.open_connection("127.0.0.1", call.port)
            connected = True
        finally:
            if ready is not None and not connected:
                await ready.wait()
        if ready is not None:
            await ready.wait()
        answer.started_at = time.time()
        started = time.perf_counter()
        writer.write(call.encoded())
        await writer.drain()
        if call.hang_up_after_bytes == 0:
            answer.hung_up = True
            return
        while not answer.complete:
            data = await incoming.read(65536)
            if not data:
                answer.error = answer.error or "closed early"
                break
            if not answer.first_byte_s:
                answer.first_byte_s = time.perf_counter() - started
            reader.parser.feed_data(data)
            if call.hang_up_after_bytes is not None and reader.size >= call.hang_up_after_bytes and not answer.complete:
                answer.hung_up = True
                break
        answer.seconds = time.perf_counter() - started
    finally:
        if writer is not None:
            writer.transport.abort() if answer.hung_up else writer.close()


async def burst(calls: Sequence[Call]) -> list[Answer]:
    """All at once: every connection is open before the first request is written."""
    ready = asyncio.Barrier(len(calls))
    return list(await asyncio.gather(*(make(call, ready) for call in calls)))


async def flow(
    calls: Iterable[Call],
    *,
    at_once: int,
    per_second: float = 0.0,
    seen: Callable[[Answer], None] | None = None,
) -> list[Answer]:
    """Call after call with at most `at_once` under way, at most `per_second` started (0: as fast as it goes)."""
    answers: list[Answer] = []
    slots = asyncio.Semaphore(at_once)
    began = time.perf_counter()

    async def one(call: Call) -> None:
        try:
            answer = await make(call)
            answers.append(answer)
            if seen is not None:
                seen(answer)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for number, call in enumerate(calls):
            await slots.acquire()
            if per_second:
                await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            group.create_task(one(call))
    return answers

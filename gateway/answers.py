"""Answers to the client: errors and whole JSON bodies as ASGI messages."""

from __future__ import annotations

import asyncio
import contextlib
import time

from billing.domain.events import CallContext
from billing.domain.money import usd_text
from gateway.attempt import Attempt
from gateway.edge import BODY, Receive, Send
from gateway.errors import GatewayError, Headers
from gateway.surfaces import OPENAI, Surface
from guardrails.admitted import Admitted

LINGER_S = 2.0
LINGER_BYTES = 64 * 1024 * 1024


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    if getattr(send, "flow", None) is not None:
        await send({"type": "http.response.start", "status": status, "headers": headers, BODY: body})
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def identity(call_id: str) -> Headers:
    """The headers that every answer of the gateway carries."""
    name = call_id.encode()
    return [(b"sluice-call-id", name), (b"x-request-id", name), (b"request-id", name)]


async def send_error(send: Send, error: GatewayError, call_id: str, surface: Surface = OPENAI) -> None:
    await send_whole(send, error.status, error.answer_headers() + identity(call_id), surface.payload(error, call_id))


async def refuse_body(
    send: Send, receive: Receive, error: GatewayError, call_id: str, surface: Surface = OPENAI
) -> None:
    """An error while the client may still be sending: answer at once, then read on for a moment and close.

    Closing with unread bytes resets the connection, and the client would see the reset instead of the answer.
    """
    payload = surface.payload(error, call_id)
    headers = [
        *error.answer_headers(),
        *identity(call_id),
        (b"connection", b"close"),
        (b"content-length", b"%d" % len(payload)),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": payload, "more_body": True})
    swallowed = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while swallowed < LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
                swallowed += len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b""})


def stream_headers(call_id: str, content_type: bytes, extra: Headers) -> Headers:
    return [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *identity(call_id),
        *extra,
    ]


def facts(admitted: Admitted, attempt: Attempt, cost_nano: int | None = None) -> Headers:
    """The Sluice-* and x-ratelimit-* headers of an answer (DESIGN section 6)."""
    overhead = attempt.sent_at - attempt.started + time.perf_counter() - attempt.first_byte_at
    shown: Headers = [(b"sluice-overhead-ms", b"%.3f" % (overhead * 1000)), *_served(admitted.context)]
    left = admitted.left_nano
    released = 0
    if cost_nano is not None:
        shown.append((b"sluice-cost", usd_text(cost_nano).encode()))
        released = admitted.hold_nano - cost_nano
    if left is not None:
        shown.append((b"sluice-budget-remaining", usd_text(max(0, left + released)).encode()))
    if admitted.clamped:
        shown.append((b"sluice-clamped", b"%d" % (admitted.output_limit or 0)))
    shown += admitted.rate_headers()
    return shown


_SERVED: dict[tuple[str, str, int], Headers] = {}
_MOST_SERVED = 4096


def _served(context: CallContext) -> Headers:
    """Who answered, and in which attempt. The same few headers for every call of a model, so they are made once."""
    name = (context.provider, context.model, context.attempt)
    known = _SERVED.get(name)
    if known is None:
        if len(_SERVED) >= _MOST_SERVED:
            _SERVED.clear()
        known = _SERVED[name] = [
            (b"sluice-provider", context.provider.encode()),
            (b"sluice-model", context.model.encode()),
            (b"sluice-attempts", b"%d" % context.attempt),
        ]
    return known

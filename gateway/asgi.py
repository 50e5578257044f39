"""The gateway's ASGI application: routes by the parsed path, turns every failure into one answer, carries no more calls than it can."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import orjson
from django.conf import settings

from gateway import edge, endpoints, model_lists, pipeline, stored
from gateway.answers import refuse_body, send_error, send_whole
from gateway.edge import FLOW, ClientGone, Flow, Message, Receive, Scope, Send
from gateway.errors import (
    EndpointNotPriced,
    GatewayError,
    NoRoom,
    TooLarge,
    TooSlow,
    Unavailable,
    UnknownRoute,
    UpgradeRequired,
)
from gateway.realtime import opening
from gateway.realtime.closing import as_answer
from gateway.runtime import Runtime, settle_memory
from gateway.surfaces import Surface, surface_of
from guardrails.domain.refusals import Refusal
from workspaces.errors import Refused as WorkspaceRefused

log = logging.getLogger(__name__)

Route = Callable[[Runtime, Scope, Receive, Send, str], Awaitable[None]]
_JSON = (b"content-type", b"application/json")


class Gateway:
    """One process's gateway. `scope["type"]` decides: lifespan starts and stops it, http is a call."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await opening.answer(self.runtime, scope, receive, send)

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None:
            self._runtime = Runtime.start()
        return self._runtime

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                _ = self.runtime
                settle_memory()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def close(self) -> None:
        """The server has closed its sockets; calls that outlast it end first, then the finishes are handed over."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.DRAIN_SECONDS):
                await runtime.idle()
        await runtime.close()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        call_id = edge.new_call_id()
        outgoing = _Outgoing(send, scope.get(FLOW))
        runtime = self._runtime or self.runtime
        if runtime.running >= runtime.max_calls and scope["method"] == "POST":
            busy = Unavailable("The gateway carries as many calls as it can.", code="overloaded", retry_after_s=1)
            await refuse_body(outgoing, receive, busy, call_id, surface_of(scope["path"]))
            return
        runtime.enter()
        try:
            endpoint = endpoints.find(scope)
            if endpoint is not None:
                if scope["method"] != "POST":
                    edge.require_method(scope, "POST")
                if endpoint.form:
                    with runtime.uploads.for_one(scope):
                        await pipeline.carry(runtime, scope, receive, outgoing, call_id, endpoint)
                else:
                    await pipeline.carry(runtime, scope, receive, outgoing, call_id, endpoint)
            else:
                await _route(scope)(runtime, scope, receive, outgoing, call_id)
        except ClientGone:
            return
        except (GatewayError, Refusal, WorkspaceRefused) as error:
            await _answer(as_answer(error), outgoing, receive, call_id, surface_of(scope["path"]))
        except Exception:  # the process edge: whatever went wrong, the client gets an answer and the log the call's id
            log.exception("call %s failed", call_id)
            failed = GatewayError("The gateway failed. The call may have been sent.")
            await _answer(failed, outgoing, receive, call_id, surface_of(scope["path"]))
        finally:
            runtime.leave()


class _Outgoing:
    """Remembers whether the answer has begun: after that there is no room for another."""

    __slots__ = ("_send", "begun", "flow")

    def __init__(self, send: Send, flow: Flow | None) -> None:
        self._send = send
        self.flow = flow
        self.begun = False

    def __call__(self, message: Message) -> Awaitable[None]:
        self.begun = True
        return self._send(message)


async def _answer(error: GatewayError, send: _Outgoing, receive: Receive, call_id: str, surface: Surface) -> None:
    if send.begun:
        log.error("call %s ended with %s after its answer had begun", call_id, error.code)
    elif isinstance(error, TooLarge | TooSlow | NoRoom):
        await refuse_body(send, receive, error, call_id, surface)
    else:
        await send_error(send, error, call_id, surface)


async def _healthz(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str) -> None:
    """The process is alive."""
    edge.require_method(scope, "GET", "HEAD")
    await send_whole(send, 200, [_JSON], b'{"status":"ok"}')


async def _readyz(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str) -> None:
    """Calls can be admitted, or 503 with the reason."""
    edge.require_method(scope, "GET", "HEAD")
    reason = await runtime.not_ready()
    if reason:
        await send_whole(
            send, 503, [_JSON, (b"retry-after", b"2")], orjson.dumps({"status": "unavailable", "reason": reason})
        )
    else:
        await send_whole(send, 200, [_JSON], b'{"status":"ready"}')


async def _unknown(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str) -> None:
    path = scope["path"][:200]
    if scope["path"] == endpoints.REALTIME:
        raise UpgradeRequired(f"{path} is a WebSocket. Nothing was forwarded.")
    if endpoints.goes_around(scope["path"]):
        raise EndpointNotPriced(
            f"{path} is not offered: such a session would run past the gateway and its budgets. Nothing was forwarded.",
            hint="Open wss://<this gateway>/v1/realtime instead. A browser offers the subprotocols 'realtime' and"
            " 'openai-insecure-api-key.<virtual key>': make it a virtual key that expires soon and has a budget of its own.",
        )
    if endpoints.is_providers_own(scope["path"]):
        raise EndpointNotPriced(f"{path} is not offered: what it costs cannot be bounded. Nothing was forwarded.")
    raise UnknownRoute(f"Unknown request URL: {scope['method']} {path}. Nothing was forwarded.")


def _route(scope: Scope) -> Route:
    """Of what is none of `gateway.endpoints`: by the parsed path and method alone; nothing unknown is ever forwarded (S25, S71)."""
    path: str = scope["path"]
    if model_lists.lists(path):
        return model_lists.answer
    known = _PROBES.get(path)
    if known is not None and scope["raw_path"] == path.encode():
        return known
    kept = stored.find(scope)
    if kept is not None:
        return partial(stored.answer, *kept)
    return _unknown


_PROBES: dict[str, Route] = {"/healthz": _healthz, "/readyz": _readyz}

application = Gateway()

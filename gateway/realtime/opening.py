"""A WebSocket that asks for `/v1/realtime`: who it is, what it may, where it goes; the first hold; then both sides are open.

Whatever is refused is refused as the HTTP answer to the handshake, like any other call's: nothing was opened and nothing was charged. A
provider that does not open its side costs nothing, so the next route of the model is tried as far as the rules allow.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qsl, quote

from django.conf import settings

from billing.domain import realtime
from billing.domain.attribution import Attribution, BadAttribution, attribute
from billing.domain.dimensions import Dimension
from gateway import edge, endpoints, routing
from gateway.edge import Receive, Request, Scope, Send
from gateway.errors import (
    BadRequest,
    GatewayError,
    InvalidKey,
    ProviderUnreachable,
    Unavailable,
    UnknownModel,
    UnknownRoute,
)
from gateway.forward import bad_credential, unanswered
from gateway.hop import rules
from gateway.hop.rules import BreakerOpen
from gateway.provider_errors import ProviderRefused
from gateway.realtime.bounds import MAX_EVENT_BYTES
from gateway.realtime.closing import as_answer
from gateway.realtime.conversation import Conversation
from gateway.realtime.holds import Party, booked
from gateway.realtime.session import Session
from gateway.routing import Route
from gateway.runtime import Runtime
from gateway.upstream import Declined, Socket, UpstreamFailure
from guardrails.domain.refusals import Refusal
from guardrails.policy import Grant
from workspaces.errors import Refused as WorkspaceRefused

log = logging.getLogger(__name__)

_BROWSER_KEY = "openai-insecure-api-key."
_PROTOCOL = "realtime"
_QUERY = frozenset({"model", "intent"})
_TRANSCRIPTION = "transcription"
_HEARS_FIRST = ("gpt-live-transcribe", "gpt-4o-transcribe", "whisper-1", "sim-hear")
"""What a transcription session that names no model is routed by, the first that the key can use. OpenAI's own clients name none in the address,
but in their first `session.update`."""
_BETA = (b"openai-beta",)


async def answer(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket, from its handshake to its end."""
    call_id = edge.new_call_id()
    await receive()
    if runtime.running >= runtime.max_calls:
        busy = Unavailable("The gateway carries as many calls as it can.", code="overloaded", retry_after_s=1)
        await _refuse(send, busy, call_id)
        return
    runtime.enter()
    try:
        session = await _open(runtime, scope, receive, send, call_id)
        if session is not None:
            await session.run()
    except (GatewayError, Refusal, WorkspaceRefused) as error:
        await _refuse(send, as_answer(error), call_id)
    except OSError:  # the client left during the handshake
        return
    except Exception:  # the process edge: the handshake gets an answer and the log the call's id
        log.exception("realtime session %s failed", call_id)
        await _refuse(send, GatewayError("The gateway failed."), call_id)
    finally:
        runtime.leave()


async def _open(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str) -> Session | None:
    """Raises GatewayError, Refusal while the client's side is not open yet."""
    if scope["path"] != endpoints.REALTIME or scope["raw_path"] != endpoints.REALTIME.encode():
        raise UnknownRoute(f"No WebSocket is offered at {scope['path'][:200]}. Nothing was forwarded.")
    request, asked, hears_only = _read(scope, call_id)
    grant = await runtime.gate.policies.recognise(request.secret)
    party, routes = await _planned(runtime, request, asked, grant, hears_only)
    talk = Conversation(realtime.window_of(party.route.rates), 0, party.route.model if hears_only else "")
    if party.bounded:
        talk.impose(party.most_output)
    first = await party.admit(talk.ahead(room=True))
    socket: Socket | None = None
    try:
        socket = await _connected(party, routes, request, hears_only)
        if party.route.credential.id != first.admitted.context.credential:  # the ledger names the one that answers
            first.attempt.void("provider_unreachable")
            await booked(first.attempt)
            first = await party.admit(first.ahead)
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": _PROTOCOL if _PROTOCOL in scope["subprotocols"] else None,
                "headers": [(b"sluice-call-id", call_id.encode()), (b"x-request-id", call_id.encode())],
            }
        )
    except BaseException:  # also cancellation
        first.attempt.void("provider_unreachable" if socket is None else "client_closed")
        if socket is not None:
            socket.abort()
        raise
    idle_s, total_s = settings.REALTIME_IDLE_S, settings.REALTIME_TOTAL_S
    return Session(party, first, socket, receive, send, idle_s, total_s, hears_only=hears_only)


def _read(scope: Scope, call_id: str) -> tuple[Request, tuple[str, ...], bool]:
    """(the request, the model, or those of which any will do; whether it only listens).

    A browser can set no headers: its key is a subprotocol, its attribution stands in the query."""
    request = edge.read_head(scope, call_id)
    request.endpoint = endpoints.REALTIME
    offered = [one.removeprefix(_BROWSER_KEY) for one in scope["subprotocols"] if one.startswith(_BROWSER_KEY)]
    if offered and (len(offered) > 1 or request.secret not in ("", offered[0])):
        raise InvalidKey("The handshake has two keys.")
    request.secret = request.secret or "".join(offered)
    asked: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        lower = name.lower()
        if lower.startswith("sluice-"):
            if lower in request.sluice:
                raise BadRequest(f"{lower} is there twice.", param=lower, code="invalid_attribution")
            request.sluice[lower] = value
        elif name not in _QUERY:
            raise BadRequest(
                f"The parameter '{name[:60]}' is not offered here.",
                param=name[:60],
                code="not_offered",
                hint="Open a conversation with ?model=..., a transcription session with ?intent=transcription. Calls cannot be joined.",
            )
        elif name in asked:
            raise BadRequest(f"The parameter '{name}' is there twice.", param=name)
        else:
            asked[name] = value
    intent = asked.get("intent", "")
    if intent not in ("", _TRANSCRIPTION):
        raise BadRequest(f"The intent '{intent[:60]}' is not offered here.", param="intent", code="not_offered")
    if intent and "model" not in asked:
        return request, _HEARS_FIRST, True
    return request, (edge.check_model(asked.get("model")),), bool(intent)


async def _planned(
    runtime: Runtime, request: Request, models: tuple[str, ...], grant: Grant, hears_only: bool
) -> tuple[Party, list[Route]]:
    """Whom it is for and where it may go, in the order of trying. A refusal from memory is only made by a policy that was just read."""
    since = runtime.gate.policies.now()
    while True:
        who = _attributed(request, grant)
        environment = who.dims.get(Dimension.ENVIRONMENT.value, "")
        try:
            asked, routes = _routed(grant, models, environment)
            break
        except GatewayError:
            if runtime.gate.policies.is_new(grant.policy, since):
                raise
            grant = await runtime.gate.policies.renew(grant)
    fits = realtime.hears if hears_only else realtime.answers
    routes = [route for route in routes if route.rates is None or fits(route.rates)]
    if not routes:
        raise UnknownModel(
            f"The model '{asked}' is {'no transcription model' if hears_only else 'billed by the length of a session, or transcribes'}.",
            param="model",
            code="model_not_on_endpoint",
            hint="Conversations take a realtime model (?model=gpt-realtime), ?intent=transcription one that transcribes.",
        )
    return Party(runtime, grant, who, asked, routes[0]), routes


def _routed(grant: Grant, models: tuple[str, ...], environment: str) -> tuple[str, list[Route]]:
    """The first of the models that this key can use, and its routes. Raises the refusal of the first."""
    refused: GatewayError | None = None
    for model in models:
        try:
            now_s = int(time.time())
            return model, routing.every(grant, model, environment, grant.policy.book, now_s, endpoints.REALTIME)
        except GatewayError as error:
            refused = refused or error
    raise refused or UnknownModel("No model was named.", param="model")


def _attributed(request: Request, grant: Grant) -> Attribution:
    """As of a call; the responses of one session have it in common."""
    try:
        who = attribute(grant.key.pins, grant.key.may_override, request.sluice, {})
    except BadAttribution as error:
        raise BadRequest(
            f"The attribution of this call cannot be accepted: {error}.", code="invalid_attribution", param=error.source
        ) from None
    session = Dimension.SESSION.value
    return who if session in who.dims else Attribution({**who.dims, session: request.call_id}, who.tags)


async def _connected(party: Party, routes: list[Route], request: Request, hears_only: bool) -> Socket:
    """The provider's side, by the first route that opens. Only credentials of the same model are tried: the hold is for that."""
    told: GatewayError | None = None
    health, policy = party.runtime.health, party.grant.policy
    same = [route for route in routes if (route.provider, route.model) == (party.route.provider, party.route.model)]
    for route in same:
        if health.troubled and not health.enter(route):
            told = told or BreakerOpen(f"{route.provider.name} has failed too often just now.", retry_after_s=5)
            continue
        try:
            socket = await _connect(party.runtime, party.grant, route, request, hears_only)
        except GatewayError as error:
            condition = rules.condition_of(error)
            if condition is not None or isinstance(error, ProviderRefused):
                health.failed(policy, route, condition, status=error.status, retry_after_s=error.retry_after_s or 0)
            told = told or error
            if condition is None:
                break
            continue
        if health.troubled or route.credential.rejected:
            health.answered(policy, route)
        party.route = route
        return socket
    raise told or UnknownModel(f"The model '{party.asked}' has no route.", param="model")


async def _connect(runtime: Runtime, grant: Grant, route: Route, request: Request, hears_only: bool) -> Socket:
    provider, credential = route.provider, route.credential
    secret = await runtime.gate.policies.secret(grant.policy, credential)
    if provider.name == "azure" and credential.settings.get("api_version"):
        raise ProviderUnreachable(
            "Realtime needs Azure's v1 API.", code="bad_credential", hint="Take the API version out of the credential."
        )
    origin, prefix = routing.target(route)
    model = provider.wire_model(route.model, credential.settings)
    target = f"{prefix}/realtime?" + (f"intent={_TRANSCRIPTION}" if hears_only else f"model={quote(model, safe='')}")
    headers = [*provider.access.headers(secret).items(), ("User-Agent", "sluice")]
    headers += [(name.decode(), value.decode("latin-1")) for name, value in request.forwarded if name in _BETA]
    if any(not (value.isascii() and value.isprintable()) for _, value in headers):
        raise bad_credential(provider.name)
    within_s = runtime.forwarder.limits_of(route).connect_s
    try:
        return await runtime.door.open_socket(origin, target, headers, within_s, MAX_EVENT_BYTES)
    except Declined as declined:
        raise ProviderRefused(declined.status, provider.name, declined, declined.body, secret) from declined
    except UpstreamFailure as failure:
        raise unanswered(failure, provider.name) from failure


async def _refuse(send: Send, error: GatewayError, call_id: str) -> None:
    """The HTTP answer to a handshake."""
    body = error.payload(call_id)
    headers: list[tuple[bytes, bytes]] = [
        *error.answer_headers(),
        (b"sluice-call-id", call_id.encode()),
        (b"x-request-id", call_id.encode()),
        (b"content-length", b"%d" % len(body)),
    ]
    start: dict[str, Any] = {"type": "websocket.http.response.start", "status": error.status, "headers": headers}
    try:
        await send(start)
        await send({"type": "websocket.http.response.body", "body": body})
    except (OSError, RuntimeError):  # it has left, or its side is open already
        return

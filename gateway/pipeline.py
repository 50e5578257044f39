"""The life of a call, on one page (DESIGN, "The life of a call"). Read this first; each step is one module.

1 edge         HTTP request -> Call                              400 408 413 415 431
2 policy       virtual key -> Grant (key and compiled policy)    401 503
3 attribution  key, headers, body -> dimensions and tags         400
4 routing      model or alias -> provider, credential, rates     403 404
5 quote        the worst case in money                           400
6 admission    rates, budgets, policy version: one round trip    402 403 429 503
7 forward      the one door to the provider                      502 504
8 metering     as bytes pass (providers/)
9 settlement   exactly once, whatever happens (attempt)

While the client has not got a byte, a failed attempt may be followed by another one, with a hold of its own (hop/).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from functools import partial

from gateway import crash, edge, follow, free, uploads
from gateway.admitting import admit_first, admit_next
from gateway.answers import facts, identity, send_whole, stream_headers
from gateway.attempt import Attempt, Settlement
from gateway.edge import Receive, Scope, Send
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError, ProviderBadResponse
from gateway.forward import failed
from gateway.hop.onward import onward
from gateway.hop.trip import Trip, breaker_open
from gateway.planning import Planned
from gateway.provider_errors import refusal, safe_headers
from gateway.providers.dialect import StreamMeter, may_be_whole, meter_of
from gateway.routing import Route
from gateway.runtime import Runtime
from gateway.streaming import Relay
from gateway.surfaces import surface_of
from gateway.upstream import Answer, UpstreamFailure
from guardrails.admitted import Admitted
from guardrails.domain.refusals import Refusal
from workspaces.errors import Refused as WorkspaceRefused

MAX_ANSWER_BYTES = 64 * 1024 * 1024


async def carry(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str, endpoint: Endpoint) -> None:
    """One call to one of `gateway.endpoints`. Raises GatewayError or a guardrails Refusal while no answer has begun."""
    request = edge.read_head(scope, call_id)
    request.endpoint = endpoint.name
    grant = await runtime.gate.policies.recognise(request.secret)
    room = runtime.uploads if endpoint.form else None
    body = uploads.at_hand(request, scope, largest=runtime.max_body_bytes) if room is None else None
    if body is None:
        body = await uploads.read(request, scope, receive, largest=runtime.max_body_bytes, room=room)
    call = endpoint.read(request, body)
    if endpoint.free:
        await free.answer(runtime, call, grant, send)
        return
    if endpoint.name in follow.GO_ON:
        call.credential = await follow.credential_of(runtime, grant, call)
    planned, admitted = await admit_first(runtime, call, grant)
    trip: Trip | None = None
    while True:
        attempt = Attempt(planned.terms(admitted), request.started, partial(_carry, runtime, admitted))
        try:
            await _forward(runtime, planned, admitted, attempt, receive, send, trip)
            return
        except GatewayError as error:  # only raised while the client has not got a byte
            attempt.close("gateway_failed")
            trip = await onward(runtime, trip, planned, admitted.grant, attempt, error, scope, receive)
        except (Refusal, WorkspaceRefused) as refused:  # the vault does not open
            raise refused if trip is None else trip.told(refused) from refused
        finally:
            attempt.close("gateway_failed")
        planned, admitted = await admit_next(runtime, call, admitted.grant, trip)


async def _forward(
    runtime: Runtime,
    planned: Planned,
    admitted: Admitted,
    attempt: Attempt,
    receive: Receive,
    send: Send,
    trip: Trip | None,
) -> None:
    route, health = planned.route, runtime.health
    if health.troubled and not health.enter(route):
        attempt.void("breaker_open")
        raise breaker_open(route, health.wait_s(route))
    secret = await runtime.gate.policies.secret(admitted.grant.policy, route.credential)
    within_s = None if trip is None else trip.within_s
    answer = await runtime.forwarder.send(planned, admitted, secret, attempt, within_s)
    try:
        if answer.status != 200:
            await _refused(answer, route, secret, attempt)
        elif (meter := _meter(planned, attempt, answer)) is not None:
            await _stream(runtime, planned, admitted, attempt, answer, meter, receive, send)
        else:
            await _whole(runtime, planned, admitted, attempt, answer, send)
    except UpstreamFailure as failure:
        raise failed(failure, route.provider.name, attempt) from failure
    finally:
        answer.abort()  # as `async with` would, for two coroutines less


async def _refused(answer: Answer, route: Route, secret: str, attempt: Attempt) -> None:
    error = await refusal(answer, route.provider.name, secret)
    if 200 <= answer.status < 300 or (answer.status >= 400 and route.provider.bills_errors):
        attempt.assume(error.code, answer.status)
    else:
        attempt.void(error.code, answer.status)
    raise error


def _meter(planned: Planned, attempt: Attempt, answer: Answer) -> StreamMeter | None:
    """Who reads along while the answer passes; None for one that is read whole."""
    call, dialect = planned.call, planned.sent.dialect
    meter = meter_of(dialect, call.fields, answer.get(b"content-type") or b"", streamed=call.streamed)
    if meter is None and call.streamed and not may_be_whole(dialect):
        raise _no_answer(planned, attempt)
    return meter


async def _stream(
    runtime: Runtime,
    planned: Planned,
    admitted: Admitted,
    attempt: Attempt,
    answer: Answer,
    meter: StreamMeter,
    receive: Receive,
    send: Send,
) -> None:
    call = planned.call
    relay = Relay(call.id, answer, meter, attempt, runtime.drains, send, receive, surface_of(call.request.path))
    first = await relay.first()
    attempt.first_byte_at = time.perf_counter()
    if not first:
        raise _no_answer(planned, attempt)
    if runtime.health.troubled or planned.route.credential.rejected:
        runtime.health.answered(admitted.grant.policy, planned.route)
    await relay.run(
        first, stream_headers(call.id, meter.content_type, [*safe_headers(answer), *facts(admitted, attempt)])
    )
    follow.note(runtime, planned, meter.reading)


async def _whole(
    runtime: Runtime, planned: Planned, admitted: Admitted, attempt: Attempt, answer: Answer, send: Send
) -> None:
    body = await answer.read(MAX_ANSWER_BYTES)
    attempt.first_byte_at = time.perf_counter()
    content_type = (answer.get(b"content-type") or b"").decode("latin-1")
    heed = getattr(planned.sent.dialect, "with_headers", None)  # what some providers state beside their answers
    if heed is not None:
        body = heed(body, answer.get)
    reading = planned.sent.dialect.read_whole(body, content_type)
    if crash.ARMED:
        crash.point("after_last_byte")
    if reading is None:
        raise _no_answer(planned, attempt)
    follow.note(runtime, planned, reading)
    cost = None
    if not planned.call.later or not await follow.begins(runtime, planned, admitted, attempt, reading):
        cost = attempt.settle(reading)
    if runtime.health.troubled or planned.route.credential.rejected:
        runtime.health.answered(admitted.grant.policy, planned.route)
    if crash.ARMED:
        crash.point("after_finish")
    shown = facts(admitted, attempt, cost)
    await send_whole(
        send,
        200,
        [(b"content-type", content_type.encode()), *identity(planned.call.id), *safe_headers(answer), *shown],
        planned.sent.dialect.for_client(body, planned.call.fields),
    )


def _no_answer(planned: Planned, attempt: Attempt) -> ProviderBadResponse:
    """The provider said 200 and then nothing that is an answer (F8). Its body is not shown; what it cost is not known."""
    attempt.assume("provider_bad_response", 200)
    name = planned.route.provider.name
    return ProviderBadResponse(
        f"{name} answered with something that is not an answer of its API.", facts={"provider": name}
    )


def _carry(runtime: Runtime, admitted: Admitted, settlement: Settlement) -> Awaitable[str]:
    if settlement.void:
        return runtime.gate.admission.void(admitted, settlement.outcome)
    return runtime.gate.admission.settle(admitted, settlement.cost_nano, settlement.tokens, settlement.outcome)

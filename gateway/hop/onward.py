"""Between two attempts of a call: the failure is told to whom it concerns, the hold is given back, the pause is kept."""

from __future__ import annotations

import asyncio
import random
import time

from gateway.attempt import Attempt, State
from gateway.edge import ClientGone, Receive, Scope
from gateway.errors import GatewayError
from gateway.hop import rules
from gateway.hop.trip import Trip
from gateway.planning import Planned
from gateway.provider_errors import ProviderRefused
from gateway.runtime import Runtime
from guardrails.policy import Grant
from workspaces.domain.routes import Condition

BOOKED_WITHIN_S = 2.0
"""A budget store that does not take the end of an attempt by then gets no other one to hold."""


async def onward(
    runtime: Runtime,
    trip: Trip | None,
    planned: Planned,
    grant: Grant,
    attempt: Attempt,
    error: GatewayError,
    scope: Scope,
    receive: Receive,
) -> Trip:
    """After a failed attempt that has ended: the trip with its next route. Raises the error to tell the client, or ClientGone.

    Returns when the attempt's end is booked, so that its hold does not stand in the way of the next one.
    """
    route = planned.route
    condition = rules.condition_of(error)
    if condition is not Condition.BREAKER_OPEN and (condition or isinstance(error, ProviderRefused)):
        after = error.retry_after_s or 0
        runtime.health.failed(grant.policy, route, condition, status=error.status, retry_after_s=after)
    if trip is None:
        if condition is None:
            error.headers.append((b"sluice-attempts", b"1"))
            raise error
        trip = Trip(
            planned.call,
            grant,
            planned.environment,
            planned.call.request.started + runtime.forwarder.limits_of(route).total_s,
            client_repeats=_repeats(scope),
        )
    trip.note(route, error, condition, billed=attempt.state is not State.VOIDED, at=time.perf_counter())
    wait_s = trip.onward(grant, runtime.health, random.random())
    if attempt.finished is not None:
        try:
            async with asyncio.timeout(BOOKED_WITHIN_S):
                await asyncio.shield(attempt.finished)
        except TimeoutError:
            raise trip.told() from None
    await _pause(wait_s, receive)
    return trip


async def _pause(wait_s: float, receive: Receive) -> None:
    """Waits, but not for a client that has left: nobody would read what the next attempt costs."""
    try:
        async with asyncio.timeout(wait_s):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
    raise ClientGone


def _repeats(scope: Scope) -> bool:
    """Whether the client's library says that it is repeating this request (the SDKs of OpenAI and Anthropic do)."""
    for name, value in scope["headers"]:
        if name == b"x-stainless-retry-count":
            return bool(value.strip() not in (b"", b"0"))
    return False

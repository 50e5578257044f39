"""What providers store on the way of a call: where it goes on from, and what it makes. Responses (`gateway.stored` reads them again) and
Anthropic's threads (docs/adr/0011)."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway import endpoints
from gateway.afterwards import PENDING, response_thing
from gateway.attempt import Attempt
from gateway.edge import Call
from gateway.errors import ThreadNotFound, ThreadUnsupported
from gateway.keeping import FLUSH_S, KeptThing
from gateway.models import KeptKind
from gateway.planning import Planned
from gateway.providers.dialect import Reading
from gateway.routing import Route
from gateway.runtime import Runtime
from guardrails.admitted import Admitted
from guardrails.domain.refusals import Refusal
from guardrails.policy import Grant
from guardrails.threads import DATABASE_AWAY

MAX_ID_CHARS = 128
GO_ON = frozenset({endpoints.RESPONSES, endpoints.MESSAGES})
"""Endpoints whose calls may go on from what a provider keeps."""
KEEP_THREADS = frozenset({"anthropic", "simulator"})
TIGHT = frozenset({"budget_exceeded", "daily_hard_stop", "model_not_priced"})


async def credential_of(runtime: Runtime, grant: Grant, call: Call) -> str:
    """The credential that keeps what a call goes on from; empty where it goes on from nothing that we know. Raises ThreadNotFound."""
    endpoint = call.request.endpoint
    if endpoint == endpoints.MESSAGES:
        return await _keeper_of_thread(runtime, grant, call.thread) if call.thread else ""
    before = call.fields.get("previous_response_id")
    if endpoint != endpoints.RESPONSES or type(before) is not str or not 0 < len(before) <= MAX_ID_CHARS:
        return ""
    try:
        found = await runtime.keeper.find(grant.policy, KeptKind.RESPONSE, before)
    except DATABASE_AWAY:
        return ""
    return found.credential_id if found is not None else ""


async def _keeper_of_thread(runtime: Runtime, grant: Grant, thread: dict[str, Any]) -> str:
    """Of a thread that goes on: only from an answer that this workspace has had. Looks again, because an id is written a moment after its answer."""
    if "previous_message_id" not in thread:
        return ""
    before = thread["previous_message_id"]
    if type(before) is str and 0 < len(before) <= MAX_ID_CHARS:
        for wait_s in (2 * FLUSH_S, 4 * FLUSH_S, 0.0):
            try:
                found = await runtime.keeper.find(grant.policy, KeptKind.THREAD, before)
            except DATABASE_AWAY:
                break
            if found is not None:
                return found.credential_id
            await asyncio.sleep(wait_s)
    raise ThreadNotFound("No thread with this message was begun through this workspace.", param="thread")


def check_thread(call: Call, route: Route) -> None:
    """Raises ThreadUnsupported where the provider that a call goes to keeps no threads."""
    if call.thread and route.provider.name not in KEEP_THREADS:
        raise ThreadUnsupported(f"{route.provider.name} keeps no threads.", param="thread")


def without_thread(call: Call, refused: Refusal) -> Exception:
    """What to tell a thread whose unseen part does not fit a budget: sent whole, its conversation has a bound of its own."""
    if call.thread and "previous_message_id" in call.thread and refused.code in TIGHT:
        return ThreadUnsupported(
            "What lies in a thread is not seen here, so that its call is held at the model's whole context window, and a "
            f"budget has no room for that. {refused.message}",
            param="thread",
            facts={"because": refused.code, **refused.facts},
        )
    return refused


def note(runtime: Runtime, planned: Planned, reading: Reading) -> None:
    """An answer that the provider stores can be asked for again, or gone on from, by this workspace."""
    call = planned.call
    endpoint = call.request.endpoint
    if endpoint not in GO_ON:
        return
    if endpoint == endpoints.MESSAGES:
        kind = KeptKind.THREAD if call.thread else None
    else:
        stores = (
            endpoint == endpoints.RESPONSES and not planned.sent.translated and call.fields.get("store") is not False
        )
        kind = KeptKind.RESPONSE if stores else None
    if kind is None:
        return
    made = reading.said.get("id")
    if type(made) is str and 0 < len(made) <= MAX_ID_CHARS:
        policy, route = planned.grant.policy, planned.route
        thing = KeptThing(policy.workspace_id, kind.value, made, route.credential.id, route.provider.name)
        runtime.keeper.keep_soon(policy, thing)


async def begins(runtime: Runtime, planned: Planned, admitted: Admitted, attempt: Attempt, reading: Reading) -> bool:
    """Whether the provider goes on working on a response that was asked for `later`. Its hold then waits for whoever reads the answer."""
    made = reading.said.get("id")
    if reading.said.get("status") not in PENDING or type(made) is not str:
        return False
    thing = response_thing(admitted, attempt, made[:MAX_ID_CHARS])
    await runtime.keeper.keep(admitted.grant.policy, thing)
    runtime.gate.limiter.entrust(admitted.rid)
    attempt.entrust()
    return True

"""Stored responses on the way of a call: where one goes on from, and which one it makes (`gateway.stored` reads them again)."""

from __future__ import annotations

from gateway import endpoints
from gateway.afterwards import PENDING, response_thing
from gateway.attempt import Attempt
from gateway.edge import Call
from gateway.keeping import KeptThing
from gateway.models import KeptKind
from gateway.planning import Planned
from gateway.providers.dialect import Reading
from gateway.runtime import Runtime
from guardrails.admitted import Admitted
from guardrails.policy import Grant
from guardrails.threads import DATABASE_AWAY

MAX_ID_CHARS = 128


async def credential_of(runtime: Runtime, grant: Grant, call: Call) -> str:
    """The credential that keeps what a call to `RESPONSES` goes on from; empty where it goes on from nothing that we know."""
    before = call.fields.get("previous_response_id")
    if type(before) is not str or not 0 < len(before) <= MAX_ID_CHARS:
        return ""
    try:
        found = await runtime.keeper.find(grant.policy, KeptKind.RESPONSE, before)
    except DATABASE_AWAY:
        return ""
    return found.credential_id if found is not None else ""


def note(runtime: Runtime, planned: Planned, reading: Reading) -> None:
    """A response that the provider stores can be asked for again, by this workspace."""
    call = planned.call
    if call.request.endpoint != endpoints.RESPONSES or planned.sent.translated or call.fields.get("store") is False:
        return
    made = reading.said.get("id")
    if type(made) is str and 0 < len(made) <= MAX_ID_CHARS:
        policy, route = planned.grant.policy, planned.route
        thing = KeptThing(policy.workspace_id, KeptKind.RESPONSE.value, made, route.credential.id, route.provider.name)
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

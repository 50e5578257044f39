"""Steps 3 to 6 of a call: planned and admitted, or refused. Again and again while the policy it was planned under turns out to be old."""

from __future__ import annotations

from gateway import crash
from gateway.afterwards import RESPONSE_LEASE_MS
from gateway.edge import Call
from gateway.errors import BadRequest, NotAllowed, UnknownModel
from gateway.follow import check_thread, without_thread
from gateway.hop.rules import BreakerOpen
from gateway.hop.trip import Trip
from gateway.planning import Planned, plan, plan_next
from gateway.runtime import Runtime
from guardrails.admitted import Admitted
from guardrails.domain.refusals import Refusal
from guardrails.policy import Grant, PolicyChanged


async def admit_first(runtime: Runtime, call: Call, grant: Grant) -> tuple[Planned, Admitted]:
    """The first attempt of a call. Raises GatewayError, Refusal."""
    since = runtime.gate.policies.now()
    while True:
        try:
            planned = plan(call, grant, grant.policy.book, runtime.health)
            if call.thread:
                check_thread(call, planned.route)
        except (
            BreakerOpen,
            NotAllowed,
            UnknownModel,
        ):  # a refusal from memory is only made by a policy that was just read
            if runtime.gate.policies.is_new(grant.policy, since):
                raise
            grant = await runtime.gate.policies.renew(grant)
            continue
        try:
            return planned, await _admit(runtime, planned, grant)
        except PolicyChanged as changed:  # nothing was held: the credential or the allowed models may have changed
            grant = changed.grant
        except Refusal as refused:
            raise without_thread(call, refused) from refused


async def admit_next(runtime: Runtime, call: Call, grant: Grant, trip: Trip) -> tuple[Planned, Admitted]:
    """A further attempt on the route that the trip chose. A refusal leaves the client with the error it had, and says why."""
    while True:
        try:
            planned = plan_next(call, grant, grant.policy.book, trip.moved(grant), trip.number)
            if call.thread:
                check_thread(call, planned.route)
            return planned, await _admit(runtime, planned, grant)
        except PolicyChanged as changed:
            grant = changed.grant
        except Refusal as refused:
            raise trip.told(refused) from refused
        except BadRequest as refused:
            raise trip.told(refused) from refused


async def _admit(runtime: Runtime, planned: Planned, grant: Grant) -> Admitted:
    """Raises PolicyChanged when key, credentials, routes or prices are not those it was planned under."""
    if crash.ARMED:
        crash.point("before_admit")
    admitted = await runtime.gate.admission.admit(
        grant,
        planned.dimensions(),
        planned.who.tags,
        planned.quote,
        planned.context,
        exact=planned.exact_quote,
        lease_ms=RESPONSE_LEASE_MS if planned.call.later else None,
    )
    if crash.ARMED:
        crash.point("after_admit")
    return admitted

"""Calls that cost nothing: token counts and moderations. The key and the rate limits are checked, the provider asked; nothing is held, nothing is
booked."""

from __future__ import annotations

from gateway.answers import identity, send_whole
from gateway.edge import Call, Send
from gateway.errors import NotAllowed, ProviderBadResponse, UnknownModel
from gateway.forward import unanswered
from gateway.planning import PlannedFree, plan_free
from gateway.provider_errors import refusal, safe_headers
from gateway.runtime import Runtime
from gateway.upstream import UpstreamFailure
from guardrails.policy import Grant

MAX_ANSWER_BYTES = 4 * 1024 * 1024


async def answer(runtime: Runtime, call: Call, grant: Grant, send: Send) -> None:
    planned, grant, rates = await _admit(runtime, call, grant)
    route = planned.route
    name = route.provider.name
    secret = await runtime.gate.policies.secret(grant.policy, route.credential)
    async with await runtime.forwarder.ask(call, route, planned.sent, grant.policy.ver, secret) as answered:
        try:
            if answered.status != 200:
                raise await refusal(answered, name, secret)
            body = await answered.read(MAX_ANSWER_BYTES)
        except UpstreamFailure as failure:
            raise unanswered(failure, name) from failure
        content_type = answered.get(b"content-type") or b""
        if b"json" not in content_type:
            raise ProviderBadResponse(
                f"{name} answered with something that is not an answer of its API.",
                facts={"provider": name},
                hint="Nothing was charged; the call can be repeated.",
            )
        headers = [(b"content-type", content_type), *identity(call.id), *safe_headers(answered), *rates]
        await send_whole(send, 200, headers, body)


async def _admit(runtime: Runtime, call: Call, grant: Grant) -> tuple[PlannedFree, Grant, list[tuple[bytes, bytes]]]:
    """Planned under the newest policy and within its rate limits; and what is left of those, as headers."""
    since = runtime.gate.policies.now()
    while True:
        try:
            planned = plan_free(call, grant, grant.policy.book)
        except (NotAllowed, UnknownModel):  # a refusal from memory is only made by a policy that was just read
            if runtime.gate.policies.is_new(grant.policy, since):
                raise
            grant = await runtime.gate.policies.renew(grant)
            continue
        newest, left = await runtime.gate.free_calls.admit(grant, planned.dims, planned.tags)
        if newest.policy is not grant.policy:  # the credential or the allowed models may have changed
            planned = plan_free(call, newest, newest.policy.book)
        return planned, newest, left

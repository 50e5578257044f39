"""Calls that cost nothing: token counts and moderations. The key is checked, the provider asked; nothing is held, nothing is booked."""

from __future__ import annotations

from gateway.answers import identity, send_whole
from gateway.edge import Call, Send
from gateway.errors import ProviderBadResponse
from gateway.forward import unanswered
from gateway.planning import plan_free
from gateway.provider_errors import refusal, safe_headers
from gateway.runtime import Runtime
from gateway.upstream import UpstreamFailure
from guardrails.policy import Grant

MAX_ANSWER_BYTES = 4 * 1024 * 1024


async def answer(runtime: Runtime, call: Call, grant: Grant, send: Send) -> None:
    route, sent = plan_free(call, grant, grant.policy.book)
    name = route.provider.name
    secret = await runtime.gate.policies.secret(grant.policy, route.credential)
    async with await runtime.forwarder.ask(call, route, sent, grant.policy.ver, secret) as answered:
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
        headers = [(b"content-type", content_type), *identity(call.id), *safe_headers(answered)]
        await send_whole(send, 200, headers, body)

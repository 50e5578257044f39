"""Sending one attempt to its provider: the head from an allow-list, the body edited where it must be, failures told apart by what was sent."""

from __future__ import annotations

from collections import OrderedDict

from billing.domain.quote import limit_field
from gateway import crash, routing
from gateway.attempt import Attempt
from gateway.edge import Call
from gateway.errors import ProviderBadResponse, ProviderTimeout, ProviderUnreachable
from gateway.providers.dialect import Wanted
from gateway.routing import Route
from gateway.upstream import Answer, Door, Limits, NotSent, Origin, Silent, UpstreamFailure
from guardrails.admission import Admitted
from guardrails.domain.budgets import Unit

MAX_HEADS = 4096


class Forwarder:
    """Sends attempts through the door. Keeps the constant part of the request head of each credential, secret included, as long as its policy."""

    def __init__(self, door: Door, limits: Limits) -> None:
        self._door = door
        self._limits = limits
        self._heads: OrderedDict[tuple[str, int, str, bool, str], tuple[Origin, bytes]] = OrderedDict()

    async def send(self, call: Call, route: Route, admitted: Admitted, secret: str, attempt: Attempt) -> Answer:
        """The provider's answer, of whatever status. Raises GatewayError; the attempt is then finished."""
        try:
            origin, constant = self._head(call, route, admitted, secret)
        except ProviderUnreachable as refused:
            attempt.void(refused.code)
            raise
        body = _body(call, route, admitted)
        head = [constant]
        head += [name + b": " + value + b"\r\n" for name, value in call.request.forwarded]
        if route.provider.sends_attempt:
            head.append(b"x-sluice-attempt: " + admitted.rid.encode() + b"\r\n")
        head.append(b"content-length: %d\r\n\r\n" % len(body))
        attempt.sending()
        try:
            answer = await self._door.exchange(origin, b"".join(head), body, self._limits)
        except UpstreamFailure as failure:
            raise failed(failure, route.provider.name, attempt) from failure
        attempt.request_id = (answer.get(b"x-request-id") or b"").decode("latin-1")[:128]
        crash.point("after_headers_sent")
        return answer

    def _head(self, call: Call, route: Route, admitted: Admitted, secret: str) -> tuple[Origin, bytes]:
        name = (route.credential.id, admitted.grant.policy.ver, call.request.endpoint, call.streamed, secret)
        known = self._heads.get(name)
        if known is not None:
            return known
        origin, prefix = routing.target(route)
        fields = {
            "host": origin.host_header,
            **route.provider.access.headers(secret),
            "content-type": "application/json",
            "accept": "text/event-stream" if call.streamed else "application/json",
            "accept-encoding": "identity",
            "user-agent": "sluice",
        }
        path = prefix + route.provider.dialect.path(call.request.endpoint)
        text = f"POST {path} HTTP/1.1\r\n" + "".join(f"{field}: {value}\r\n" for field, value in fields.items())
        if text.count("\r") != len(fields) + 1 or text.count("\n") != len(fields) + 1 or not text.isascii():
            raise ProviderUnreachable(
                f"The credential for {route.provider.name} has characters that no key has.",
                code="bad_credential",
                hint="An administrator should paste the provider key again.",
            )
        self._heads[name] = origin, text.encode()
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)
        return self._heads[name]


def failed(
    failure: UpstreamFailure, provider: str, attempt: Attempt
) -> ProviderUnreachable | ProviderTimeout | ProviderBadResponse:
    """Finishes the attempt by what the failure means for money, and says what to tell the client."""
    facts = {"provider": provider}
    if isinstance(failure, NotSent):
        attempt.void("provider_unreachable")
        return ProviderUnreachable(f"{provider} could not be reached: {failure}.", facts=facts)
    if isinstance(failure, Silent):
        attempt.assume("provider_timeout")
        return ProviderTimeout(f"{provider} was asked but did not answer in time.", facts=facts)
    attempt.assume("provider_bad_response")
    return ProviderBadResponse(f"{provider} was asked but its answer broke off or could not be read.", facts=facts)


def _body(call: Call, route: Route, admitted: Admitted) -> bytes:
    """The client's bytes, edited where the provider must be told something else."""
    wanted = Wanted(
        model=route.model if route.model != call.model else None,
        output_limit=_limit(admitted),
        report_usage=call.streamed and route.provider.stream_usage_option,
    )
    field = limit_field(route.provider.name, call.request.endpoint, route.model) or ("max_tokens",)
    return route.provider.dialect.body(call.body, call.fields, wanted, field[0])


def _limit(admitted: Admitted) -> int | None:
    """The output limit to set: where one was lowered or defaulted, and always under a hard budget, because the hold relies on it."""
    quote, limit = admitted.quote, admitted.output_limit
    if limit is None or limit == quote.client_limit:
        return None
    if admitted.clamped or quote.output_limit_source in ("client", "default"):
        return limit
    relied_on = any(budget.hard and budget.unit is not Unit.CALLS for budget in admitted.budgets)
    return limit if relied_on else None

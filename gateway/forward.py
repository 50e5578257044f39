"""Sending one attempt to its provider: the head from an allow-list, the body edited where it must be, failures told apart by what was sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from billing.domain.quote import limit_field
from gateway import crash, routing
from gateway.attempt import Attempt
from gateway.edge import Call
from gateway.errors import ProviderBadResponse, ProviderTimeout, ProviderUnreachable
from gateway.planning import Planned, Sent
from gateway.providers.clouds import ClaudeOnBedrock, with_betas
from gateway.providers.dialect import Dialect, Wanted
from gateway.routing import Route
from gateway.signing import Signer
from gateway.upstream import Answer, Door, Limits, NotSent, Origin, Silent, UpstreamFailure
from guardrails.admitted import Admitted
from workspaces.domain.providers import Auth

MAX_HEADS = 4096


class Forwarder:
    """Sends attempts through the door. Keeps the constant part of the request head of each credential, secret included, as long as its policy."""

    def __init__(self, door: Door, limits: Limits) -> None:
        self._door = door
        self._limits = limits
        self._own_limits: OrderedDict[tuple[str, tuple[tuple[str, float], ...]], Limits] = OrderedDict()
        self._signer = Signer(door)
        self._heads: OrderedDict[tuple[str, int, str, str, Dialect, bool, str], tuple[Origin, bytes, str]] = (
            OrderedDict()
        )

    def limits_of(self, route: Route) -> Limits:
        """The time limits of a route: the credential's own, else its provider's, else the gateway's."""
        own, providers = route.credential.timeouts, route.provider.timeouts
        if not own and not providers:
            return self._limits
        name = (route.provider.name, own)
        known = self._own_limits.get(name)
        if known is None:
            known = self._own_limits[name] = replace(self._limits, **{**dict(providers), **dict(own)})
            if len(self._own_limits) > MAX_HEADS:
                self._own_limits.popitem(last=False)
        return known

    async def send(
        self, planned: Planned, admitted: Admitted, secret: str, attempt: Attempt, within_s: float | None = None
    ) -> Answer:
        """The provider's answer, of whatever status. Raises GatewayError; the attempt is then finished.

        `within_s`: what a further attempt has left of the call's total limit.
        """
        call, route, sent = planned.call, planned.route, planned.sent
        body = _body(planned, admitted)
        try:
            origin, constant, target = self._head(route, sent, call.streamed, admitted.grant.policy.ver, secret)
            signed = b""
            if route.provider.access.auth is not Auth.HEADER:
                signed = await self._signed(route, secret, origin, target, body)
        except ProviderUnreachable as refused:
            attempt.void(refused.code)
            raise
        own = b"".join(_forwarded(call, sent)) if call.request.forwarded else b""
        if route.provider.sends_attempt:
            own += b"x-sluice-attempt: " + admitted.rid.encode() + b"\r\n"
        head = b"%bcontent-type: %b\r\n%b%bcontent-length: %d\r\n\r\n" % (
            constant,
            call.request.content_type,
            signed,
            own,
            len(body),
        )
        limits = self.limits_of(route)
        if within_s is not None:
            limits = replace(limits, total_s=min(limits.total_s, within_s))
        attempt.sending()
        try:
            answer = await self._door.exchange(origin, head, body, limits)
        except UpstreamFailure as failure:
            raise failed(failure, route.provider.name, attempt) from failure
        attempt.request_id = _request_id(answer)
        if crash.ARMED:
            crash.point("after_headers_sent")
        return answer

    async def ask(self, call: Call, route: Route, sent: Sent, policy_ver: int, secret: str) -> Answer:
        """The same for a call that costs nothing and so has no attempt. Raises GatewayError."""
        origin, constant, target = self._head(route, sent, call.streamed, policy_ver, secret)
        body = sent.dialect.body(sent.body, sent.fields, Wanted(model=_renamed(call, route, sent)), "")
        signed = await self._signed(route, secret, origin, target, body)
        head = [
            constant,
            _content_type(call),
            signed,
            *_forwarded(call, sent),
            b"content-length: %d\r\n\r\n" % len(body),
        ]
        try:
            return await self._door.exchange(origin, b"".join(head), body, self.limits_of(route))
        except UpstreamFailure as failure:
            raise unanswered(failure, route.provider.name) from failure

    async def reach(
        self,
        route: Route,
        method: str,
        path: str,
        secret: str,
        body: bytes = b"",
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> Answer:
        """Asks for something that a provider keeps, which costs nothing by itself. `path` is checked by the caller. Raises GatewayError."""
        origin, prefix = routing.target(route)
        path = route.provider.placed(path, "", route.credential.settings)
        head = f"{method} {prefix}{path} HTTP/1.1\r\nhost: {origin.host_header}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in route.provider.access.headers(secret).items()
        )
        if head.count("\n") != head.count("\r\n") or head.count("\n") != 2 + len(route.provider.access.headers(secret)):
            raise bad_credential(route.provider.name)
        fields = b"".join(name + b": " + value + b"\r\n" for name, value in extra)
        length = b"content-length: %d\r\n" % len(body) if body or method == "POST" else b""
        fixed = b"accept: */*\r\naccept-encoding: identity\r\nuser-agent: sluice\r\n"
        try:
            return await self._door.exchange(
                origin, head.encode("ascii") + fixed + fields + length + b"\r\n", body, self.limits_of(route)
            )
        except UpstreamFailure as failure:
            raise unanswered(failure, route.provider.name) from failure

    async def _signed(self, route: Route, secret: str, origin: Origin, target: str, body: bytes) -> bytes:
        """The header lines that depend on these very bytes, or on the time; most providers have none."""
        access = route.provider.access
        if access.auth is Auth.HEADER:
            return b""
        return await self._signer.headers(access, route.credential.settings, secret, origin, target, body)

    async def close(self) -> None:
        await self._signer.close()

    def _head(
        self, route: Route, sent: Sent, streamed: bool, policy_ver: int, secret: str
    ) -> tuple[Origin, bytes, str]:
        """The origin, the constant part of the head, and the path and query in it."""
        name = (route.credential.id, policy_ver, route.model, sent.endpoint, sent.dialect, streamed, secret)
        known = self._heads.get(name)
        if known is not None:
            return known
        model = route.provider.wire_model(route.model, route.credential.settings)
        own_path = sent.dialect.path(sent.endpoint, model, streamed=streamed)
        own_path = route.provider.placed(own_path, model, route.credential.settings)
        origin, prefix = routing.target(route)
        fields = {
            "host": origin.host_header,
            **route.provider.access.headers(secret),
            "accept": sent.dialect.stream_type.decode() if streamed else "application/json",
            "accept-encoding": "identity",
            "user-agent": "sluice",
        }
        text = f"POST {prefix}{own_path} HTTP/1.1\r\n" + "".join(
            f"{field}: {value}\r\n" for field, value in fields.items()
        )
        if text.count("\r") != len(fields) + 1 or text.count("\n") != len(fields) + 1 or not text.isascii():
            raise bad_credential(route.provider.name)
        self._heads[name] = origin, text.encode(), prefix + own_path
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)
        return self._heads[name]


def _request_id(answer: Answer) -> str:
    """The provider's own name for the call, to ask its support with."""
    get = answer.get
    value = get(b"x-request-id") or get(b"request-id") or get(b"x-amzn-requestid") or get(b"apim-request-id")
    return value.decode("latin-1")[:128] if value else ""


def bad_credential(provider: str) -> ProviderUnreachable:
    return ProviderUnreachable(
        f"The credential for {provider} has characters that no key has.",
        code="bad_credential",
        hint="An administrator should paste the provider key again.",
    )


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


def unanswered(failure: UpstreamFailure, provider: str) -> ProviderUnreachable | ProviderTimeout | ProviderBadResponse:
    """What to tell the client of a free call that failed: repeating it costs nothing."""
    facts = {"provider": provider}
    hint = "Nothing was charged; the call can be repeated."
    if isinstance(failure, NotSent):
        return ProviderUnreachable(f"{provider} could not be reached: {failure}.", facts=facts, hint=hint)
    kind = ProviderTimeout if isinstance(failure, Silent) else ProviderBadResponse
    return kind(f"{provider} was asked but gave no answer.", facts=facts, hint=hint)


def _forwarded(call: Call, sent: Sent) -> list[bytes]:
    """The client's own headers that this provider's API knows. A translated call is another request: none of them belongs to it."""
    if sent.translated or not call.request.forwarded:
        return []
    wanted = sent.dialect.client_headers
    return [name + b": " + value + b"\r\n" for name, value in call.request.forwarded if name in wanted]


def _content_type(call: Call) -> bytes:
    """Of the client's own body: a form's names its boundary. It was checked to be one line of ASCII."""
    return b"content-type: " + call.request.content_type + b"\r\n"


def _renamed(call: Call, route: Route, sent: Sent) -> str | None:
    name = route.provider.wire_model(route.model, route.credential.settings)
    return name if name != sent.fields.get("model", call.model) else None


def _body(planned: Planned, admitted: Admitted) -> bytes:
    """The bytes of the call, edited where the provider must be told something else."""
    call, route, sent = planned.call, planned.route, planned.sent
    wanted = Wanted(
        model=_renamed(call, route, sent),
        output_limit=_limit(admitted, missing=sent.limit_missing),
        report_usage=call.streamed and route.provider.stream_usage_option,
    )
    field = "max_tokens"
    if wanted.output_limit is not None:
        field = (limit_field(route.provider.name, sent.endpoint, route.model) or (field,))[0]
    body = sent.dialect.body(sent.body, sent.fields, wanted, field)
    if isinstance(sent.dialect, ClaudeOnBedrock) and not sent.translated:
        return with_betas(body, call.request.forwarded)
    return body


DEFAULT_LIMIT = 4_096
"""For an API that demands an output limit, where nobody knows the model's own."""


def _limit(admitted: Admitted, *, missing: bool) -> int | None:
    """The output limit to set: where one was lowered or defaulted, and always under a hard budget, because the hold relies on it."""
    quote, limit = admitted.quote, admitted.output_limit
    if missing:
        return limit or quote.output_tokens_cap or DEFAULT_LIMIT
    if limit is None or limit == quote.client_limit:
        return None
    if admitted.clamped or quote.output_limit_source in ("client", "default"):
        return limit
    return limit if admitted.relies_on_limit else None

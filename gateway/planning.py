"""Steps 3 to 5 of a call: whom it is for, where it goes, what it costs at worst. Nothing is reserved and nothing is sent here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from billing.domain.attribution import Attribution, BadAttribution, attribute
from billing.domain.dimensions import Dimension
from billing.domain.events import CallContext
from billing.domain.pricing import PriceBook
from billing.domain.quote import BadLimit, Quote, quote
from gateway import fingerprint, routing
from gateway.attempt import Terms
from gateway.edge import Call
from gateway.errors import BadRequest
from gateway.hop.health import Health
from gateway.hop.trip import first_choice
from gateway.providers.dialect import Dialect
from gateway.providers.translation import Untranslatable
from gateway.routing import Route
from guardrails.admitted import Admitted
from guardrails.policy import Grant

EDIT_BYTES = 128
"""The most that our edits add to a body: the quote counts what is sent."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A call as its provider is to get it: the client's own bytes, or their translation. What is priced is this."""

    endpoint: str
    """Of the provider's API, by our name."""
    body: bytes
    fields: dict[str, Any]
    dialect: Dialect
    limit_missing: bool = False
    """The API demands an output limit and the client set none."""
    translated: bool = False


class Planned(msgspec.Struct, gc=False):
    """A call that is ready to be admitted."""

    call: Call
    grant: Grant
    who: Attribution
    route: Route
    sent: Sent
    quote: Quote
    price_version: str
    base_url: str
    number: int = 1
    """Of the attempt in its call."""

    @property
    def environment(self) -> str:
        return self.who.dims.get(_ENVIRONMENT, "")

    def exact_quote(self) -> Quote:
        """The worst case with the input counted, for when the bound by bytes did not fit."""
        return _doubted(self.call, _quote(self.sent, self.grant, self.route, self.base_url, exact=True))

    def dimensions(self) -> dict[str, str]:
        """Everything that a budget or a rate limit can be on."""
        return _dimensions(self.who, self.route, self.grant)

    def context(self) -> CallContext:
        call, route = self.call, self.route
        return CallContext(
            call=call.id,
            attempt=self.number,
            key=self.grant.key.id,
            provider=route.provider.name,
            credential=route.credential.id,
            model=route.model,
            model_requested=call.model if call.model != route.model else "",
            endpoint=call.request.endpoint,
            streamed=call.streamed,
            dims=self.who.dims,
            tags=self.who.tags,
            price_version=self.price_version if route.rates is not None else "",
            fingerprint=fingerprint.of(call, self.grant.policy.fingerprint_key),
        )

    def terms(self, admitted: Admitted) -> Terms:
        call, route, sent = self.call, self.route, self.sent
        return Terms(
            provider=route.provider.name,
            endpoint=sent.endpoint,
            fields=sent.fields,
            body_bytes=len(sent.body) + EDIT_BYTES,
            streamed=call.streamed,
            base_url=self.base_url,
            rates=route.rates,
            quote=admitted.quote,
            output_limit=admitted.output_limit,
            held_nano=admitted.hold_nano,
            clamped=admitted.clamped,
        )


def plan(call: Call, grant: Grant, book: PriceBook, health: Health) -> Planned:
    """The first attempt of a call. Raises BadRequest, UnknownModel, NotAllowed, BreakerOpen."""
    who = _attributed(call, grant)
    environment = who.dims.get(_ENVIRONMENT, "")
    route = routing.plan(grant, call.model, environment, book, int(time.time()), call.request.endpoint)
    if call.credential:
        route = routing.keeping([route], grant, call.credential)[0]
    if health.troubled:
        route = first_choice(route, call, grant, environment, health)
    return _planned(call, grant, who, route, book)


def plan_next(call: Call, grant: Grant, book: PriceBook, route: Route, number: int) -> Planned:
    """A further attempt, on a route that was chosen. Raises BadRequest when its provider has no word for what is asked."""
    return _planned(call, grant, _attributed(call, grant), route, book, number)


def _planned(call: Call, grant: Grant, who: Attribution, route: Route, book: PriceBook, number: int = 1) -> Planned:
    sent = prepared(call, route)
    base_url = routing.base_url_of(route)
    bound = _quote(sent, grant, route, base_url)
    if call.doubt:
        bound = _doubted(call, bound)
    return Planned(call, grant, who, route, sent, bound, book.version, base_url, number)


def _doubted(call: Call, bound: Quote) -> Quote:
    """The worst case, where nothing beside the body may add to it: else there is none, and a hard budget refuses."""
    if not call.doubt or bound.refusal is not None:
        return bound
    return msgspec.structs.replace(
        bound, amount_nano=None, refusal=f"unpriced: {call.doubt} is not known here and may cost money"
    )


@dataclass(frozen=True, slots=True)
class PlannedFree:
    """A call that costs nothing: rate limits may be on its dimensions and tags."""

    route: Route
    sent: Sent
    dims: dict[str, str]
    tags: dict[str, str]


def plan_free(call: Call, grant: Grant, book: PriceBook) -> PlannedFree:
    """Where a call goes that costs nothing. Raises BadRequest, UnknownModel, NotAllowed."""
    who = _attributed(call, grant)
    environment = who.dims.get(_ENVIRONMENT, "")
    route = routing.plan(grant, call.model, environment, book, int(time.time()), call.request.endpoint, free=True)
    return PlannedFree(route, prepared(call, route), _dimensions(who, route, grant), who.tags)


def _attributed(call: Call, grant: Grant) -> Attribution:
    try:
        return attribute(grant.key.pins, grant.key.may_override, call.request.sluice, call.fields)
    except BadAttribution as error:
        raise BadRequest(
            f"The attribution of this call cannot be accepted: {error}.", code="invalid_attribution", param=error.source
        ) from None


def _dimensions(who: Attribution, route: Route, grant: Grant) -> dict[str, str]:
    """Everything that a budget or a rate limit can be on."""
    dims = who.dims.copy()  # costs half of what unpacking does
    dims[_MODEL] = route.model
    dims[_PROVIDER] = route.provider.name
    dims[_VIRTUAL_KEY] = grant.key.id
    return dims


_MODEL, _PROVIDER, _VIRTUAL_KEY, _ENVIRONMENT = (
    dimension.value for dimension in (Dimension.MODEL, Dimension.PROVIDER, Dimension.VIRTUAL_KEY, Dimension.ENVIRONMENT)
)


def prepared(call: Call, route: Route) -> Sent:
    """The call in its provider's own words. Raises BadRequest for what they have no word for."""
    endpoint = call.request.endpoint
    dialect = route.provider.dialect(endpoint, route.model)
    if dialect is not None:
        return Sent(endpoint, call.body, call.fields, dialect)
    translation = route.provider.translation(endpoint, route.model)
    try:
        fields = translation.request(call.fields, route.model)
    except Untranslatable as error:
        raise BadRequest(
            f"{error}.",
            param=error.param,
            code="not_translatable",
            hint=f"{route.provider.name} has nothing like it; leave it out, or ask another model.",
        ) from None
    return Sent(
        translation.streams if call.streamed else translation.endpoint,
        orjson.dumps(fields),
        fields,
        translation.dialect,
        limit_missing=translation.needs_limit and "max_tokens" not in fields,
        translated=True,
    )


def _quote(sent: Sent, grant: Grant, route: Route, base_url: str, *, exact: bool = False) -> Quote:
    try:
        return quote(
            route.provider.name,
            sent.endpoint,
            sent.fields,
            len(sent.body) + EDIT_BYTES,
            route.rates,
            exact=exact,
            default_limit=grant.key.output_limit,
            base_url=base_url,
        )
    except BadLimit as error:
        raise BadRequest(f"{error}.", param=error.param, code="invalid_value") from None

"""Batches before they are asked for: every line read as strictly as a call, and the worst case of all of them held at once.

A batch is one attempt with one model; each line is quoted at batch rates as the call that it is. Under a hard budget a line without a bound
refuses the whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from billing.domain.attribution import BadAttribution, attribute
from billing.domain.dimensions import Dimension
from billing.domain.events import Basis, CallContext, Outcome, PriceStatus, encode
from billing.domain.pricing import Rates
from billing.domain.quote import BadLimit, Quote, quote
from gateway import afterwards, endpoints, routing
from gateway.edge import FORBIDDEN_FIELDS, Request, check_model
from gateway.errors import BadRequest, NotAllowed
from gateway.jsonbody import BadJson, loads
from gateway.routing import Route
from gateway.runtime import Runtime
from guardrails.admitted import Admitted
from guardrails.policy import Grant, PolicyChanged
from guardrails.threads import in_thread
from workspaces.ids import uuid7_text

MAX_LINES = 50_000
URLS = frozenset(
    {
        endpoints.CHAT,
        endpoints.RESPONSES,
        endpoints.COMPLETIONS,
        endpoints.EMBEDDINGS,
        endpoints.IMAGES,
        endpoints.MODERATIONS,
    }
)
MESSAGES_URL = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch is to do."""

    url: str
    model: str
    bodies: Sequence[tuple[dict[str, Any], int]]
    """Each line's body, and its length as JSON."""


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that may be asked for."""

    facts: dict[str, Any]
    void: Callable[[], None]
    entrust: Callable[[], None]


async def read_lines(file: bytes, url: str) -> Work:
    """An input file of OpenAI's. Raises BadRequest."""
    if url not in URLS:
        raise BadRequest(
            f"Batches of {url[:80]} are not offered.", param="endpoint", code="endpoint_not_priced",
            hint=f"Batches can be made of {', '.join(sorted(URLS))}.",
        )  # fmt: skip
    return await in_thread(lambda: _work(file, url))


def _work(file: bytes, url: str) -> Work:
    lines = [line for line in file.split(b"\n") if line.strip()]
    if not 1 <= len(lines) <= MAX_LINES:
        raise BadRequest(
            f"A batch must have from 1 to {MAX_LINES:,} lines.", param="input_file_id", code="invalid_batch"
        )
    bodies, seen = [], set()
    for number, line in enumerate(lines, 1):
        try:
            asked = loads(line)
        except BadJson as error:
            raise _bad(number, str(error)) from None
        place, body = asked.get("custom_id"), asked.get("body")
        if type(place) is not str or not place or place in seen:
            raise _bad(number, "custom_id must be text that no other line has")
        if asked.get("method") != "POST" or asked.get("url") != url or type(body) is not dict:
            raise _bad(number, f"it must be a POST to {url} with a body")
        seen.add(place)
        bodies.append((body, len(line)))
    return Work(url, _one_model(bodies), bodies)


def read_requests(fields: dict[str, Any]) -> Work:
    """A batch of Anthropic's messages, whose lines are in its body. Raises BadRequest."""
    requests = fields.get("requests")
    if type(requests) is not list or not 1 <= len(requests) <= MAX_LINES:
        raise BadRequest(f"'requests' must be a list of 1 to {MAX_LINES:,}.", param="requests", code="invalid_batch")
    bodies, seen = [], set()
    for number, asked in enumerate(requests, 1):
        place = asked.get("custom_id") if type(asked) is dict else None
        body = asked.get("params") if type(asked) is dict else None
        if type(place) is not str or not place or place in seen or type(body) is not dict:
            raise _bad(number, "it needs params, and a custom_id that no other has")
        if type(body.get("max_tokens")) is not int:
            raise _bad(number, "max_tokens is missing")
        if body.get("thread"):
            raise _bad(number, "a batch has no threads")
        seen.add(place)
        bodies.append((body, len(msgspec.json.encode(body)) + 64))
    return Work(MESSAGES_URL, _one_model(bodies), bodies)


def _one_model(bodies: Sequence[tuple[dict[str, Any], int]]) -> str:
    models = set()
    for number, (body, _) in enumerate(bodies, 1):
        models.add(check_model(body.get("model")))
        for name in FORBIDDEN_FIELDS:
            if name in body:
                raise _bad(number, f"the field '{name}' is not accepted")
    if len(models) != 1:
        raise BadRequest(
            "A batch must ask one model in all of its lines.", param="model", code="several_models",
            hint="Make a batch for each model: then each is held, attributed and billed as what it is.",
        )  # fmt: skip
    return str(models.pop())


def _bad(number: int, why: str) -> BadRequest:
    return BadRequest(
        f"Line {number:,} of the batch cannot be read: {why}.", param="input_file_id", code="invalid_batch"
    )


async def admit(
    runtime: Runtime, request: Request, grant: Grant, route: Route, work: Work, fields: dict[str, Any]
) -> Held:
    """Holds a batch. Raises BadRequest, NotAllowed and what admission refuses with."""
    work = replace(work, model=route.provider.listed_model(work.model, route.credential.settings))
    while True:
        try:
            return await _admit_once(runtime, request, grant, route, work, fields)
        except PolicyChanged as changed:
            grant = changed.grant


async def _admit_once(
    runtime: Runtime, request: Request, grant: Grant, route: Route, work: Work, fields: dict[str, Any]
) -> Held:
    provider, key = route.provider.name, grant.key
    if key.allowed_models and key.allowed_models.isdisjoint((work.model, f"{provider}/{work.model}")):
        raise NotAllowed(f"This key may not use the model '{work.model}'.", param="model", code="model_not_allowed")
    try:
        who = attribute(key.pins, key.may_override, request.sluice, fields)
    except BadAttribution as error:
        raise BadRequest(
            f"The attribution of this batch cannot be accepted: {error}.", code="invalid_attribution"
        ) from None
    now_s = int(time.time())
    rates = grant.policy.book.rates_at(provider, work.model, now_s)
    worst = await in_thread(lambda: _worst(provider, work, rates, routing.base_url_of(route)))
    rid = uuid7_text()
    context = CallContext(
        call=request.call_id, key=key.id, provider=provider, credential=route.credential.id, model=work.model, endpoint=request.path,
        dims=who.dims, tags=who.tags, price_version=grant.policy.book.version,
    )  # fmt: skip
    dims = {
        **who.dims,
        Dimension.MODEL.value: work.model,
        Dimension.PROVIDER.value: provider,
        Dimension.VIRTUAL_KEY.value: key.id,
    }
    admitted = await runtime.gate.admission.admit(
        grant, dims, who.tags, worst, context, rid=rid, lease_ms=afterwards.BATCH_LEASE_MS
    )
    facts = {
        "rid": rid,
        "ctx": encode(context).decode(),
        "held": admitted.hold_nano,
        "model": work.model,
        "url": work.url,
        "at": now_s,
        "lines": len(work.bodies),
    }
    return Held(facts, partial(_void, runtime, admitted), partial(runtime.gate.limiter.entrust, rid))


def _void(runtime: Runtime, admitted: Admitted) -> None:
    outcome = Outcome(basis=Basis.MEASURED, price_status=PriceStatus.EXACT, error="batch_refused")
    runtime.gate.admission.void(admitted, outcome)


def _worst(provider: str, work: Work, rates: Rates | None, base_url: str) -> Quote:
    """The sum of all lines' worst cases; the first reason why there is none."""
    amount, tokens, refusal = 0, 0, None
    for number, (body, size) in enumerate(work.bodies, 1):
        try:
            one = quote(provider, f"/v1/batches{work.url}", body, size, rates, base_url=base_url)
        except BadLimit as error:
            raise _bad(number, str(error)) from None
        if one.amount_nano is None:
            refusal = refusal or f"line {number:,}: {one.refusal}"
        else:
            amount += one.amount_nano
            tokens += one.tokens_bound
    return Quote(None if refusal else amount, input_tokens_bound=tokens, tokens_bound=tokens, refusal=refusal)

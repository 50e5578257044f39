"""Answers that come after their call: background responses and batches. Held from the start, booked when somebody reads the answer.

Whoever reads (a client, or our own poll) brings the truth here; a claim in the database and the ids of the attempts make sure that it is booked
once. A background response is one attempt; each line of a batch is an attempt of its own on the counters that the batch was held on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
import orjson

from billing.domain.events import Basis, Outcome, PriceStatus, context_from_json, encode
from billing.domain.pricing import Rates, price
from billing.domain.quote import Quote
from billing.domain.usage import extract
from gateway import endpoints, routing
from gateway.attempt import Attempt, Settlement, Terms
from gateway.errors import GatewayError
from gateway.forward import Forwarder
from gateway.keeping import Keeper, KeptThing, usable
from gateway.models import KeptKind
from gateway.providers.openai_responses import OpenAIResponses
from gateway.providers.registry import PROVIDERS
from gateway.routing import Route
from gateway.upstream import Answer, UpstreamFailure
from guardrails.admitted import Admitted
from guardrails.domain.refusals import Refusal
from guardrails.gate import Gate
from guardrails.limiter.control import Refused
from guardrails.limiter.parts import Part, settle_now
from guardrails.limiter.store import StoreError
from guardrails.limiter.wire import FinishKind
from guardrails.policy import Policy
from guardrails.threads import DATABASE_AWAY, in_thread

log = logging.getLogger(__name__)

RESPONSE_LEASE_MS = 6 * 3600 * 1000
BATCH_LEASE_MS = 30 * 3600 * 1000
"""A day for the batch, the rest for whoever reads it. A hold that runs out is charged whole and corrected by the truth."""
PENDING = frozenset({"queued", "in_progress"})
BATCH_ENDED = frozenset({"completed", "failed", "expired", "cancelled", "ended"})
POLL_S = 5.0
LINES_AT_ONCE = 200
MAX_LINE_BYTES = 32 * 1024 * 1024
MAX_OBJECT_BYTES = 64 * 1024 * 1024
NOT_NOW = (*DATABASE_AWAY, StoreError, Refused, GatewayError, Refusal, UpstreamFailure, OSError)
_RESPONSES = OpenAIResponses()


class Afterwards:
    """Of one process. `watch` is its own poll."""

    def __init__(self, gate: Gate, forwarder: Forwarder, keeper: Keeper) -> None:
        self._gate, self._forwarder, self._keeper = gate, forwarder, keeper
        self._errands: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    def seen(self, policy: Policy, thing: KeptThing, shown: dict[str, Any]) -> None:
        """Somebody has read it: book what it cost when it has come to its end. Returns at once."""
        if thing.state == "open" and _has_ended(thing, shown):
            errand = asyncio.ensure_future(self._book(policy, thing, shown))
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)

    def watch(self) -> None:
        """Start looking for what nobody comes back for."""
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        if self._watcher is not None:
            while not self._watcher.done():  # a cancellation that lands on work in a thread is lost (asgiref)
                self._watcher.cancel()
                await asyncio.wait([self._watcher], timeout=0.5)
        if self._errands:
            await asyncio.wait(self._errands, timeout=5)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                for thing in await self._keeper.due():
                    await self._look(thing)
            except NOT_NOW as error:
                log.warning("answers that nobody came back for were not read: %s", type(error).__name__)
            except Exception:  # the edge of this task: one row that cannot be read must not end the looking
                log.exception("answers that nobody came back for were not read")

    async def _look(self, thing: KeptThing) -> None:
        try:
            policy = await self._gate.policies.of(thing.workspace_id)
            shown = await self._ask(policy, thing, _address(thing))
            if _has_ended(thing, shown):
                await self._book(policy, thing, shown)
        except NOT_NOW as error:
            log.warning("%s %s was not read: %s", thing.kind, thing.object_id, error)

    async def _book(self, policy: Policy, thing: KeptThing, shown: dict[str, Any]) -> None:
        try:
            if not await self._keeper.claim(policy, thing):
                return
            if thing.kind == KeptKind.RESPONSE:
                await self._book_response(policy, thing, shown)
            else:
                await self._book_batch(policy, thing, shown)
            await self._keeper.settled(policy, thing)
        except NOT_NOW as error:  # the claim runs out, and our own poll comes again
            log.warning("%s %s was not booked: %s", thing.kind, thing.object_id, error)

    # --- Responses ----------------------------------------------------------------------------------------------------

    async def _book_response(self, policy: Policy, thing: KeptThing, shown: dict[str, Any]) -> None:
        ended: list[Settlement] = []
        attempt = _attempt(policy, thing, ended.append)
        reading = _RESPONSES.read_whole(orjson.dumps(shown), "application/json")
        if shown.get("status") == "failed" and not shown.get("usage"):
            attempt.void("provider_error", 200)
        elif reading is None:
            attempt.assume("provider_bad_response", 200)
        else:
            attempt.settle(reading)
        [settlement] = ended
        await self._gate.limiter.finish(
            thing.workspace_id,
            thing.facts["rid"],
            FinishKind.VOID if settlement.void else FinishKind.SETTLE,
            cost_nano=settlement.cost_nano,
            tokens=settlement.tokens,
            payload=encode(settlement.outcome),
        )

    # --- Batches ------------------------------------------------------------------------------------------------------

    async def _book_batch(self, policy: Policy, thing: KeptThing, shown: dict[str, Any]) -> None:
        rid, known, first = str(thing.facts["rid"]), True, True
        for address in _results(thing, shown):
            async for lines in self._lines(policy, thing, address):
                parts = await in_thread(lambda lines=lines, first=first: _parts(policy, thing, lines, first=first))  # type: ignore[misc]
                first = first and not parts
                known = await in_thread(lambda parts=parts: settle_now(thing.workspace_id, rid, parts)) and known  # type: ignore[misc]
        if not known:
            log.error("batch %s was read too late: its hold had been charged whole and stays so", thing.object_id)
        done = Outcome(basis=Basis.MEASURED, price_status=PriceStatus.EXACT, http_status=200, error="billed_by_line")
        await self._gate.limiter.finish(thing.workspace_id, rid, FinishKind.VOID, payload=encode(done))

    async def _lines(self, policy: Policy, thing: KeptThing, address: str) -> AsyncIterator[list[bytes]]:
        """The lines of a results file, some at a time."""
        async with await self._reach(policy, thing, address) as answer:
            if answer.status != 200:
                raise UpstreamFailure(f"its results answered with status {answer.status}")
            rest, lines = b"", []
            while chunk := await answer.chunk():
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise UpstreamFailure("a line of its results is too long")
                lines += whole
                if len(lines) >= LINES_AT_ONCE:
                    yield lines
                    lines = []
            yield [*lines, rest]

    async def _ask(self, policy: Policy, thing: KeptThing, address: str) -> dict[str, Any]:
        async with await self._reach(policy, thing, address) as answer:
            if answer.status != 200:
                raise UpstreamFailure(f"it answered with status {answer.status}")
            shown = orjson.loads(await answer.read(MAX_OBJECT_BYTES))
        if type(shown) is not dict:
            raise UpstreamFailure("it answered with no object")
        return shown

    async def _reach(self, policy: Policy, thing: KeptThing, address: str) -> Answer:
        credential = usable(policy, thing)
        if credential is None:
            raise UpstreamFailure("the credential that made it is gone")
        secret = await self._gate.policies.secret(policy, credential)
        route = Route(PROVIDERS[thing.provider], credential, "", None)
        return await self._forwarder.reach(route, "GET", address, secret)


def response_thing(admitted: Admitted, attempt: Attempt, object_id: str) -> KeptThing:
    """What has to be known of a background response when its answer is read. No words of the request."""
    terms = attempt.terms
    return KeptThing(
        admitted.workspace_id,
        KeptKind.RESPONSE.value,
        object_id,
        admitted.context.credential,
        admitted.context.provider,
        state="open",
        look_at=datetime.now(UTC),
        facts={
            "rid": admitted.rid,
            "held": terms.held_nano,
            "bound": [
                terms.quote.input_tokens_bound,
                terms.quote.output_tokens_cap,
                terms.quote.amount_nano is not None,
            ],
            "model": admitted.context.model,
            "at": int(time.time()),
            "request": billed_fields(terms.fields),
        },
    )


def billed_fields(request: Any) -> dict[str, Any]:
    """Of a request, what its bill may depend on beside the answer: names and kinds, never what is said."""
    tools = request.get("tools")
    kinds = [
        {name: tool[name] for name in ("type", "container", "model") if name in tool and name != "container"}
        for tool in (tools if type(tools) is list else [])
        if type(tool) is dict
    ]
    plain = {name: request[name] for name in ("model", "service_tier", "max_output_tokens", "n") if name in request}
    return {**plain, **({"tools": kinds} if kinds else {})}


def part_rid(batch_rid: str, place: str) -> str:
    """The attempt of one line: the same whenever it is read, and of the moment at which the batch was held."""
    digest = int.from_bytes(blake2b(f"{batch_rid}:{place}".encode(), digest_size=10).digest(), "big")
    value = (
        UUID(batch_rid).int >> 80 << 80 | 0x7 << 76 | (digest >> 62 & 0xFFF) << 64 | 0b10 << 62 | digest & (1 << 62) - 1
    )
    return str(UUID(int=value))


def _attempt(policy: Policy, thing: KeptThing, carry: Callable[[Settlement], None]) -> Attempt:
    facts = thing.facts
    rates = policy.book.rates_at(thing.provider, facts["model"], facts["at"])
    bound_in, cap, bounded = facts["bound"]
    quote = Quote(facts["held"] if bounded else None, input_tokens_bound=bound_in, output_tokens_cap=cap)
    credential = usable(policy, thing)
    base_url = routing.base_url_of(Route(PROVIDERS[thing.provider], credential, "", None)) if credential else ""
    terms = Terms(
        provider=thing.provider, endpoint=endpoints.RESPONSES, fields=facts["request"], body_bytes=0, streamed=False,
        base_url=base_url, rates=rates, quote=quote, output_limit=None, held_nano=facts["held"],
    )  # fmt: skip
    attempt = Attempt(terms, time.perf_counter(), carry)
    attempt.sending()
    return attempt


def _parts(policy: Policy, thing: KeptThing, lines: Sequence[bytes], *, first: bool) -> list[Part]:
    """Each line of a batch's results as an attempt that has ended."""
    facts = thing.facts
    rates = policy.book.rates_at(thing.provider, facts["model"], facts["at"])
    context = context_from_json(facts["ctx"])
    parts: list[Part] = []
    for line in lines:
        said = _object(line)
        place = said.get("custom_id") if said is not None else None
        if said is None or type(place) is not str:
            continue
        rid = part_rid(facts["rid"], place)
        outcome, cost, tokens = _priced(thing, said, facts["url"], rates)
        ctx = encode(msgspec.structs.replace(context, call=rid)).decode()
        parts.append(Part(rid, cost, tokens, 1 if first and not parts else 0, ctx, encode(outcome).decode()))
    return parts


def _priced(thing: KeptThing, line: dict[str, Any], url: str, rates: Rates | None) -> tuple[Outcome, int, int]:
    model = thing.facts["model"]
    usage = extract(thing.provider, f"/v1/batches{url}", line, request={"model": model})
    priced = price(usage, rates)
    answer = line.get("response")
    status = answer.get("status_code", 200) if type(answer) is dict else 200
    failed = "batch_line_failed" in usage.flags
    outcome = Outcome(
        basis=Basis.MEASURED if usage.measured else Basis.ASSUMED,
        price_status=priced.status,
        http_status=status if type(status) is int else 0,
        error="batch_line_failed" if failed else "",
        model_served=usage.context.model_served,
        buckets=usage.all_buckets,
        fees=usage.all_fees,
        breakdown=priced.breakdown,
        context=usage.context.as_plain(),
        raw_usage=msgspec.Raw(orjson.dumps(usage.raw)) if usage.raw is not None else msgspec.Raw(b""),
        flags=list(priced.flags),
    )
    cost = priced.known_nano if priced.cost_nano is None else priced.cost_nano
    return outcome, cost, usage.total_tokens


def _has_ended(thing: KeptThing, shown: dict[str, Any]) -> bool:
    if thing.kind == KeptKind.RESPONSE:
        return type(shown.get("status")) is str and shown["status"] not in PENDING
    return shown.get("status", shown.get("processing_status")) in BATCH_ENDED


def _address(thing: KeptThing) -> str:
    kind = {KeptKind.RESPONSE: "responses", KeptKind.BATCH: "batches", KeptKind.MESSAGE_BATCH: "messages/batches"}
    return f"/{kind[KeptKind(thing.kind)]}/{thing.object_id}"


def _results(thing: KeptThing, shown: dict[str, Any]) -> Iterable[str]:
    """Where the lines of an ended batch are."""
    if thing.kind == KeptKind.MESSAGE_BATCH:
        return [f"{_address(thing)}/results"] if shown.get("results_url") else []
    named = (shown.get("output_file_id"), shown.get("error_file_id"))
    return [f"/files/{file}/content" for file in named if type(file) is str and file.replace("-", "_").isidentifier()]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line) if line.strip() else None
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None

"""From stream events to ledger lines: what each kind of event books, as plain values. No I/O.

A line's `at` is the attempt's admission, read from its id, so that every event of an attempt books into the same hour whenever it
arrives, and (rid, leg) stays unique although the table is partitioned by `at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import msgspec.structs

from billing.domain.dimensions import Dimension
from billing.domain.events import Basis, CallContext, Charge, Kind, Outcome, PriceStatus, StreamEvent
from billing.ledger import folding
from billing.ledger.copying import clean, clean_once
from workspaces.ids import made_at_ms

MAX_INT: Final = 2**31 - 1
MAX_TOKENS: Final = 10**12
"""Beyond it a count is garbage (the raw usage is kept): sums of it must not overflow a bigint."""
OLDEST_MS: Final = 400 * 86_400_000
"""An attempt id older than this before its event, or more than a day after it, is no admission time: the event is poison."""
NEWEST_MS: Final = 86_400_000

MOST_LEGS: Final = 2**15 - 1

_json = msgspec.json.Encoder()
_NO_CONTEXT: Final = CallContext(call="", key="", provider="", model="", endpoint="")


class NotBookable(ValueError):
    """An event that is well-formed and still cannot become a line."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One row of `billing_entry`, and what rollups and totals take from it."""

    workspace_id: int
    rid: UUID
    leg: int
    at_ms: int
    ended_ms: int
    seq: int
    state: str
    basis: str
    price_status: str
    cost_nano: int
    hold_nano: int
    assumed_nano: int
    """Change of the workspace's unconfirmed spend."""
    unpriced: int
    """Change of the number of calls without a price."""
    dims: tuple[str, ...]
    """Values in the order of `NAMED`."""
    tags: dict[str, str]
    context: CallContext
    outcome: Outcome | None
    charges: tuple[Charge, ...]
    tokens: tuple[int, int, int, int]
    """Uncached input, cache read, cache write, output."""

    @property
    def failed(self) -> bool:
        return self.outcome is not None and bool(self.outcome.error or self.outcome.http_status >= 400)

    def in_context(self, context: CallContext) -> Line:
        """The same line, attributed by a context found elsewhere."""
        return msgspec.structs.replace(self, context=context, dims=dims_of(context), tags=tags_of(context))


def line_of(event: StreamEvent) -> Line:
    """The ledger line of an event that ends or corrects an attempt. Raises NotBookable."""
    rid, at_ms = admission_of(event)
    context, outcome = event.context or _NO_CONTEXT, event.outcome
    leg, state = _LEGS[event.kind]
    if event.kind is Kind.RERATE:
        leg = event.leg
        if not 2 <= leg <= MOST_LEGS or outcome is None:
            raise NotBookable("a re-rating says which leg it is, and what the price is now")
    if leg == 0 and event.cost_nano < 0:
        raise NotBookable("a charge cannot be negative")
    if event.kind is Kind.VOID and event.cost_nano:
        raise NotBookable("a void attempt costs nothing")
    basis, price_status = _certainty(event)
    assumed = 0
    if leg == 1:
        assumed = -event.held_nano
    elif basis == Basis.ASSUMED:
        assumed = event.cost_nano
    return Line(
        workspace_id=event.workspace_id,
        rid=rid,
        leg=leg,
        at_ms=at_ms,
        ended_ms=event.at_ms,
        seq=event.seq,
        state=state,
        basis=basis,
        price_status=price_status,
        cost_nano=event.cost_nano,
        hold_nano=event.held_nano,
        assumed_nano=assumed,
        unpriced=int(price_status == PriceStatus.UNPRICED) - int(_was_unpriced(event)),
        dims=dims_of(context),
        tags=tags_of(context),
        context=context,
        outcome=outcome,
        charges=event.charges,
        tokens=tokens_of(outcome.buckets) if outcome and leg < 2 else (0, 0, 0, 0),
    )


_LEGS: Final = {
    Kind.SETTLE: (0, "settled"),
    Kind.VOID: (0, "void"),
    Kind.EXPIRE: (0, "expired"),
    Kind.ADJUST: (1, "adjusted"),
    Kind.RERATE: (2, "rerated"),
}


def _certainty(event: StreamEvent) -> tuple[str, str]:
    if event.outcome is not None:
        return event.outcome.basis.value, event.outcome.price_status.value
    if event.kind is Kind.EXPIRE:
        status = PriceStatus.UNPRICED if _held_without_a_price(event) else PriceStatus.ESTIMATED
        return Basis.ASSUMED.value, status.value
    return Basis.COUNTED.value, PriceStatus.ESTIMATED.value


def _held_without_a_price(event: StreamEvent) -> bool:
    """Nothing was held because nobody knew a price: an expiry at zero is then no price either."""
    return event.held_nano == 0 and event.context is not None and not event.context.price_version


def _was_unpriced(event: StreamEvent) -> bool:
    """Whether an earlier line of the attempt counts as a call without a price."""
    if event.kind is Kind.ADJUST:
        return _held_without_a_price(event)
    before = event.outcome.price_status_before if event.outcome else None
    return event.kind is Kind.RERATE and before is PriceStatus.UNPRICED


def admission_of(event: StreamEvent) -> tuple[UUID, int]:
    """(rid, admission time in ms). Raises NotBookable for an id that carries no believable time."""
    try:
        rid = UUID(event.rid)
        at_ms = made_at_ms(rid)
    except ValueError as error:
        raise NotBookable(str(error)) from error
    if not event.at_ms - OLDEST_MS <= at_ms <= event.at_ms + NEWEST_MS:
        raise NotBookable(f"attempt {rid} says it was admitted at {at_ms} ms, its event at {event.at_ms} ms")
    return rid, at_ms


def dims_of(context: CallContext) -> tuple[str, ...]:
    """In the order of `NAMED`, written out because it runs for every line."""
    value = context.dims.get
    return (
        clean(value("member", ""), 128),
        clean(value("agent", ""), 128),
        clean(value("department", ""), 128),
        clean(context.key, 36),
        clean(value("customer", ""), 128),
        clean(value("feature", ""), 128),
        clean(value("user", ""), 128),
        clean(value("session", ""), 128),
        clean(context.model, 128),
        clean(context.provider, 32),
        clean(value("environment", ""), 128),
    )


NAMED: Final = (
    "member", "agent", "department", "virtual_key", "customer", "feature", "user", "session", "model", "provider", "environment",
)  # fmt: skip
"""The dimensions in the order of `Line.dims`."""
if tuple(Dimension) != NAMED:
    raise TypeError("a dimension was added: `dims_of`, `billing_entry` and `billing_rollup_detail` need it too")


def tags_of(context: CallContext) -> dict[str, str]:
    if not context.tags:
        return {}
    return {clean(name, 32): clean(value, 128) for name, value in sorted(context.tags.items())}


def tokens_of(buckets: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Disjoint buckets (BILLING.md) -> uncached input, cache read, cache write, output tokens. Seconds, pages and images are not tokens."""
    fresh = read = written = output = 0
    for name, count in buckets.items():
        if count <= 0:
            continue
        if name == "cache_read" or name.endswith("_cached"):
            read += count
        elif name.startswith("cache_write"):
            written += count
        elif name.startswith("output_"):
            output += count
        elif name.startswith(("input_", "tool_input")):
            fresh += count
    return min(fresh, MAX_TOKENS), min(read, MAX_TOKENS), min(written, MAX_TOKENS), min(output, MAX_TOKENS)


class Folded(NamedTuple):
    """A line's cold part: what it has in common with others, and what is its own (`ledger.folding`)."""

    shape: folding.Pattern
    plan: folding.Pattern
    charged: bytes
    tail: bytes
    unsure_tokens: str


def fold(line: Line) -> Folded:
    context, outcome = line.context, line.outcome
    common = (min(context.attempt, 32_767), _uuid_text(context.credential), clean(context.model_requested, 200))
    endpoint, version = clean(context.endpoint, 200), clean(context.price_version, 64)
    fingerprint = fingerprint_of(context.fingerprint) if context.fingerprint else None
    later = line.ended_ms - line.at_ms
    if outcome is None:
        usage: Mapping[str, int] = {}
        fields: tuple[Any, ...] = (*common, "", endpoint, context.streamed, 0, "", version, ())
        shape, tail = folding.fold(fields, {}, times=(later, line.seq, None, None, None), fingerprint=fingerprint)
    else:
        usage = outcome.buckets
        status = min(max(outcome.http_status, 0), MAX_INT)
        flags = tuple([clean(flag, 64) for flag in outcome.flags]) if outcome.flags else ()
        fields = (
            *common, clean(outcome.model_served, 200), endpoint, context.streamed, status, clean(outcome.error, 64), version, flags,
        )  # fmt: skip
        told = {
            "provider_request_id": clean_once(outcome.provider_request_id, 200),
            "usage": usage,
            "fees": outcome.fees,
            "breakdown": outcome.breakdown,
            "context": outcome.context,
            "raw_usage": bytes(outcome.raw_usage).decode("utf-8", "replace"),
        }
        times = (
            later,
            line.seq,
            _known(outcome.first_byte_ms),
            _known(outcome.duration_ms),
            _known(outcome.overhead_us),
        )
        shape, tail = folding.fold(fields, told, times=times, fingerprint=fingerprint)
    unsure = ""
    if line.price_status in UNSURE and usage:
        unsure = ",".join(map(str, tokens_of(usage)))
    if not line.charges:
        return Folded(shape, (), b"", tail, unsure)
    charges = [(clean(charge.counter, 200), charge.unit, charge.amount) for charge in line.charges]
    plan, charged = folding.fold_charges(charges, cost_nano=line.cost_nano, usage=usage, dims=line.dims, tags=line.tags)
    return Folded(shape, plan, charged, tail, unsure)


UNSURE: Final = (PriceStatus.UNPRICED.value, PriceStatus.PARTIAL.value)


@lru_cache(maxsize=4096)
def _uuid_text(text: str) -> str:
    return str(uuid_or_none(text) or "")


def _known(value: int) -> int | None:
    return min(value, MAX_INT) if value >= 0 else None


def caller_of(line: Line) -> tuple[str, ...]:
    """The dimensions that stand in a line's caller, in their order, and its tags as JSON."""
    member, agent, department, key, _, feature, _, _, model, provider, environment = line.dims
    return (
        member,
        agent,
        department,
        key,
        feature,
        model,
        provider,
        environment,
        json_text(line.tags) if line.tags else "{}",
    )


def json_text(value: Any) -> str:
    return _json.encode(value).decode()


def charges_json(charges: tuple[Charge, ...]) -> str:
    return json_text([(clean(charge.counter, 200), charge.unit, charge.amount) for charge in charges])


def fingerprint_of(text: str) -> int | None:
    """A fingerprint as the ledger keeps it; None for none and for what is none."""
    if len(text) != 16:
        return None
    try:
        return int.from_bytes(bytes.fromhex(text), "big", signed=True)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None

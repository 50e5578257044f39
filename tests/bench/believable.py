"""Calls of a product as its ledger sees them: 10,000 customers, 100,000 users, 100,000 sessions, most of each small.

Events are as the gateway writes them. One seed gives the same calls again, but for the moments, which end now.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from billing.domain.events import Basis, CallContext, Outcome, PriceStatus, encode
from billing.domain.keys import counter_suffix, value_digest

CUSTOMERS = 10_000
USERS = 100_000
SESSIONS = 100_000
MODELS = (
    ("openai", "gpt-4o-mini", 1),
    ("openai", "gpt-4.1", 20),
    ("anthropic", "claude-sonnet-4-5", 30),
    ("gemini", "gemini-2.5-flash", 3),
)
HOLD = "hold"
SETTLE = "settle"
Event = dict[str, str | bytes | int]


@dataclass(frozen=True)
class Who:
    """A workspace that calls, with a budget of its own by the month, one for each customer by the month and one for each key by the day."""

    workspace_id: int
    keys: tuple[str, ...]
    """Virtual key ids"""
    credential: str
    budgets: tuple[UUID, UUID, UUID]
    policy: str = "0198c0de00aa"


def calls(
    who: Who, count: int, *, first_ms: int, last_ms: int, seed: int = 1, sessions: int = SESSIONS
) -> Iterator[tuple[Event, Event]]:
    """(hold, settle) of so many calls, oldest first, evenly over the time. A session is ten calls or so that lie near each other."""
    dice = random.Random(seed)
    people = [_person(dice) for _ in range(sessions)]
    step = (last_ms - first_ms) / max(1, count)
    seq = 0
    months: dict[int, int] = {}
    for number in range(count):
        at_ms = int(first_ms + number * step)
        # Sessions that are open at once: a hundred or so, later ones join as earlier ones end.
        session = min(sessions - 1, max(0, int(number * sessions / count + dice.gauss(0, 40))))
        customer, user, session_id = people[session]
        key = who.keys[int(len(who.keys) * dice.random() ** 2)]
        provider, model, dear = MODELS[int(len(MODELS) * dice.random() ** 2)]
        fresh, cached, written = int(dice.lognormvariate(6.5, 0.9)), 0, int(dice.lognormvariate(5, 0.8))
        if dice.random() < 0.3:
            cached = fresh // 128 * 128
            fresh -= cached
        rate_in, rate_out = 150 * dear, 600 * dear  # nano-dollars a token
        cost = fresh * rate_in + cached * rate_in // 2 + written * rate_out
        held = cost * 3 + 1_000
        rid, call = _uuid7(dice, at_ms), _uuid7(dice, at_ms)
        tags = {"plan": ("pro", "team", "free")[len(customer) % 3 if customer[-1] > "7" else 0]}
        dims = {
            "customer": customer,
            "user": user,
            "session": session_id,
            "feature": f"feature-{int(12 * dice.random() ** 2)}",
            "environment": "production",
        }
        if number % 7 == 0:
            dims["agent"] = f"agent-{number % 21}"
        if number % 9 == 0:
            dims |= {
                "member": f"0198c0de-0000-7000-8000-0000000000{number % 45:02d}",
                "department": f"Department {number % 5}",
            }
        context = encode(CallContext(
            call=call, key=key, provider=provider, credential=who.credential, model=model, endpoint="/v1/chat/completions",
            dims=dims, tags=tags, price_version="2026-11-20", fingerprint=f"{dice.getrandbits(64):016x}",
        ))  # fmt: skip
        failed = dice.random() < 0.01
        outcome = encode(_outcome(dice, model, fresh, cached, written, dear, failed=failed))
        day, month = at_ms // 86_400_000 * 86_400_000, months.get(at_ms // 3_600_000) or _month(months, at_ms)
        counters = (
            counter_suffix(who.budgets[0], month),
            counter_suffix(who.budgets[1], month, value_digest(customer)),
            counter_suffix(who.budgets[2], day, value_digest(key)),
        )
        cost = 0 if failed else cost
        seq += 2
        hold: Event = {
            "k": HOLD, "w": who.workspace_id, "q": seq - 1, "r": rid, "t": at_ms, "c": 0, "h": held,
            "b": msgspec.json.encode([(name, "nano", held) for name in counters]), "x": context,
        }  # fmt: skip
        settle: Event = {
            "k": SETTLE, "w": who.workspace_id, "q": seq, "r": rid, "t": at_ms + 900, "c": cost, "h": held,
            "b": msgspec.json.encode([(name, "nano", cost) for name in counters]), "x": context, "p": outcome,
        }  # fmt: skip
        yield hold, settle


def _person(dice: random.Random) -> tuple[str, str, str]:
    """(customer, user, session id): customers are of very different sizes, their users less so."""
    customer = int(CUSTOMERS * dice.random() ** 2.2)
    user = (customer * 7919 + int((USERS // CUSTOMERS) * 2 * dice.random())) % USERS
    return f"cus_{customer:07d}", f"usr_{user:08d}", f"ses_{dice.getrandbits(64):016x}"


def _outcome(
    dice: random.Random, model: str, fresh: int, cached: int, written: int, dear: int, *, failed: bool
) -> Outcome:
    taken = int(dice.lognormvariate(7, 0.6))
    if failed:
        return Outcome(
            basis=Basis.MEASURED, price_status=PriceStatus.EXACT, http_status=500, error="provider_error",
            duration_ms=taken, overhead_us=int(dice.gauss(600, 80)), provider_request_id=f"req_{dice.getrandbits(96):024x}",
        )  # fmt: skip
    buckets = {"input_uncached": fresh, "output_text": written} | ({"cache_read": cached} if cached else {})
    raw = {
        "prompt_tokens": fresh + cached, "completion_tokens": written, "total_tokens": fresh + cached + written,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }  # fmt: skip
    rates = (
        ("input_uncached", fresh, 150 * dear),
        ("cache_read", cached, 75 * dear),
        ("output_text", written, 600 * dear),
    )
    return Outcome(
        basis=Basis.MEASURED, price_status=PriceStatus.EXACT, http_status=200, model_served=model,
        provider_request_id=f"chatcmpl-{dice.getrandbits(140):035x}", buckets=buckets,
        breakdown=[
            {"unit": unit, "quantity": count, "rate_per_m_usd": f"{nano / 1000:g}", "cost_usd": f"{count * nano / 1e9:.9f}".rstrip("0")}
            for unit, count, nano in rates if count
        ],
        context={"service_tier_served": "default"}, raw_usage=msgspec.Raw(msgspec.json.encode(raw)),
        first_byte_ms=taken // 4, duration_ms=taken, overhead_us=int(dice.gauss(600, 80)),
    )  # fmt: skip


def _uuid7(dice: random.Random, at_ms: int) -> str:
    return str(UUID(int=(at_ms << 80) | (7 << 76) | (dice.getrandbits(12) << 64) | (2 << 62) | dice.getrandbits(62)))


def _month(months: dict[int, int], at_ms: int) -> int:
    first = datetime.fromtimestamp(at_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months[at_ms // 3_600_000] = math.floor(first.timestamp()) * 1000
    return months[at_ms // 3_600_000]

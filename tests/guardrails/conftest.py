"""A workspace in the money Redis without PostgreSQL (`Bench`), and the whole gate on a committed cast (`gate`)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.domain import keys
from billing.domain.events import CallContext
from billing.domain.quote import Quote
from guardrails.demo import story
from guardrails.domain.periods import FOREVER_MS
from guardrails.gate import Gate, open_gate
from guardrails.limiter import control, store
from guardrails.limiter.limiter import Limiter
from guardrails.limiter.wire import NO_LIMIT, AdmitRequest, CounterAsk, RateAsk
from guardrails.policy import Grant
from workspaces.ids import uuid7

W = 42
CONTEXT = '{"call":"c","key":"k","provider":"simulator","model":"m","endpoint":"/v1/chat/completions"}'


def told_whole() -> datetime:
    """Now, or late in the last month while this one is young: until its tenth day the demo squeezes a month's story into the days there were,
    which is itself beyond every habit, and on its first the night of the runaway begins in the month before."""
    now = datetime.now(UTC)
    return now if now.day > story.WHOLE_AFTER_DAYS + 1 else now.replace(day=1) - timedelta(days=2)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def budget_suffix(number: int, start_ms: int = 0, value: str = "") -> str:
    return keys.counter_suffix(
        f"{number:08x}-0000-7000-8000-000000000000", start_ms, keys.value_digest(value) if value else ""
    )


def counter(number: int, amount: int, limit: int = NO_LIMIT, *, unit: str = "nano", **more: Any) -> CounterAsk:
    return CounterAsk(
        more.pop("suffix", budget_suffix(number)),
        unit,
        amount,
        limit,
        more.pop("start_ms", 0),
        more.pop("end_ms", FOREVER_MS),
        **more,
    )


def asking(
    budgets: list[CounterAsk], rates: list[RateAsk] | None = None, *, workspace: int = W, ver: int = 1, amount: int = 0
) -> AdmitRequest:
    amount = amount or next((budget.amount for budget in budgets if budget.unit == "nano"), 0)
    prefix = keys.partition_prefix(keys.partition_of(workspace))
    return AdmitRequest(prefix, str(workspace), str(uuid7()), 0, ver, 0, amount, 30_000, CONTEXT, budgets, rates or [])


@dataclass
class Bench:
    """Workspaces seeded by hand, and limiters on them."""

    url: str
    store: Any
    limiters: list[Limiter] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """What the ledger is said to know"""

    def seed(
        self, workspace: int = W, epoch: int = 1, counters: list[control.SeedCounter] | None = None, **more: Any
    ) -> None:
        seeds = counters or []
        control.begin_rebuild(self.store, workspace, epoch)
        control.wipe(self.store, workspace, epoch)
        control.seed(self.store, workspace, epoch, seeds, more.get("holds", []))
        control.commit_rebuild(
            self.store,
            workspace,
            epoch=epoch,
            seq=more.get("seq", 0),
            ver=more.get("ver", 1),
            state="active",
            counters=len(seeds),
        )

    def limiter(self, url: str = "", **options: Any) -> Limiter:
        async def known(workspace: int, rids: list[str]) -> set[str]:
            return self.known & set(rids)

        made = Limiter(
            store.connect(url or self.url),
            lost=lambda workspace, why: self.lost.append((workspace, why)),
            known_to_ledger=known,
            **options,
        )
        self.limiters.append(made)
        return made

    def counters(self, workspace: int = W) -> dict[str, tuple[int, int]]:
        return {c.suffix: (c.settled, c.held) for c in control.read_counters(self.store, workspace).values()}

    def events(self, workspace: int = W) -> list[dict[str, str]]:
        rows = self.store.xrange(keys.stream_key(keys.partition_of(workspace)))
        return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in rows]


@pytest.fixture
async def bench(money_redis_url: str) -> AsyncIterator[Bench]:
    made = Bench(money_redis_url, store.connect_sync(money_redis_url))
    made.seed()
    yield made
    for limiter in made.limiters:
        await limiter.close(1.0)
    made.store.close()


# --- With PostgreSQL --------------------------------------------------------------------------------------------------


def quote(
    amount_nano: int | None, *, out: int = 100, source: str = "client", tokens: int = 150, per_output: int = 0
) -> Quote:
    """A quote as billing.domain.quote makes it: `amount_nano` in all, `per_output` nano for each output token."""
    return Quote(
        amount_nano,
        input_tokens_bound=tokens - out,
        output_tokens_cap=out,
        output_limit_source=source,
        tokens_bound=tokens,
        refusal=None if amount_nano is not None else "model_not_priced: nobody knows",
        client_limit=out if source == "client" else None,
        _fixed=(amount_nano or 0) - per_output * out,
        _per_output=per_output,
        _denominator=1,
    )


def context_of(grant: Grant, **more: str) -> CallContext:
    facts = {"provider": "simulator", "model": "fake-ok", "endpoint": "/v1/chat/completions", **more}
    return CallContext(call=str(uuid7()), key=grant.key.id, **facts)


@pytest.fixture
async def gate(transactional_db: None) -> AsyncIterator[Gate]:
    opened = open_gate()
    yield opened
    await opened.close(2.0)


@pytest.fixture
def new_rid() -> Callable[[], str]:
    return lambda: str(uuid7())


@pytest.fixture
def money(money_redis_url: str) -> Iterator[Any]:
    client = store.connect_sync(money_redis_url)
    yield client
    client.close()

"""The gate: admission, policies, limiter and recovery wired together for one event loop. What a gateway process opens and closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial

from django.conf import settings

from guardrails import actions
from guardrails.admission import Admission
from guardrails.admitted import Admitted
from guardrails.free_calls import FreeCalls
from guardrails.full_budgets import FullBudgets
from guardrails.limiter import store
from guardrails.limiter.connection import async_store
from guardrails.limiter.limiter import Limiter
from guardrails.policy import PolicyStore
from guardrails.presence import Presence, booked
from guardrails.recovery import Recovery
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces.errors import Refused

log = logging.getLogger(__name__)

BOOKS_S = 2.0


@dataclass(slots=True)
class Gate:
    admission: Admission
    policies: PolicyStore
    limiter: Limiter
    recovery: Recovery
    free_calls: FreeCalls
    full: FullBudgets
    presence: Presence
    _reader: asyncio.Task[None]

    async def ready(self) -> str:
        """Empty when calls can be admitted, else why not (for `/readyz`)."""
        return await self.limiter.ready()

    async def close(self, timeout_s: float = 5.0) -> None:
        """After the calls have ended: deliver what is left to finish."""
        await self.limiter.close(timeout_s)
        await self.full.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.recovery.close()
        await asyncio.to_thread(self.presence.stop)
        await self.policies.close()


def open_gate(redis: store.AsyncStore | None = None) -> Gate:
    """Must be called inside the event loop that will use it."""
    bars: set[asyncio.Task[None]] = set()

    def over(admitted: Admitted, cost_nano: int) -> None:
        log.error(
            "attempt %s cost %d nano, more than its hold of %d: %s is barred from hard budgets",
            admitted.rid, cost_nano, admitted.hold_nano, admitted.context.model,
        )  # fmt: skip
        task = asyncio.ensure_future(_bar(admitted, cost_nano))
        bars.add(task)
        task.add_done_callback(bars.discard)

    def seen(workspace_id: int) -> int:
        return limiter.seen(workspace_id).epoch

    recovery = Recovery(seen)
    money = redis or async_store()
    presence = Presence()
    presence.start()
    limiter = Limiter(money, lost=recovery.lost, known_to_ledger=recovery.known_to_ledger, presence=presence)
    limiter.start()
    policies = PolicyStore()
    full = FullBudgets()
    admission = Admission(
        limiter, policies, heal=recovery.heal, over=over, refused=full.refused, public_url=settings.PUBLIC_URL
    )
    reader = asyncio.ensure_future(_read_how_far_the_books_are(limiter))
    return Gate(admission, policies, limiter, recovery, FreeCalls(money, policies), full, presence, reader)


async def _read_how_far_the_books_are(limiter: Limiter) -> None:
    """For as long as the gate is open. While PostgreSQL is away nothing is forgotten."""
    while True:
        await asyncio.sleep(BOOKS_S)
        remembered = limiter.remembered()
        if remembered:
            with contextlib.suppress(*DATABASE_AWAY):
                limiter.booked(await in_thread(partial(booked, remembered)))


async def _bar(admitted: Admitted, cost_nano: int) -> None:
    context = admitted.context

    def bar() -> None:
        actions.bar_model(
            workspace=admitted.grant.policy.workspace,
            provider=context.provider,
            model=context.model,
            rid=admitted.rid,
            held_nano=admitted.hold_nano,
            cost_nano=cost_nano,
        )

    try:
        await in_thread(bar)
    except (*DATABASE_AWAY, Refused) as error:  # the entry's flag "over" still tells of it
        log.error("model %s not barred: %s", context.model, error)

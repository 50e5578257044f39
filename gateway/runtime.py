"""The parts of one gateway process, wired for one event loop: made at start-up, closed after the last call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from psycopg_pool import PoolTimeout

from billing.domain.book import PriceBook
from billing.prices import default_book
from gateway.forward import Forwarder
from gateway.streaming import Drains
from gateway.upstream import Door, Limits
from guardrails.admission import Admission
from guardrails.limiter import store
from guardrails.limiter.connection import async_store, sync_store
from guardrails.limiter.limiter import Limiter
from guardrails.policy import PolicyStore
from guardrails.recovery import Recovery

DATABASE_CHECK_S = 2.0
DATABASE_AWAY = (DatabaseError, InterfaceError, PoolTimeout)


@dataclass(slots=True)
class Runtime:
    """What a call needs. `running` counts the calls under way."""

    door: Door
    forwarder: Forwarder
    limiter: Limiter
    recovery: Recovery
    policies: PolicyStore
    admission: Admission
    book: PriceBook
    max_body_bytes: int
    max_calls: int
    drains: Drains = field(default_factory=Drains)
    running: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _database_checked_at: float = 0.0
    _database_answers: bool = False

    @classmethod
    def start(cls) -> Runtime:
        """Inside the event loop that will serve."""
        door = Door()
        limiter: Limiter
        recovery = Recovery(lambda workspace_id: _seen(limiter, workspace_id))
        limiter = Limiter(
            async_store(),
            lost=lambda workspace_id, reason: _lost(recovery, workspace_id, reason),
            known_to_ledger=recovery.known_to_ledger,
        )
        policies = PolicyStore()
        limits = Limits(
            first_byte_s=settings.UPSTREAM_FIRST_BYTE_S,
            idle_s=settings.UPSTREAM_IDLE_S,
            total_s=settings.UPSTREAM_TOTAL_S,
        )
        return cls(
            door=door,
            forwarder=Forwarder(door, limits),
            limiter=limiter,
            recovery=recovery,
            policies=policies,
            admission=Admission(limiter, policies, heal=recovery.heal, public_url=settings.PUBLIC_URL),
            book=default_book(),
            max_body_bytes=settings.MAX_BODY_BYTES,
            max_calls=settings.MAX_CONCURRENT_CALLS,
        )

    def enter(self) -> None:
        self.running += 1
        self._idle.clear()

    def leave(self) -> None:
        self.running -= 1
        if self.running == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when no call is under way."""
        if self.running:
            await self._idle.wait()

    async def close(self) -> None:
        """After the last call ended: hand every finish to the budget store, then let go of connections."""
        await self.limiter.close()
        await self.recovery.close()
        await self.door.close()

    async def not_ready(self) -> str:
        """Why calls cannot be admitted now; empty when they can. PostgreSQL is only needed for what is not in memory."""
        if not await _within(2.0, _ask_store):
            return "the budget store does not answer"
        if not await self._database():
            return "" if self.policies.holds_any else "the database does not answer and no policy is in memory"
        return ""

    async def _database(self) -> bool:
        now = time.monotonic()
        if now - self._database_checked_at > DATABASE_CHECK_S:
            self._database_checked_at = now
            self._database_answers = await _within(2.0, _ask_database)
        return self._database_answers


def _seen(limiter: Limiter, workspace_id: int) -> tuple[int, int]:
    fence = limiter.seen(workspace_id)
    return fence.epoch, fence.seq


def _lost(recovery: Recovery, workspace_id: int, reason: str) -> None:
    recovery.lost(workspace_id, reason)


async def _within(seconds: float, ask: Callable[[], bool]) -> bool:
    """A blocking question asked in a thread; no answer in time is a no."""
    try:
        async with asyncio.timeout(seconds):
            return await sync_to_async(ask, thread_sensitive=False)()
    except TimeoutError:
        return False


def _ask_store() -> bool:
    return store.answers(sync_store())


def _ask_database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except DATABASE_AWAY:
        return False
    finally:
        connection.close()

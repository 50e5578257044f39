"""The parts of one gateway process, wired for one event loop: made at start-up, closed after the last call."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection

from billing.domain.pricing import PriceBook
from billing.prices import default_book
from gateway import pages
from gateway.afterwards import Afterwards
from gateway.forward import Forwarder
from gateway.hop.health import Health
from gateway.keeping import Keeper
from gateway.streaming import Drains
from gateway.uploads import Room
from gateway.upstream import Door, Limits
from guardrails.gate import Gate, open_gate
from guardrails.threads import DATABASE_AWAY, in_thread

DATABASE_CHECK_S = 2.0
COLLECT_AFTER = (20_000, 20, 50)
"""Net allocations before young, middle and old objects are searched for garbage: a call makes hardly any cycles, and 20,000 objects are
a few megabytes at most."""


@dataclass(slots=True)
class Runtime:
    """What a call needs. `running` counts the calls under way."""

    door: Door
    forwarder: Forwarder
    gate: Gate
    book: PriceBook
    max_body_bytes: int
    max_calls: int
    uploads: Room
    keeper: Keeper
    afterwards: Afterwards
    drains: Drains = field(default_factory=Drains)
    health: Health = field(default_factory=Health)
    running: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _database_checked_at: float = 0.0
    _database_answers: bool = False

    @classmethod
    def start(cls) -> Runtime:
        """Inside the event loop that will serve."""
        door = Door()
        limits = Limits(
            first_byte_s=settings.UPSTREAM_FIRST_BYTE_S,
            idle_s=settings.UPSTREAM_IDLE_S,
            total_s=settings.UPSTREAM_TOTAL_S,
        )
        gate, forwarder, keeper = open_gate(), Forwarder(door, limits), Keeper()
        afterwards = Afterwards(gate, forwarder, keeper)
        afterwards.watch()
        return cls(
            door=door,
            forwarder=forwarder,
            gate=gate,
            keeper=keeper,
            afterwards=afterwards,
            book=default_book(),
            max_body_bytes=settings.MAX_BODY_BYTES,
            max_calls=settings.MAX_CONCURRENT_CALLS,
            uploads=Room(settings.MAX_UPLOAD_BYTES, settings.UPLOAD_MEMORY_BYTES),
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
        await self.health.close()
        await self.afterwards.close()
        await self.keeper.close()
        await self.gate.close()
        await self.forwarder.close()
        await self.door.close()

    async def not_ready(self) -> str:
        """Why calls cannot be admitted now; empty when they can. PostgreSQL is only needed for what is not in memory."""
        reason = await self.gate.ready()
        if not reason and not self.gate.policies.holds_any and not await self._database():
            reason = "the database does not answer and no policy is in memory"
        return reason

    async def _database(self) -> bool:
        now = time.monotonic()
        if now - self._database_checked_at > DATABASE_CHECK_S:
            self._database_checked_at = now
            try:
                async with asyncio.timeout(2):
                    self._database_answers = await in_thread(_ask_database)
            except (TimeoutError, *DATABASE_AWAY):
                self._database_answers = False
        return self._database_answers


def settle_memory() -> None:
    """Once, after start-up: what the process has by now (code, models, price lists) it keeps, so no later search for garbage looks there, and
    it stands in large pages."""
    gc.collect()
    gc.freeze()
    pages.enlarge()
    gc.set_threshold(*COLLECT_AFTER)


def _ask_database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True

"""The nemesis: one fault after another by a seeded schedule, each undone before the next, each with the window in which it may show.

What nothing survives by design is not combined: for some seconds after the money Redis forgot something no gateway is killed, and it forgets
nothing before the books have what a gateway that died had told it; for what Redis lost is then only in the memory of gateways.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import psycopg
from redis.exceptions import RedisError

from tests.rig.books import CapWatch
from tests.rig.processes import Process, Stack
from tests.rig.skewed import shift
from tests.rig.tcp_proxy import PASS, Fault, TcpProxy, black_hole, cut, delay, half_open, resets

DEADLY = ("gateway kill -9", "gateway SIGTERM")
FORGETFUL = ("redis FLUSHALL", "redis loses a counter", "redis comes back older")
REMEMBERED_S = 12.0
"""No gateway dies so long after Redis lost something: time to present again what it forgot."""
CLOCK_JUMPS_S = (-40 * 86400, -3600, -7, 7, 3600, 40 * 86400)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end` (wall clock) this gateway's connections may break."""

    port: int
    start: float
    end: float


@dataclass
class Victim:
    """What an administrator may do to a tenant while it calls."""

    workspace: int
    watch: CapWatch
    budget: str
    """Its cap is lowered, and put back"""
    cap_usd: str
    lower_usd: str
    doomed: list[tuple[str, str]]
    """(id, text) of keys that may be revoked"""


@dataclass
class Nemesis:
    stack: Stack
    rng: random.Random
    log: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    forgot_at: float = 0.0
    died: dict[int, str] = field(default_factory=dict)
    """Partition -> the newest event when a gateway last died, until the books have it."""
    tenants: Sequence[Victim] = ()
    revoked: dict[str, float] = field(default_factory=dict)
    """Key text -> when its revocation was acknowledged."""

    def __post_init__(self) -> None:
        stack = self.stack
        self._began = time.monotonic()
        self._actions: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "gateway kill -9": (3, self.kill_gateway),
            "gateway SIGTERM": (2, self.deploy_gateway),
            "gateway SIGSTOP": (2, self.pause_gateway),
            "worker kill -9": (3, self.kill_worker),
            "redis kill -9": (3, self.kill_redis),
            "redis SIGSTOP": (2, self.pause_redis),
            "redis FLUSHALL": (2, self.flush_redis),
            "redis loses a counter": (2, self.lose_counter),
            "redis comes back older": (2, self.older_redis),
            "postgres kill -9": (3, self.kill_postgres),
            "redis wire slow": (2, lambda: self._break(stack.redis_wire, delay(self.rng.uniform(0.02, 0.3)), 3)),
            "redis wire black hole": (2, lambda: self._break(stack.redis_wire, black_hole(), 4)),
            "redis wire half open": (2, lambda: self._break(stack.redis_wire, half_open(), 3)),
            "redis wire resets": (1, lambda: self._break(stack.redis_wire, resets(), 1)),
            "provider wire resets": (1, lambda: self._break(stack.provider_wire, resets(), 0.5)),
            "provider wire cuts": (1, lambda: self._break(stack.provider_wire, cut(self.rng.randint(50, 3000)), 1)),
            "provider wire black hole": (1, lambda: self._break(stack.provider_wire, black_hole(), 2)),
            "postgres wire black hole": (2, lambda: self._break(stack.postgres_wire, black_hole(), 4)),
            "postgres wire resets": (1, lambda: self._break(stack.postgres_wire, resets(), 1)),
            "stream read again": (2, self.redeliver),
            "events repeated out of order": (2, self.repeat_events),
            "gateway's clock jumps": (2, self.jump_clock),
            "cap lowered and put back": (2, self.edit_cap),
            "key revoked": (2, self.revoke_key),
        }

    async def run(self, until: asyncio.Event, *, rest_s: tuple[float, float] = (1.0, 4.0)) -> None:
        """Fault after fault until told to stop; each kind comes once before any comes twice."""
        deck: list[str] = []
        while not until.is_set():
            if not deck:
                deck = [
                    name
                    for name, (weight, _) in self._actions.items()
                    if self.rng.random() < weight / 3 or not self.counts.get(name)
                ]
                self.rng.shuffle(deck)
            name = deck.pop()
            if name in DEADLY and time.monotonic() - self.forgot_at < REMEMBERED_S:
                deck.insert(0, name)
                await asyncio.sleep(0.5)
                continue
            if name in FORGETFUL and not await asyncio.to_thread(self._books_have_the_dead):
                deck.insert(0, name)
                await asyncio.sleep(0.5)
                continue
            self.note(name)
            self.counts[name] = self.counts.get(name, 0) + 1
            await self._actions[name][1]()
            try:
                await asyncio.wait_for(until.wait(), self.rng.uniform(*rest_s))
            except TimeoutError:
                continue

    def note(self, what: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self._began:7.1f} s  {what}")

    def explains(self, port: int, start: float, end: float) -> bool:
        """Whether a gateway was dead or paused while a call was under way, or just before."""
        return any(w.port == port and start <= w.end and w.start <= end for w in self.windows)

    # processes
    async def kill_gateway(self) -> None:
        gateway = self.rng.choice(self.stack.gateways)
        began = time.time() - 0.5
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(self._remember_the_dead)
        await asyncio.sleep(self.rng.uniform(0, 2))
        await self._again(gateway)
        self.windows.append(Window(gateway.port, began, time.time() + 0.5))

    async def deploy_gateway(self) -> None:
        gateway = self.rng.choice(self.stack.gateways)
        began = time.time() - 0.5
        await asyncio.to_thread(gateway.stop, 45)
        await asyncio.to_thread(self._remember_the_dead)
        await self._again(gateway)
        self.windows.append(Window(gateway.port, began, time.time() + 0.5))

    def _remember_the_dead(self) -> None:
        """What a dead gateway had told Redis ends here."""
        try:
            with self.stack.money() as client:
                for key in client.scan_iter(match="sl:{p*}:out"):
                    for id_, _ in client.xrevrange(key, count=1):
                        self.died[int(key[5:7])] = id_.decode()
        except RedisError as error:
            self.note(f"  not known what the books must have: {error}")

    def _books_have_the_dead(self) -> bool:
        try:
            with psycopg.connect(self.stack.postgres.admin_url("sluice"), connect_timeout=2) as admin:
                booked = dict(admin.execute("SELECT partition, last_id FROM billing_stream_offset").fetchall())
        except psycopg.Error:
            return False
        self.died = {p: last for p, last in self.died.items() if _id(booked.get(p, "")) < _id(last)}
        return not self.died

    async def jump_clock(self) -> None:
        """A gateway whose clock differs from Redis' by more than five seconds admits nothing, until it is right again."""
        gateway = self.rng.choice(self.stack.gateways)
        if gateway.clock is None:
            return
        shift(gateway.clock, self.rng.choice(CLOCK_JUMPS_S))
        await asyncio.sleep(self.rng.uniform(1, 4))
        shift(gateway.clock, 0)

    # administrators
    async def edit_cap(self) -> None:
        """From its acknowledgement on, a lowered cap is in force on every gateway."""
        if not self.tenants:
            return
        victim = self.rng.choice(self.tenants)
        await self._set_cap(victim, victim.lower_usd)
        victim.watch.change(victim.budget, int(Decimal(victim.lower_usd) * 10**9))
        await asyncio.sleep(self.rng.uniform(1, 4))
        victim.watch.change(victim.budget, None)
        await self._set_cap(victim, victim.cap_usd)

    async def _set_cap(self, victim: Victim, cap_usd: str) -> None:
        given = {"workspace": victim.workspace, "budget": victim.budget, "cap": cap_usd}
        await asyncio.to_thread(self.stack.ask, "cap", given=given)

    async def revoke_key(self) -> None:
        victims = [victim for victim in self.tenants if victim.doomed]
        if not victims:
            return
        victim = self.rng.choice(victims)
        identity, text = victim.doomed.pop()
        await asyncio.to_thread(self.stack.ask, "revoke", given={"workspace": victim.workspace, "key": identity})
        self.revoked[text] = time.time()

    async def pause_gateway(self) -> None:
        gateway = self.rng.choice(self.stack.gateways)
        began = time.time()
        gateway.pause()
        await asyncio.sleep(self.rng.uniform(2, 7))
        gateway.resume()
        self.windows.append(Window(gateway.port, began, time.time() + 2))

    async def kill_worker(self) -> None:
        worker = self.rng.choice(self.stack.workers)
        await asyncio.to_thread(worker.kill)
        await asyncio.sleep(self.rng.uniform(0, 3))
        await self._again(worker)

    async def _again(self, process: Process) -> None:
        process.launch()
        await asyncio.to_thread(process.wait)

    # stores
    async def kill_redis(self) -> None:
        store = self.stack.redis
        await asyncio.to_thread(store.kill)
        await asyncio.sleep(self.rng.uniform(0, 3))
        store.launch()
        await asyncio.to_thread(store.wait)

    async def pause_redis(self) -> None:
        store = self.stack.redis.process
        if store is None:
            return
        store.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(0.5, 5))
        store.send_signal(signal.SIGCONT)

    async def flush_redis(self) -> None:
        self.forgot_at = time.monotonic()
        with self.stack.money() as client:
            await asyncio.to_thread(client.flushall)

    async def lose_counter(self) -> None:
        self.forgot_at = time.monotonic()
        with self.stack.money() as client:
            counters = sorted(await asyncio.to_thread(lambda: list(client.scan_iter(match="sl:*:b:*"))))
            if counters:
                await asyncio.to_thread(client.delete, self.rng.choice(counters))

    async def older_redis(self) -> None:
        """An append-only file of some seconds ago is put back, as a backup or a replica that lagged would be."""
        store = self.stack.redis
        there, kept = store.home / "appendonlydir", store.home / "older"
        await asyncio.to_thread(_copy, there, kept)
        await asyncio.sleep(self.rng.uniform(1, 3))
        await asyncio.to_thread(store.kill)
        self.forgot_at = time.monotonic()
        shutil.rmtree(there)
        kept.rename(there)
        store.launch()
        await asyncio.to_thread(store.wait)
        self.forgot_at = time.monotonic()

    async def kill_postgres(self) -> None:
        postgres = self.stack.postgres
        await asyncio.to_thread(postgres.kill)
        await asyncio.sleep(self.rng.uniform(0, 3))
        postgres.launch()
        await asyncio.to_thread(postgres.wait)

    # delivery
    async def redeliver(self) -> None:
        """The writer forgets where it was and reads every stream from its beginning."""

        def rewind() -> None:
            with psycopg.connect(self.stack.postgres.admin_url("sluice"), autocommit=True) as admin:
                admin.execute("UPDATE billing_stream_offset SET last_id = '', last_seal = ''")

        await asyncio.to_thread(rewind)

    async def repeat_events(self) -> None:
        """Old events come once more at the end of their stream, in another order."""

        def repeat() -> None:
            with self.stack.money() as client:
                for key in client.scan_iter(match="sl:{p*}:out"):
                    entries = client.xrange(key, count=200)
                    for _, fields in self.rng.sample(entries, min(20, len(entries))):
                        client.xadd(key, fields)

        try:
            await asyncio.to_thread(repeat)
        except RedisError as error:
            self.note(f"  not repeated: {error}")

    # wires
    async def _break(self, wire: TcpProxy, fault: Fault, longest_s: float) -> None:
        wire.fault = fault
        await asyncio.sleep(self.rng.uniform(0.3, 1) * longest_s)
        wire.fault = PASS


def _id(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds or 0), int(number or 0)


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)

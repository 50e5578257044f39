"""A chaos run from an empty folder to the auditor's verdict: installation, load, nemesis, healing, rest, audit."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from billing.domain.keys import partition_of, partition_prefix
from tests.chaos import kill_points, traffic
from tests.rig import auditor, processes
from tests.rig.auditor import Evidence, Finding
from tests.rig.books import CapWatch, Counters, read_counters, read_ledger
from tests.rig.load import Answer, Call, flow, make
from tests.rig.nemesis import Nemesis, Victim
from tests.rig.processes import Stack

LIMITS = {
    "SLUICE_FIRST_BYTE_SECONDS": "4",
    "SLUICE_IDLE_SECONDS": "4",
    "SLUICE_TOTAL_SECONDS": "30",
    "SLUICE_DRAIN_SECONDS": "20",
}
HEALED_WITHIN_S = 30.0
MOST_RSS = 700 << 20
MOST_FILES = 6000
MOST_STREAM = 200_000
PROVIDER_KEY = "sk-canary-provider-key-5f1d0c"
CUSTOMER_CAP_USD = "0.02"
LOWERED_CAP_USD = "0.008"
DOOMED_KEYS = 6
"""Of each tenant: what the nemesis may revoke"""


@dataclass
class Outcome:
    seed: int
    findings: list[Finding]
    answers: list[Answer]
    faults: dict[str, int]
    schedule: list[str]
    seconds: float
    healed_s: float
    assumed: int
    charged: int

    @property
    def passed(self) -> bool:
        return self.charged > 0 and all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        statuses = Counter(answer.kind for answer in self.answers)
        return "\n".join(
            [
                auditor.show(self.findings, seed=self.seed),
                f"{len(self.answers)} calls in {self.seconds:.0f} s, healed in {self.healed_s:.1f} s",
                f"charged {self.charged} attempts, {self.assumed} of them assumed",
                "faults: " + ", ".join(f"{name} x{times}" for name, times in sorted(self.faults.items())),
                "answers: " + ", ".join(f"{what} x{times}" for what, times in statuses.most_common(14)),
            ]
        )


@dataclass
class Gauges:
    """Looks at the gateways' memory and files every second (I10)."""

    stack: Stack
    above: list[str] = field(default_factory=list)
    highest_rss: int = 0

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            for gateway in self.stack.gateways:
                if gateway.alive:
                    self._look(gateway.name, gateway.pid)

    def _look(self, name: str, pid: int) -> None:
        try:
            seen = psutil.Process(pid)
            rss, files = seen.memory_info().rss, seen.num_fds()
        except psutil.Error:
            return  # it was killed this very moment
        self.highest_rss = max(self.highest_rss, rss)
        if rss > MOST_RSS:
            self.above.append(f"{name}: {rss >> 20} MB")
        if files > MOST_FILES:
            self.above.append(f"{name}: {files} open files")


def chaos(
    home: Path, *, seed: int, calls: int, per_second: float = 60.0, faults: bool = True, short: bool = False
) -> Outcome:
    """One run in `home`, an empty folder. Blocks; must be called from the main thread (processes are started there). `short`: faults
    follow each other closely, and abandoned holds do not wait for their leases to end."""
    began = time.monotonic()
    rng = random.Random(seed)
    with processes.installation(home) as stack:
        stack.environment.update(LIMITS)
        tenants, worlds = _tenants(stack)
        stack.start_gateways(2)
        stack.launch_worker()
        caps = {budget["id"]: budget["cap"] for world in worlds for budget in world["budgets"]}
        run = asyncio.run(_run(stack, rng, tenants, worlds, caps, calls, per_second, faults, short))
        answers, nemesis, gauges, breaches, unhealed, healed_s = run
        (kill_points.settle_at_once if short else kill_points.settle_down)(stack)
        stack.stop_apps()
        with stack.money() as client:
            counters = read_counters(client)
            lengths = sum(client.xlen(key) for key in client.scan_iter(match="sl:{p*}:out"))
        ledger = read_ledger(stack.database_url)
        if lengths > MOST_STREAM:
            gauges.above.append(f"{lengths} stream entries")
        evidence = Evidence(
            invoice=stack.simulator.invoice(),
            ledger=ledger,
            counters=counters,
            caps=caps,
            answers=answers,
            breaches=breaches,
            revoked=nemesis.revoked,
            differences=_differences(stack, worlds, counters),
            canaries={tenant.name: tenant.canary for tenant in tenants},
            secrets={
                "the provider key": PROVIDER_KEY,
                **{f"a virtual key of {tenant.name}": key for tenant in tenants for key in tenant.keys},
                **{f"a prompt of {tenant.name}": tenant.canary for tenant in tenants},
            },
            files=home,
            liveness=[*unhealed, *_unexplained(answers, nemesis)],
            unbounded=gauges.above,
        )
        charges = [row for row in ledger.rows if row.leg == 0 and row.state != "void"]
        return Outcome(
            seed,
            auditor.audit(evidence),
            answers,
            nemesis.counts,
            nemesis.log,
            time.monotonic() - began,
            healed_s,
            sum(row.basis == "assumed" for row in charges),
            len(charges),
        )


def _differences(stack: Stack, worlds: list[dict[str, Any]], before: Counters) -> list[str]:
    """What `reconcile` says of each workspace; then the money Redis is emptied, and the counters rebuilt from the books must be what they were."""
    found = []
    for world in worlds:
        found += [f"reconcile: {what}" for what in stack.ask("reconcile", given={"workspace": world["id"]})]
    with stack.money() as client:
        client.flushall()
        for world in worlds:
            stack.ask("rebuild", given={"workspace": world["id"]})
        after = read_counters(client)
    for what, was, now in (("settled", before.settled, after.settled), ("held", before.held, after.held)):
        for key in was.keys() | now.keys():
            if was.get(key, 0) != now.get(key, 0):
                found.append(f"{key[1]}: {what} {was.get(key, 0)}, after a replay of the books {now.get(key, 0)}")
    return found


def _tenants(stack: Stack) -> tuple[list[traffic.Tenant], list[dict[str, Any]]]:
    tenants, worlds = [], []
    for name in ("acme", "globex"):
        budgets = [
            {"period": "day", "cap": "5000", "throttle_percent": None},
            {"period": "total", "cap": CUSTOMER_CAP_USD, "scope": "customer", "value": None, "throttle_percent": None},
            {"period": "month", "cap": "2000", "scope": "feature", "value": None, "throttle_percent": None},
            {
                "period": "hour",
                "unit": "calls",
                "cap": 1_000_000,
                "scope": "virtual_key",
                "value": None,
                "throttle_percent": None,
            },
        ]
        world = stack.ask(
            "make",
            given={
                "slug": name,
                "provider_url": stack.provider_url,
                "provider_key": f"{PROVIDER_KEY}-{name}",
                "keys": 2 + DOOMED_KEYS,
                "budgets": budgets,
            },
        )
        worlds.append(world)
        tenants.append(
            traffic.Tenant(
                name,
                tuple(key["text"] for key in world["keys"]),
                f"canary-{name}-{random.Random(name).getrandbits(48):x}",
            )
        )
    return tenants, worlds


async def _run(
    stack: Stack,
    rng: random.Random,
    tenants: list[traffic.Tenant],
    worlds: list[dict[str, Any]],
    caps: dict[str, int],
    calls: int,
    per_second: float,
    faults: bool,
    short: bool,
) -> tuple[list[Answer], Nemesis, Gauges, list[str], list[str], float]:
    gauges = Gauges(stack)
    watches = [
        CapWatch(stack.money(), world["id"], partition_prefix(partition_of(world["id"])), caps) for world in worlds
    ]
    victims = [
        Victim(
            world["id"],
            watch,
            world["budgets"][1]["id"],
            CUSTOMER_CAP_USD,
            LOWERED_CAP_USD,
            [(key["id"], key["text"]) for key in world["keys"][2:]],
        )
        for world, watch in zip(worlds, watches, strict=True)
    ]
    nemesis = Nemesis(stack, random.Random(rng.getrandbits(64)), tenants=victims)
    over = asyncio.Event()
    ports = [gateway.port for gateway in stack.gateways]
    for watch in watches:
        watch.__enter__()
    looking = asyncio.create_task(gauges.watch())
    breaking = asyncio.create_task(nemesis.run(over, rest_s=(0.3, 1.2) if short else (1.0, 4.0))) if faults else None
    try:
        wanted = traffic.calls(rng, tenants=tenants, ports=ports, count=calls)
        answers = await flow(wanted, at_once=150, per_second=per_second)
        over.set()
        if breaking is not None:
            await breaking
        unhealed, healed_s = await _probe(stack, tenants, nemesis)
    finally:
        over.set()
        looking.cancel()
        for watch in watches:
            await asyncio.to_thread(watch.__exit__)
    breaches = [breach for watch in watches for breach in watch.breaches]
    return answers, nemesis, gauges, breaches, unhealed, healed_s


async def _probe(stack: Stack, tenants: list[traffic.Tenant], nemesis: Nemesis) -> tuple[list[str], float]:
    """I8: after the last fault every gateway admits again in time, and from then on refuses nobody who has money left."""
    began = time.monotonic()
    wrong: list[str] = []
    waiting = [(gateway, tenant) for gateway in stack.gateways for tenant in tenants]
    while waiting and time.monotonic() - began < HEALED_WITHIN_S:
        still = []
        for gateway, tenant in waiting:
            answer = await make(_fresh(gateway.port, tenant, "probe"))
            if answer.status != 200:
                still.append((gateway, tenant))
        waiting = still
        await asyncio.sleep(0.1)
    healed_s = time.monotonic() - began
    wrong += [
        f"{gateway.name} does not admit for {tenant.name} after {HEALED_WITHIN_S:.0f} s" for gateway, tenant in waiting
    ]
    after = [
        _fresh(gateway.port, tenant, f"after-{n}")
        for n in range(25)
        for gateway in stack.gateways
        for tenant in tenants
    ]
    refused = Counter(answer.kind for answer in await flow(after, at_once=10) if answer.status != 200)
    wrong += [f"refused after healing: {what} x{times}" for what, times in refused.items()]
    return wrong, healed_s


def _fresh(port: int, tenant: traffic.Tenant, customer: str) -> Call:
    """A plain call of a customer who has spent nothing yet."""
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
    headers = (("Authorization", f"Bearer {tenant.keys[0]}"), ("Sluice-Customer", customer))
    return Call(port, json.dumps(body).encode(), headers=headers, label=f"{tenant.name}/after", patience_s=20)


def _unexplained(answers: list[Answer], nemesis: Nemesis) -> list[str]:
    """Connections that broke although their gateway was neither killed nor paused, and failures that nobody asked for."""
    found: Counter[str] = Counter()
    for answer in answers:
        if answer.hung_up:
            continue
        broke = answer.status == 0 or not answer.complete
        end = answer.started_at + max(answer.seconds, 0.0) if answer.started_at else time.time()
        if broke and not nemesis.explains(answer.call.port, answer.started_at or 0.0, end):
            script = answer.call.label.partition("/")[2]
            found[
                f"{answer.status} {answer.error} on {script} (call {answer.call_id or 'unknown'}, {answer.seconds:.1f} s)"
            ] += 1
        if answer.status == 500 and (answer.error_object or {}).get("code") == "internal_error":
            found[f"the gateway failed on {answer.call.label.partition('/')[2]}"] += 1
    return [f"{what} x{times}" for what, times in found.items()]

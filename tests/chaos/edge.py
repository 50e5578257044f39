"""A burst at the edge of a cap: seven budgets match every call, one of them binds, and exactly as many calls pass as fit.

The provider answers only after the whole burst was decided, so nothing is settled meanwhile and the right number can be said beforehand:
as many as fit at the hold by bytes, and in what is then left as many as fit at the counted hold (admission counts only when it must).
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psutil

from billing.domain.keys import partition_of, partition_prefix
from tests.rig.books import CapWatch
from tests.rig.load import Answer, Call, burst, make
from tests.rig.processes import Installation

SCOPES: tuple[tuple[str, str | None], ...] = (
    ("", ""),
    ("virtual_key", None),
    ("customer", "acme-1"),
    ("feature", "search"),
    ("user", None),
    ("model", "sim-small"),
    ("tag:team", "blue"),
)
PERIODS = ("hour", "day", "week", "month", "total", "day", "month")
ATTRIBUTION = (
    ("Sluice-Customer", "acme-1"),
    ("Sluice-Feature", "search"),
    ("Sluice-User", "u-1"),
    ("Sluice-Tags", "team=blue"),
)
ANSWER_AFTER_MS = 4000
REFUSAL_WITHIN_S = 2.0
"""On two cores that do nothing else; `patience_s` stretches it where others have a share of them."""


@dataclass(repr=False)
class Edge:
    """What a burst came to."""

    seed: int
    binding: int
    unit: str
    cap: int
    hold: int
    expected: int
    answers: list[Answer]
    breaches: list[str]
    looks: int
    workspace: int
    caps: dict[str, int]
    units: dict[str, str]
    processor_s: float
    """CPU time of both gateways from the first call to the last answer"""

    @property
    def admitted(self) -> int:
        return sum(answer.status == 200 for answer in self.answers)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(
            f"{answer.status} {(answer.error_object or {}).get('code', answer.error)}".strip()
            for answer in self.answers
        )

    @property
    def slowest_refusal_s(self) -> float:
        return max((answer.seconds for answer in self.answers if answer.status == 402), default=0.0)

    def __repr__(self) -> str:
        scope = SCOPES[self.binding][0] or "workspace"
        return (
            f"seed {self.seed}: {scope} budget of {self.cap} {self.unit}, hold {self.hold}: {self.expected} fit, "
            f"{self.admitted} of {len(self.answers)} passed; {dict(self.statuses)}; slowest refusal {self.slowest_refusal_s:.2f} s, "
            f"{self.processor_s * 1e6 / max(len(self.answers), 1):.0f} us of the gateways' CPU a call"
        )


async def run(site: Installation, *, seed: int, calls: int) -> Edge:
    """One burst over all gateways of the site, in a workspace of its own."""
    rng = random.Random(seed)
    body = json.dumps(
        {
            "model": "sim-small",
            "messages": [{"role": "user", "content": f"[[sim:slow first_ms={ANSWER_AFTER_MS}]] the edge of the cap"}],
            "max_tokens": rng.choice((20, 64, 200)),
        }
    ).encode()
    hold = await _held(site, body, f"probe-{seed}", {"usd": 9 * 10**12, "tokens": 10**9})
    counted = await _held(site, body, f"tight-{seed}", {unit: amount - 1 for unit, amount in hold.items()}) or hold
    binding = rng.randrange(len(SCOPES))
    unit = rng.choice(("usd", "usd", "usd", "calls", "tokens"))
    each, tight = (hold[unit], counted[unit]) if unit in hold else (1, 1)
    cap = rng.choice((1, 2, 25, rng.randint(3, 100))) * each + rng.randrange(each)
    fit = cap // each + (cap % each) // tight
    budgets = []
    for number, (scope, value) in enumerate(SCOPES):
        mine = unit if number == binding else rng.choice(("usd", "usd", "calls"))
        nano = cap if number == binding else {"usd": hold["usd"] * calls * 2, "calls": calls * 2}[mine]
        budgets.append(
            {
                "scope": scope, "value": value, "period": PERIODS[number], "unit": mine, "cap": _amount(nano, mine), "throttle_percent": None,
                "name": f"budget {number}",
            }
        )  # fmt: skip
    world = site.ask("make", given={"slug": f"edge-{seed}", "provider_url": site.provider_url, "budgets": budgets})
    headers = (("Authorization", f"Bearer {world['keys'][0]['text']}"), *ATTRIBUTION)
    site.ask("rebuild", given={"workspace": world["id"]})  # as a workspace's first call does
    ports = [gateway.port for gateway in site.gateways]
    for port in ports:  # each gateway has the policy in memory; an unknown model is refused before admission
        warm = await make(Call(port, json.dumps({"model": "none", "messages": []}).encode(), headers=headers))
        assert warm.status in (400, 404), (warm.status, warm.body)
    attempts = [Call(ports[n % len(ports)], body, headers=headers, label=f"edge-{seed}/{n}") for n in range(calls)]
    caps = {budget["id"]: budget["cap"] for budget in world["budgets"]}
    with site.money() as client:
        with CapWatch(client, world["id"], partition_prefix(partition_of(world["id"])), caps) as watch:
            before = _processor_s(site)
            answers = await burst(attempts)
            used = _processor_s(site) - before
    units = {budget["id"]: budget["unit"] for budget in world["budgets"]}
    return Edge(
        seed,
        binding,
        unit,
        cap,
        each,
        min(fit, calls),
        answers,
        watch.breaches,
        watch.looks,
        world["id"],
        caps,
        units,
        used,
    )


async def _held(site: Installation, body: bytes, slug: str, caps: dict[str, int]) -> dict[str, int] | None:
    """What admission holds for this body under these caps: read off Redis while one such call is under way. None when it is refused."""
    budgets = [
        {"period": "day", "unit": unit, "cap": _amount(cap, unit), "throttle_percent": None}
        for unit, cap in caps.items()
    ]
    world: Any = site.ask("make", given={"slug": slug, "provider_url": site.provider_url, "budgets": budgets})
    quick = body.replace(f"first_ms={ANSWER_AFTER_MS}".encode(), b"first_ms=0600")  # of the same length
    headers = (("Authorization", f"Bearer {world['keys'][0]['text']}"), *ATTRIBUTION)
    with site.money() as client:
        with CapWatch(client, world["id"], partition_prefix(partition_of(world["id"])), {}) as watch:
            answer = await make(Call(site.gateways[0].port, quick, headers=headers))
    if answer.status == 402:
        return None
    assert answer.status == 200, (answer.status, answer.body, answer.error)
    highest = {counter.split(":")[1]: used for counter, used in watch.highest.items()}
    return {budget["unit"]: highest[budget["id"]] for budget in world["budgets"]}


def _processor_s(site: Installation) -> float:
    times = [psutil.Process(gateway.pid).cpu_times() for gateway in site.gateways]
    return sum(time.user + time.system for time in times)


def patience_s() -> float:
    """How long the last refusal of a burst may take on this machine as busy as it is."""
    return REFUSAL_WITHIN_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _amount(cap: int, unit: str) -> str | int:
    return format(Decimal(cap).scaleb(-9), "f") if unit == "usd" else cap

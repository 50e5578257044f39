"""A kill at each named point of a call, streamed and plain, and what the books must say afterwards.

All gateways die first; the holds they left are expired by the sweeper once their lease is over, at the hold, because nobody knows.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.rig.load import Answer, Call, make
from tests.rig.processes import Gateway, Installation, Process

GATEWAY_POINTS = (
    "before_admit",
    "after_admit",
    "after_headers_sent",
    "after_chunk:3",
    "after_last_byte",
    "after_finish",
)
WRITER_POINTS = ("before_commit", "after_commit")
LEASE_AND_GRACE_S = 36.0
DIED = 137


@dataclass(frozen=True, slots=True)
class Case:
    point: str
    streamed: bool

    @property
    def possible(self) -> bool:
        """A plain answer has no chunks to die after."""
        return self.streamed or not self.point.startswith("after_chunk")

    def __str__(self) -> str:
        return f"{self.point} {'stream' if self.streamed else 'plain'}"


CASES = tuple(case for point in GATEWAY_POINTS for s in (True, False) if (case := Case(point, s)).possible)


@dataclass(slots=True)
class Death:
    case: Case
    answer: Answer
    exit_code: int
    retried: Answer | None = None


async def die_everywhere(site: Installation, *, key: str, cases: tuple[Case, ...] = CASES) -> list[Death]:
    """One call through each doomed gateway (two gateways start at a time), each then repeated on a healthy one (F11)."""
    healthy = site.gateways[0]
    deaths: list[Death] = []
    for first in range(0, len(cases), 2):
        pair = cases[first : first + 2]
        doomed = [site.start_gateways(1, SLUICE_CRASH_AT=case.point)[0] for case in pair]
        deaths += await asyncio.gather(*(_die(case, gateway, key) for case, gateway in zip(pair, doomed, strict=True)))
    for death in deaths:
        death.retried = await make(_call(death.case, healthy, key))
    return deaths


async def _die(case: Case, gateway: Gateway, key: str) -> Death:
    answer = await make(_call(case, gateway, key))
    code = await asyncio.to_thread(gateway.exit_code, 30)
    return Death(case, answer, code)


def _call(case: Case, gateway: Gateway, key: str) -> Call:
    text = (
        f"[[sim:drip gap_ms=15 tokens=12 bills_on_abort=full]] {case}"
        if case.streamed
        else f"[[sim:slow first_ms=50]] {case}"
    )
    body = {
        "model": "sim-small",
        "messages": [{"role": "user", "content": text}],
        "stream": case.streamed,
        "max_tokens": 60,
    }
    headers = (("Authorization", f"Bearer {key}"),)
    return Call(gateway.port, json.dumps(body).encode(), headers=headers, label=str(case), patience_s=20)


def kill_writers(site: Installation) -> list[int]:
    """The seventh point: a ledger writer that dies with a batch in hand, before and after its commit."""
    codes = []
    for point in WRITER_POINTS:
        writer = Process(
            f"writer-{point}",
            ("-m", "tests.rig.world", "drain"),
            {**site.environment, "SLUICE_CRASH_AT": point},
            site.home / f"writer-{point}.log",
        )
        writer.launch()
        codes.append(writer.exit_code(60))
    return codes


def settle_down(site: Installation, *, lease_s: float = LEASE_AND_GRACE_S) -> None:
    """Until every abandoned hold has expired and everything is booked."""
    deadline = time.monotonic() + lease_s + 20
    time.sleep(lease_s)
    while True:
        site.ask("sweep")
        site.ask("drain")
        with site.money() as client:
            left = sum(client.zcard(key) for key in client.scan_iter(match="sl:{p*}:open"))
        if not left or time.monotonic() > deadline:
            return
        time.sleep(1)


def settle_at_once(site: Installation) -> None:
    """The same without waiting for the leases: the clients have left, gateways stop as in a deploy, and what is then still held is nobody's."""
    with ThreadPoolExecutor(len(site.gateways)) as threads:
        list(threads.map(lambda gateway: gateway.stop(40), site.gateways))
    site.ask("sweep", given={"ahead_s": LEASE_AND_GRACE_S})
    site.ask("drain")

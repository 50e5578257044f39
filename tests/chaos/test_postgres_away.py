"""F20: PostgreSQL is away. Calls go on under the policies in memory, bounded, and everything lands once it is back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.chaos import kill_points
from tests.rig import processes
from tests.rig.auditor import Evidence, audit, show
from tests.rig.books import read_counters, read_ledger
from tests.rig.load import Call, flow

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
PER_SECOND = 8
GROWTH = 100 << 20
"""Bytes that a gateway may grow by during the outage"""


@pytest.mark.parametrize("away_s", [5, pytest.param(200, marks=pytest.mark.long)])
def test_calls_go_on_while_postgres_is_away_and_everything_lands_after(tmp_path: Path, away_s: int) -> None:
    with processes.installation(tmp_path / "site") as stack:
        budgets = [
            {"period": "day", "cap": "500"},
            {"scope": "customer", "value": None, "period": "total", "cap": "50"},
        ]
        world = stack.ask("make", given={"slug": "away", "provider_url": stack.provider_url, "budgets": budgets})
        stack.start_gateways(1)
        stack.launch_worker()
        (gateway,) = stack.gateways
        body = json.dumps(
            {"model": "sim-small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
        ).encode()

        def calls(count: int) -> list[Call]:
            key = ("Authorization", f"Bearer {world['keys'][0]['text']}")
            return [
                Call(gateway.port, body, headers=(key, ("Sluice-Customer", f"c{n % 7}")), label="away/ok")
                for n in range(count)
            ]

        def make(count: int) -> list[str]:
            answers = asyncio.run(flow(calls(count), at_once=20, per_second=PER_SECOND))
            return [answer.kind for answer in answers]

        before = make(5)
        memory = psutil.Process(gateway.pid).memory_info().rss
        stack.postgres.kill()
        during = make(away_s * PER_SECOND)
        grown = psutil.Process(gateway.pid).memory_info().rss - memory
        with stack.money() as client:
            entries = sum(client.xlen(key) for key in client.scan_iter(match="sl:{p*}:out"))
        stack.postgres.launch()
        stack.postgres.wait()
        after = make(5)

        assert Counter(before + during + after) == {"200": len(before) + len(during) + len(after)}
        assert (
            len(during) * 2 <= entries <= (len(during) + len(before)) * 2
        )  # a hold and its end each: all kept, nothing else
        assert grown < GROWTH
        until = time.monotonic() + 120
        while len(read_ledger(stack.database_url).rows) < len(
            before + during + after
        ):  # the worker finds its way back alone
            assert time.monotonic() < until, "the worker does not book what was kept"
            time.sleep(0.5)
        kill_points.settle_at_once(stack)
        with stack.money() as client:
            counters = read_counters(client)
        caps = {budget["id"]: budget["cap"] for budget in world["budgets"]}
        findings = audit(Evidence(stack.simulator.invoice(), read_ledger(stack.database_url), counters, caps))
        assert all(finding.passed for finding in findings), show(findings, seed=0)

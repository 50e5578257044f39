"""Books against counters, as integers: real scripts in Redis, the real writer, and then somebody tampers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.domain import keys
from guardrails import actions
from guardrails.domain.periods import FOREVER_MS
from guardrails.limiter import control, store
from guardrails.limiter.limiter import Limiter
from guardrails.limiter.wire import NO_LIMIT, AdmitRequest, CounterAsk, FinishKind
from guardrails.models import Budget
from guardrails.reconciliation import report as reconcile
from tests.cast import Cast
from workspaces import tenancy
from workspaces.ids import uuid7

pytestmark = pytest.mark.django_db

CONTEXT = json.dumps(
    {
        "call": str(uuid7()),
        "key": str(uuid7()),
        "provider": "simulator",
        "model": "m",
        "endpoint": "/v1/chat/completions",
    }
)
CONTRACT = {
    "ledger_nano",
    "rollup_nano",
    "settled_nano",
    "held_nano",
    "entries",
    "open_holds",
    "assumed_nano",
    "differences",
}


@pytest.fixture
def money(money_redis_url: str, cast: Cast) -> Iterator[Any]:
    client = store.connect_sync(money_redis_url)
    for workspace in (cast.acme, cast.globex):
        control.begin_rebuild(client, workspace.id, 1)
        control.commit_rebuild(client, workspace.id, epoch=1, seq=0, ver=1, state="active", counters=0)
    yield client
    client.close()


@pytest.fixture
def own_budget(cast: Cast, money: Any) -> Budget:
    """Acme's own monthly budget."""
    with tenancy.entered(cast.acme):
        return actions.monthly_control(workspace=cast.acme, by=cast.alice.actor, cap_usd="500")


def run(url: str, workspace_id: int, suffixes: list[str], calls: int, seed: int = 1) -> None:
    """Calls that settle, fail, expire, are corrected late, or stay open, chosen by the seed."""

    async def scenario() -> None:
        chance = random.Random(seed)
        limiter = Limiter(store.connect(url), lost=lambda *_: None, known_to_ledger=lambda *_: None)  # type: ignore[arg-type]
        prefix = keys.partition_prefix(keys.partition_of(workspace_id))
        for _ in range(calls):
            hold = chance.randrange(1, 10**9)
            asks = [CounterAsk(suffix, "nano", hold, NO_LIMIT, 0, FOREVER_MS) for suffix in suffixes]
            request = AdmitRequest(prefix, str(workspace_id), str(uuid7()), 0, 1, 0, hold, 30_000, CONTEXT, asks, [])
            await limiter.admit(workspace_id, request)
            end = chance.choice(["settle", "settle", "void", "expire", "late", "open"])
            if end in ("settle", "void"):
                await limiter.finish(
                    workspace_id, request.rid, FinishKind(end), cost_nano=hold // 3 if end == "settle" else 0
                )
            elif end != "open":
                await limiter.finish(workspace_id, request.rid, FinishKind.EXPIRE)
                if end == "late":
                    await limiter.finish(workspace_id, request.rid, FinishKind.SETTLE, cost_nano=hold // 2)
        await limiter.close(1.0)

    asyncio.run(scenario())


def suffix_of(budget: Budget) -> str:
    return keys.counter_suffix(budget.id, budget.rule().bounds_at(int(datetime.now(UTC).timestamp() * 1000)).start_ms)


def command(slug: str) -> tuple[int, dict[str, Any]]:
    out = StringIO()
    try:
        call_command("reconcile", workspace=slug, json=True, stdout=out)
    except SystemExit as stop:
        return int(stop.code or 0), json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_became_of_the_calls_books_and_counters_agree(
    seed: int, cast: Cast, money: Any, own_budget: Budget, money_redis_url: str
) -> None:
    run(money_redis_url, cast.acme.id, [suffix_of(own_budget)], 40, seed)
    status, report = command("acme")
    assert (status, report["differences"]) == (0, [])
    assert report.keys() >= CONTRACT
    counter = control.read_counters(money, cast.acme.id)[suffix_of(own_budget)]
    assert (report["settled_nano"], report["held_nano"]) == (counter.settled, counter.held)
    assert report["ledger_nano"] == report["rollup_nano"] == counter.settled > 0
    assert report["open_holds"] == len(control.open_holds(money, cast.acme.id)) > 0
    assert 0 < report["entries"] + report["open_holds"] < 40  # the others were void


def test_without_a_budget_of_its_own_it_is_the_sum_of_this_months_calls(
    cast: Cast, money: Any, money_redis_url: str
) -> None:
    run(money_redis_url, cast.globex.id, [], 30)
    status, report = command("globex")
    assert status == 0
    assert report["settled_nano"] == report["ledger_nano"] > 0
    assert report["held_nano"] > 0


def test_a_counter_that_was_changed_behind_our_back_is_a_difference(
    cast: Cast, money: Any, own_budget: Budget, money_redis_url: str
) -> None:
    run(money_redis_url, cast.acme.id, [suffix_of(own_budget)], 10)
    key = keys.workspace_prefix(cast.acme.id) + suffix_of(own_budget)
    money.hincrby(key, "s", 1)
    status, report = command("acme")
    assert status == 1
    assert len(report["differences"]) == 1
    assert "settled" in report["differences"][0]


def test_a_rollup_that_was_changed_behind_our_back_is_a_difference(
    cast: Cast, money: Any, money_redis_url: str
) -> None:
    run(money_redis_url, cast.globex.id, [], 10)
    assert reconcile(cast.globex).differences == []
    with tenancy.every_workspace("tests tamper"), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_rollup_day SET cost_nano = cost_nano - 1 WHERE dimension = ''")
    assert ["billing_rollup_day.cost_nano" in difference for difference in reconcile(cast.globex).differences] == [True]


def test_an_event_lost_on_the_way_is_a_difference(cast: Cast, money: Any, money_redis_url: str) -> None:
    run(money_redis_url, cast.globex.id, [], 5)
    stream = keys.stream_key(keys.partition_of(cast.globex.id))
    money.xdel(stream, money.xrange(stream)[3][0])
    assert any("missing" in difference for difference in reconcile(cast.globex).differences)


def test_an_unknown_workspace_is_said_and_not_a_difference(db: None) -> None:
    with pytest.raises(CommandError, match="no workspace"):
        call_command("reconcile", workspace="nobody")

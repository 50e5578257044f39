"""Prices that arrive late or change backwards: corrections through the same way as all money, once, with books and counters equal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import connection

from billing import actions as prices
from billing.domain.events import Basis, Outcome, PriceStatus
from billing.domain.pricing import PriceBook
from billing.domain.rerating import Charged, Corrected, Left, rerate
from billing.ledger import queries
from billing.models import BudgetTotal, Crossing, Entry
from billing.prices import default_book
from guardrails import actions, reconciliation, recovery, rerating
from guardrails.gate import Gate
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.rerating import Answer, Rerating
from guardrails.limiter.rerating import rerate as write
from guardrails.policy import Grant, PolicyChanged
from tests.cast import Cast
from tests.guardrails.conftest import context_of, quote
from workspaces import actions as workspace_actions
from workspaces import audit, tenancy
from workspaces.ids import uuid7

USD = 10**9
MILLION = {"input_uncached": 1_000_000}
OWN = {"input_uncached": "3", "output_text": "6"}


# --- The rule ---------------------------------------------------------------------------------------------------------
NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())


def charged(**facts: Any) -> Charged:
    base = Charged(
        provider="openai_compatible",
        endpoint="/v1/chat/completions",
        model="acme-8b",
        model_served="acme-8b",
        streamed=False,
        at_s=NOON,
        basis="measured",
        price_status="unpriced",
        price_version="",
        cost_nano=0,
        hold_nano=0,
        buckets=MILLION,
        fees={},
        context={"tier": "standard", "prompt_total": "1000000"},
        breakdown=(),
        raw_usage="",
        flags=("model_not_priced:acme-8b",),
    )
    return replace(base, **facts)


def book(**row: Any) -> PriceBook:
    return default_book().with_overrides([{"provider": "openai_compatible", "model": "acme-8b", "units": OWN, **row}])


GPT_4O = {
    "provider": "openai",
    "model": "gpt-4o",
    "model_served": "gpt-4o-2024-08-06",
    "price_status": "exact",
    "price_version": "older",
    "cost_nano": 2_500_000_000,
    "breakdown": [{"unit": "input_uncached", "quantity": 1_000_000, "rate_per_m_usd": "2.5", "cost_usd": "2.5"}],
    "flags": (),
}


def test_a_price_that_arrived_prices_what_was_consumed() -> None:
    found = rerate(charged(), book())

    assert isinstance(found, Corrected)
    assert (found.cost_nano, found.status, found.flags) == (3 * USD, PriceStatus.EXACT, ["rerated"])
    assert found.breakdown[0]["rate_per_m_usd"] == "3"


def test_what_was_charged_above_its_price_is_given_back() -> None:
    found = rerate(charged(cost_nano=5 * USD, hold_nano=5 * USD, price_status="partial"), book())

    assert isinstance(found, Corrected)
    assert found.cost_nano == 3 * USD


@pytest.mark.parametrize(
    "facts, why",
    [
        ({}, Left.UNPRICED),
        (GPT_4O, Left.SAME),
        ({**GPT_4O, "price_version": default_book().version, "cost_nano": 1}, Left.SAME),
        ({**GPT_4O, "basis": "assumed", "cost_nano": 9 * USD}, Left.NO_USAGE),
        ({**GPT_4O, "buckets": {}}, Left.NO_USAGE),
        ({**GPT_4O, "cost_nano": 1, "buckets": {"input_uncached": 7}}, Left.OTHER_LINES),
        ({"price_status": "partial", "breakdown": [{"unit": "x", "quantity": 1, "model": "y"}]}, Left.PARTS),
    ],
)
def test_without_a_changed_price_an_attempt_is_left_alone(facts: dict[str, Any], why: Left) -> None:
    assert rerate(charged(**facts), default_book()) is why


def test_a_discount_agreed_on_afterwards_is_given_for_its_days_only() -> None:
    agreed = default_book().with_overrides(
        [{"provider": "openai", "model": "*", "discount": "0.1", "from": "2026-11-20T00:00:00Z"}]
    )

    found = rerate(charged(**GPT_4O), agreed)
    assert isinstance(found, Corrected)
    assert found.cost_nano == 2_250_000_000
    assert rerate(charged(**{**GPT_4O, "at_s": NOON - 86_400}), agreed) is Left.SAME


def test_a_price_that_changed_in_the_very_second_of_a_call_does_not_touch_it() -> None:
    edge = datetime.fromtimestamp(NOON, UTC).isoformat()
    agreed = default_book().with_overrides([{"provider": "openai", "model": "*", "discount": "0.1", "from": edge}])

    assert rerate(charged(**GPT_4O), agreed) is Left.SAME
    assert isinstance(rerate(charged(**{**GPT_4O, "at_s": NOON + 2}), agreed), Corrected)


def test_a_line_that_the_answer_left_out_stays_left_out() -> None:
    found = rerate(charged(flags=("unread:server_time", "model_not_priced:acme-8b"), price_status="partial"), book())

    assert isinstance(found, Corrected)
    assert (found.cost_nano, found.status) == (3 * USD, PriceStatus.PARTIAL)
    assert rerate(charged(flags=("container_time",), price_status="partial"), book()) is Left.UNPRICED


def test_a_count_is_never_charged_above_its_hold() -> None:
    found = rerate(charged(basis="counted", hold_nano=USD), book())

    assert isinstance(found, Corrected)
    assert (found.cost_nano, found.status) == (USD, PriceStatus.ESTIMATED)


def test_iterations_by_another_model_are_told_apart_by_the_raw_usage() -> None:
    raw = {
        "input_tokens": 1000,
        "output_tokens": 10,
        "iterations": [
            {"type": "message", "input_tokens": 600, "output_tokens": 5},
            {"type": "message", "input_tokens": 400, "output_tokens": 5},
        ],
    }
    attempt = charged(
        provider="anthropic",
        endpoint="/v1/messages",
        model="claude-opus-5",
        model_served="claude-opus-5",
        buckets={"input_uncached": 1000, "output_text": 10},
        context={"tier": "standard", "prompt_total": "1000"},
        raw_usage=json.dumps(raw),
    )
    found = rerate(attempt, default_book())
    assert isinstance(found, Corrected)
    assert sum(int(line["quantity"]) for line in found.breakdown) == 1010


# --- Through the books ------------------------------------------------------------------------------------------------
async def sync(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


class Caller:
    """Alice's application, calling a model that nobody has priced yet."""

    def __init__(self, gate: Gate, cast: Cast, key: str) -> None:
        self.gate, self.cast, self.key = gate, cast, key

    async def grant(self) -> Grant:
        return await self.gate.policies.recognise(self.key)

    async def call(self, *, dims: dict[str, str] | None = None, **outcome: Any) -> str:
        grant = await self.grant()
        where = {"provider": "openai_compatible", "model": "acme-8b"}
        context = msgspec.structs.replace(context_of(grant, **where), dims=dims or {})
        every = {**where, **(dims or {}), "virtual_key": grant.key.id}
        admitted = await self.gate.admission.admit(grant, every, {}, quote(None), context, rid=str(uuid7()))
        facts: dict[str, Any] = {
            "basis": Basis.MEASURED,
            "price_status": PriceStatus.UNPRICED,
            "http_status": 200,
            "model_served": "acme-8b",
            "buckets": MILLION,
            "raw_usage": msgspec.Raw(b'{"prompt_tokens":1000000,"completion_tokens":0,"total_tokens":1000000}'),
            "context": {"tier": "standard", "prompt_total": "1000000"},
            "flags": ["model_not_priced:acme-8b"],
            "duration_ms": 120,
        }
        await self.gate.admission.settle(admitted, 0, 1_000_000, Outcome(**(facts | outcome)))
        return admitted.rid

    async def price(self, **values: Any) -> Any:
        made = {"provider": "openai_compatible", "model": "acme-8b", "rates": OWN, **values}
        start = {"valid_from": datetime.now(UTC) - timedelta(days=2)}
        return await sync(prices.create_price, workspace=self.cast.acme, by=self.cast.alice.actor, **(start | made))

    async def rerate(self, **options: Any) -> rerating.Report:
        return await sync(rerating.rerate, self.cast.acme, **options)

    async def report(self) -> reconciliation.Report:
        return await sync(reconciliation.report, self.cast.acme)


@pytest.fixture
async def app(gate: Gate, committed_cast: Cast) -> Caller:
    minted = await sync(
        workspace_actions.create_virtual_key, workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app"
    )
    for cap, more in (("100", {}), ("4", {"scope": "user", "value": None, "notify": [50, 100]})):
        await sync(
            actions.create_budget,
            workspace=committed_cast.acme,
            by=committed_cast.alice.actor,
            cap=cap,
            period="month",
            **({"kill_percent": None} | more),
        )
    return Caller(gate, committed_cast, minted.text)


def lines(cast: Cast) -> list[tuple[int, str, int, str, str]]:
    with tenancy.entered(cast.acme):
        rows = Entry.objects.order_by("at", "rid", "leg")
        return list(rows.values_list("leg", "state", "cost_nano", "price_status", "basis"))


async def test_a_price_that_arrives_is_booked_once_and_books_and_counters_stay_equal(app: Caller) -> None:
    for user in ("u1", "u1", "u2"):
        await app.call(dims={"user": user, "customer": "globex"})
    await app.price()
    dry = await app.rerate(dry_run=True)
    assert (len(dry.corrected), dry.delta_nano, (await app.report()).ledger_nano) == (3, 9 * USD, 0)

    done = await app.rerate()
    again = await app.rerate()

    assert (len(done.corrected), done.delta_nano) == (3, 9 * USD)
    assert (again.corrected, again.left) == ([], {Left.SAME.value: 3})
    report = await app.report()
    assert (report.differences, report.ledger_nano, report.settled_nano, report.entries) == ([], 9 * USD, 9 * USD, 3)
    one = [(0, "settled", 0, "unpriced", "measured"), (2, "rerated", 3 * USD, "exact", "measured")]
    assert await sync(lines, app.cast) == one * 3


async def test_rollups_totals_and_the_call_log_tell_the_new_price(app: Caller) -> None:
    await app.call(dims={"user": "u1", "customer": "globex"})
    await app.call(dims={"user": "u1", "customer": "globex"})
    await app.price()
    await app.rerate()

    def read() -> Any:
        with tenancy.entered(app.cast.acme):
            days = queries.month_to_date(app.cast.acme, datetime.now(UTC))
            [row] = queries.by_value(app.cast.acme, days, "customer")
            calls = queries.recent_calls(app.cast.acme)
            crossed = sorted(Crossing.objects.values_list("threshold", flat=True))
            totals = sorted(BudgetTotal.objects.filter(unit="nano").values_list("settled", flat=True))
            return row.totals, calls, crossed, totals

    totals, calls, crossed, settled = await sync(read)
    assert (totals.cost_nano, totals.calls, totals.attempts, totals.unpriced_calls, totals.errors) == (
        6 * USD,
        2,
        2,
        0,
        0,
    )
    assert (totals.input_tokens, totals.timed) == (2_000_000, 2)
    assert [(call.cost_nano, call.latest.price_status, call.told.input_tokens) for call in calls] == [
        (3 * USD, "exact", 1_000_000)
    ] * 2
    assert calls[0].latest.unpacked()["breakdown"][0]["rate_per_m_usd"] == "3"
    assert calls[0].latest.price_version.startswith(default_book().version + "+own-")
    assert (crossed, settled) == ([50, 100], [6 * USD, 6 * USD])


async def test_prices_may_change_again_and_each_time_is_a_line_more(app: Caller) -> None:
    await app.call()
    first = await app.price()
    await app.rerate()
    await app.price(rates={"input_uncached": "1"}, valid_from=first.valid_from + timedelta(seconds=1))
    assert (await app.rerate()).delta_nano == -2 * USD
    await app.price(rates=None, free=True, valid_from=first.valid_from + timedelta(seconds=2))
    assert (await app.rerate()).delta_nano == -USD

    report = await app.report()
    assert (report.differences, report.ledger_nano) == ([], 0)
    assert [(leg, cost) for leg, _, cost, _, _ in await sync(lines, app.cast)] == [
        (0, 0),
        (2, 3 * USD),
        (3, -2 * USD),
        (4, -USD),
    ]


async def test_a_free_model_is_priced_at_nothing_and_no_longer_counts_as_unpriced(app: Caller) -> None:
    await app.call()
    await app.price(rates=None, free=True)
    done = await app.rerate()
    assert (len(done.corrected), done.delta_nano) == (1, 0)
    assert [status for _, _, _, status, _ in await sync(lines, app.cast)] == ["unpriced", "exact"]
    assert (await app.report()).differences == []


async def test_an_unconfirmed_call_stays_unconfirmed_at_its_new_price(app: Caller) -> None:
    await app.call(basis=Basis.ASSUMED, raw_usage=msgspec.Raw(b"null"), error="upstream_timeout")
    await app.price()
    await app.rerate()
    report = await app.report()
    assert (report.differences, report.assumed_nano, report.ledger_nano) == ([], 3 * USD, 3 * USD)


async def test_counters_rebuilt_from_the_books_know_the_corrections(app: Caller) -> None:
    await app.call(dims={"user": "u1"})
    await app.price()
    await app.rerate()
    before = await sync(lambda: control.read_counters(sync_store(), app.cast.acme.pk))
    await sync(recovery.rebuild, app.cast.acme.pk)
    after = await sync(lambda: control.read_counters(sync_store(), app.cast.acme.pk))
    assert after == before
    assert sorted(counter.settled for counter in after.values()) == [1, 3 * USD, 3 * USD]
    assert (await app.report()).differences == []


async def test_a_correction_that_is_repeated_or_late_moves_nothing(app: Caller) -> None:
    rid = await app.call()
    await app.report()
    with_counter = (await sync(lambda: list(control.read_counters(sync_store(), app.cast.acme.pk))))[0]
    outcome = b'{"basis":"measured","price_status":"exact","price_status_before":"unpriced"}'
    item = Rerating(rid, 2, 7, [(with_counter, "nano", 7, 0, "")], "", outcome.decode())
    answers = [await sync(write, sync_store(), app.cast.acme.pk, [item, item]) for _ in range(2)]
    assert answers == [[Answer.OK, Answer.ALREADY], [Answer.ALREADY, Answer.ALREADY]]
    assert (await app.report()).ledger_nano == 7


async def test_an_attempt_that_is_not_over_is_not_corrected(app: Caller) -> None:
    grant = await app.grant()
    admitted = await app.gate.admission.admit(
        grant, {}, {}, quote(USD), context_of(grant, model="acme-8b"), rid=str(uuid7())
    )
    item = Rerating(admitted.rid, 2, 7, [], "", "{}")
    assert await sync(write, sync_store(), app.cast.acme.pk, [item]) == [Answer.OPEN]


async def test_a_lost_store_is_rebuilt_before_anything_is_corrected(app: Caller) -> None:
    await app.call()
    await app.report()
    await app.price()
    await sync(lambda: sync_store().flushdb())
    done = await app.rerate()
    assert done.delta_nano == 3 * USD
    assert (await app.report()).differences == []


async def test_the_command_says_what_it_did_and_the_audit_log_remembers(app: Caller) -> None:
    await app.call()
    await app.price()
    out = io.StringIO()
    await sync(call_command, "rerate", "--workspace", "acme", "--json", stdout=out)
    said = json.loads(out.getvalue())
    assert (said["corrected"], said["delta_usd"], said["models"][0]["after_nano"]) == (1, "3", 3 * USD)
    assert (await sync(audit.verify, app.cast.acme.pk)).fault == ""
    out = io.StringIO()
    await sync(call_command, "rerate", "--since", "2100-01-01", "--dry-run", stdout=out)
    assert "acme: 0 of 0 calls would be corrected" in out.getvalue()
    with pytest.raises(CommandError):
        await sync(call_command, "rerate", "--workspace", "nowhere")


# --- The next call ----------------------------------------------------------------------------------------------------
async def test_a_new_price_is_in_the_policy_of_the_next_call_of_every_replica(app: Caller) -> None:
    assert (await app.grant()).policy.book is default_book()
    await app.call()
    await app.price()
    with pytest.raises(PolicyChanged):  # planned again, at the new price; nothing was held
        await app.call()
    assert (await app.report()).open_holds == 0
    policy = app.gate.policies.policy(app.cast.acme.pk)
    assert policy is not None
    assert policy.book.rates("openai_compatible", "acme-8b", datetime.now(UTC)) is not None

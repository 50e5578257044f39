"""Admission through the whole gate: real PostgreSQL and Redis, real keys, budgets made by actions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter as Tally
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.urls import resolve

from billing.domain import keys as money_keys
from billing.domain.events import Basis, Outcome, PriceStatus
from billing.domain.money import NANO_PER_USD
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from billing.models import BudgetTotal, Crossing, Entry
from guardrails import actions, pushes, queries, reconciliation, recovery
from guardrails.admitted import Admitted
from guardrails.domain.budgets import Stage
from guardrails.domain.refusals import (
    BudgetStoreUnavailable,
    InvalidKey,
    ModelNotPriced,
    OverBudget,
    RateLimited,
    Refusal,
    Throttled,
    WorkspaceClosed,
)
from guardrails.gate import Gate, open_gate
from guardrails.limiter import control
from guardrails.policy import Grant, PolicyChanged
from tests.cast import Cast
from tests.guardrails.conftest import context_of, now_ms, quote
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.ids import uuid7
from workspaces.models import Workspace

USD = NANO_PER_USD
DONE = Outcome(basis=Basis.MEASURED, price_status=PriceStatus.EXACT, http_status=200)


async def sync(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Synchronous work of the test, in a thread with a connection of its own, as the web process would do it."""

    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


class Caller:
    """Alice's application: one virtual key of Acme, calling through a gate."""

    def __init__(self, gate: Gate, cast: Cast, key: str) -> None:
        self.gate, self.cast, self.key = gate, cast, key

    @property
    def acme(self) -> Workspace:
        return self.cast.acme

    async def grant(self) -> Grant:
        return await self.gate.policies.recognise(self.key)

    async def call(self, amount: int | None = USD, *, gate: Gate | None = None, **more: Any) -> Admitted:
        gate = gate or self.gate
        grant = more.pop("grant", None) or await gate.policies.recognise(self.key)
        dims = {
            **grant.key.pins,
            "virtual_key": grant.key.id,
            "model": "fake-ok",
            "provider": "simulator",
            **more.pop("dims", {}),
        }
        asked = more.pop("quote", None) or quote(amount)
        return await gate.admission.admit(
            grant, dims, more.pop("tags", {}), asked, context_of(grant), rid=str(uuid7()), **more
        )

    async def budget(self, cap: str, period: str = "month", **more: Any) -> Any:
        return await sync(
            actions.create_budget, workspace=self.acme, by=self.cast.alice.actor, cap=cap, period=period, **more
        )

    async def refused(self, *args: Any, **kwargs: Any) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.call(*args, **kwargs)
        return caught.value


@pytest.fixture
async def alice_app(gate: Gate, committed_cast: Cast) -> Caller:
    minted = await sync(
        workspace_actions.create_virtual_key, workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app"
    )
    return Caller(gate, committed_cast, minted.text)


def books(workspace: Workspace) -> reconciliation.Report:
    return reconciliation.report(workspace)


# --- The first call and the books -------------------------------------------------------------------------------------


async def test_the_first_call_of_a_new_workspace_is_admitted_and_counts_against_the_plan(alice_app: Caller) -> None:
    admitted = await alice_app.call(USD)
    assert [(b.name, b.used, b.cap) for b in admitted.budgets] == [("Free plan", 1, 10_000)]
    await alice_app.gate.admission.settle(admitted, USD // 2, 120, DONE)
    report = await sync(books, alice_app.acme)
    assert (report.ledger_nano, report.rollup_nano, report.entries, report.open_holds, report.differences) == (
        USD // 2,
        USD // 2,
        1,
        0,
        [],
    )


async def test_books_and_counters_agree_after_every_kind_of_end(alice_app: Caller) -> None:
    await alice_app.budget("100")
    await alice_app.budget("5", scope="user", value=None)
    admission = alice_app.gate.admission
    held = [await alice_app.call(USD // 10, dims={"user": f"u{n % 3}"}) for n in range(12)]
    ends = [
        admission.settle(admitted, USD // (20 + n), 10, DONE) if n % 3 else admission.void(admitted, DONE)
        for n, admitted in enumerate(held[:9])
    ]
    await asyncio.gather(*ends)
    report = await sync(books, alice_app.acme)
    assert report.differences == []
    assert report.open_holds == 3
    assert report.held_nano == 3 * (USD // 10)
    assert report.settled_nano == report.ledger_nano > 0
    crossings = await sync(lambda: list(_crossings(alice_app.acme)))
    assert crossings == []


def _crossings(workspace: Workspace) -> list[tuple[int, int]]:
    with tenancy.entered(workspace):
        return list(
            Crossing.objects.filter(workspace_id=workspace.pk).values_list("threshold", "settled").order_by("threshold")
        )


async def test_a_crossed_threshold_is_recorded_once_a_period(alice_app: Caller) -> None:
    await alice_app.budget("10")
    for _ in range(9):
        await alice_app.gate.admission.settle(await alice_app.call(USD), USD, 10, DONE)
        await sync(drain, money_stream(), money_keys.partition_of(alice_app.acme.pk))
    crossed = await sync(lambda: list(_crossings(alice_app.acme)))
    assert [threshold for threshold, _ in crossed] == [50, 75, 90]


async def test_after_a_raise_thresholds_are_those_of_the_raised_cap(alice_app: Caller) -> None:
    made = await alice_app.budget("10")

    async def spend(dollars: int) -> None:
        await alice_app.gate.admission.settle(await alice_app.call(dollars * USD), dollars * USD, 10, DONE)
        await sync(drain, money_stream(), money_keys.partition_of(alice_app.acme.pk))

    await spend(8)
    await sync(
        actions.grant_raise, workspace=alice_app.acme, by=alice_app.cast.alice.actor, budget_id=made.pk, amount="10", reason="Launch",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    await spend(3)
    await spend(8)

    def told() -> list[tuple[int, int]]:
        with tenancy.entered(alice_app.acme):
            found = Crossing.objects.filter(budget_id=made.pk).order_by("id")
            return [(threshold, cap // USD) for threshold, cap in found.values_list("threshold", "cap")]

    assert await sync(told) == [(50, 10), (75, 10), (50, 20), (75, 20), (90, 20)]


# --- The explainable no -----------------------------------------------------------------------------------------------


async def test_a_402_says_which_budget_how_much_and_when_it_resets(alice_app: Caller) -> None:
    made = await alice_app.budget(
        "3", name="Production", message="Talk to Finance.", upgrade_url="https://acme.example/more"
    )
    await alice_app.gate.admission.settle(await alice_app.call(USD), USD, 10, DONE)
    await alice_app.call(USD)
    refusal = await alice_app.refused(USD + 1)
    assert isinstance(refusal, OverBudget)
    assert (refusal.status, refusal.code, refusal.message) == (402, "budget_exceeded", "Talk to Finance.")
    facts = refusal.facts
    assert (facts["budget"], facts["budget_id"]) == ("Production", str(made.pk))
    assert (facts["spent_usd"], facts["held_usd"], facts["cap_usd"], facts["left_usd"]) == ("1", "1", "3", "1")
    assert (facts["would_fit"], facts["url"]) == (0, "https://acme.example/more")
    assert datetime.fromisoformat(facts["resets_at"]) > datetime.now(UTC)


@pytest.mark.parametrize(
    ("preset", "code"),
    [("daily_hard_stop", "daily_hard_stop"), ("monthly_control", "budget_exceeded"), ("quota", "plan_quota_exceeded")],
)
async def test_presets_and_the_plan_refuse_with_codes_of_their_own(alice_app: Caller, preset: str, code: str) -> None:
    if preset == "quota":
        seed = _quota_used_up
        await sync(seed, alice_app.acme)
    else:
        await sync(getattr(actions, preset), workspace=alice_app.acme, by=alice_app.cast.alice.actor, cap_usd="1")
    refusal = await alice_app.refused(USD + 1)
    assert (refusal.status, refusal.code) == (402, code)
    where = resolve(urlsplit(refusal.facts["url"]).path)
    assert where.url_name == ("guardrails" if preset == "quota" else "raise_new"), "a page that is there"


def _quota_used_up(workspace: Workspace) -> None:
    recovery.rebuild(workspace.pk)
    with tenancy.entered(workspace):
        quota = recovery.budget_rules(workspace)[0]
    suffix = money_keys.counter_suffix(quota.id, quota.bounds_at(now_ms()).start_ms)
    store = control_store()
    epoch = control.read_meta(store, workspace.pk).epoch + 1
    control.begin_rebuild(store, workspace.pk, epoch)
    control.seed(store, workspace.pk, epoch, [control.SeedCounter(suffix, 10_000, 0, now_ms() + 10**9)], [])
    control.commit_rebuild(
        store, workspace.pk, epoch=epoch, seq=0, ver=workspace.policy_version, state="active", counters=1
    )


def control_store() -> Any:
    return pushes.sync_store()


async def test_each_value_is_capped_from_its_first_call_and_others_are_not_touched(alice_app: Caller) -> None:
    await alice_app.budget("1", "day", scope="user", value=None)
    await alice_app.call(USD, dims={"user": "ann"})
    refusal = await alice_app.refused(1, dims={"user": "ann"})
    assert refusal.facts["value"] == "ann"
    await alice_app.call(USD, dims={"user": "ben"})
    await alice_app.call(USD)
    statuses = await sync(queries.budgets, alice_app.acme, datetime.now(UTC))
    values = {standing.value: standing.held for status in statuses for standing in status.values}
    assert values == {"ann": USD, "ben": USD}


async def test_budgets_in_tokens_and_calls_hold_their_own_amounts(alice_app: Caller) -> None:
    await alice_app.budget("300", unit="tokens", scope="tag:team", value="red")
    await alice_app.budget("3", unit="calls", scope="model", value="fake-ok")
    for _ in range(2):
        await alice_app.call(1, quote=quote(1, tokens=150), tags={"team": "red"})
    assert (await alice_app.refused(1, tags={"team": "red"})).facts["left_tokens"] == 0
    await alice_app.call(1, tags={"team": "blue"})
    assert (await alice_app.refused(1)).facts["cap_calls"] == 3


# --- Fitting ----------------------------------------------------------------------------------------------------------


async def test_the_exact_count_is_asked_only_when_the_bound_by_bytes_did_not_fit(alice_app: Caller) -> None:
    await alice_app.budget("1")
    asked: list[int] = []

    def exact() -> Any:
        asked.append(1)
        return quote(USD // 2, tokens=110, out=100)

    assert (await alice_app.call(USD // 3, exact=exact)).hold_nano == USD // 3
    assert asked == []
    assert (await alice_app.call(USD, quote=quote(USD, tokens=900, out=100), exact=exact)).hold_nano == USD // 2
    assert asked == [1]


async def test_where_the_client_set_no_limit_it_is_lowered_to_what_fits(alice_app: Caller) -> None:
    await alice_app.budget("1")
    big = quote(4 * USD, out=4000, source="model", tokens=4100, per_output=USD // 1000)
    admitted = await alice_app.call(quote=big)
    assert admitted.clamped
    assert admitted.output_limit == 1000
    assert admitted.hold_nano == USD
    refusal = await alice_app.refused(
        quote=quote(40 * USD, out=4000, source="model", tokens=4100, per_output=USD // 100)
    )
    assert refusal.facts["would_fit"] == 0  # below the floor nothing is lowered


async def test_a_clients_own_limit_is_lowered_only_where_the_budget_says_so(alice_app: Caller) -> None:
    made = await alice_app.budget("1")
    mine = quote(4 * USD, out=4000, tokens=4100, per_output=USD // 1000)
    refusal = await alice_app.refused(quote=mine)
    assert refusal.facts["would_fit"] == 1000
    assert "1000 tokens" in refusal.hint
    await sync(
        actions.update_budget,
        workspace=alice_app.acme,
        by=alice_app.cast.alice.actor,
        budget_id=made.pk,
        on_tight="clamp",
    )
    assert (await alice_app.call(quote=mine)).output_limit == 1000


async def test_a_call_without_a_bound_is_refused_under_a_hard_cap_and_flagged_without_one(alice_app: Caller) -> None:
    free = await alice_app.call(None)
    assert (free.unpriced, free.hold_nano) == (True, 0)
    soft = await alice_app.budget("1", strategy="alert_only", name="soft")
    assert (await alice_app.call(None)).unpriced
    await sync(actions.delete_budget, workspace=alice_app.acme, by=alice_app.cast.alice.actor, budget_id=soft.pk)
    await alice_app.budget("1", name="hard")
    refusal = await alice_app.refused(None)
    assert isinstance(refusal, ModelNotPriced)
    assert refusal.facts["budget"] == "hard"


# --- Policies: every replica, the very next call (F33, F34, F35) --------------------------------------------------------


async def test_a_revoked_key_is_refused_on_the_next_call_of_a_replica_that_knew_it(alice_app: Caller) -> None:
    grant = await alice_app.grant()
    await alice_app.call(1)
    await sync(
        workspace_actions.revoke_virtual_key,
        workspace=alice_app.acme,
        by=alice_app.cast.alice.actor,
        key_id=grant.key.id,
    )
    assert isinstance(await alice_app.refused(1), InvalidKey)
    with pytest.raises(InvalidKey):
        await alice_app.grant()


async def test_a_lost_push_is_repaired_and_meanwhile_a_newer_replica_heals_it(alice_app: Caller) -> None:
    await alice_app.call(1)
    grant = await alice_app.grant()
    meta = await sync(lambda: control.read_meta(control_store(), alice_app.acme.pk))
    await alice_app.budget("1")
    await sync(
        lambda: control_store().hset(money_keys.meta_key(alice_app.acme.pk), "ver", meta.ver)
    )  # as if the push had been lost
    other = open_gate()
    try:
        caller = Caller(other, alice_app.cast, alice_app.key)
        await caller.call(USD)  # a fresh replica compiled the new policy: its version lifts the old one
        assert isinstance(await alice_app.refused(1, grant=grant), OverBudget)
    finally:
        await other.close()


async def test_the_periodic_repair_pushes_what_is_behind(alice_app: Caller) -> None:
    await alice_app.call(1)
    await sync(lambda: Workspace.objects.filter(pk=alice_app.acme.pk).update(policy_pushed=0))
    assert await sync(pushes.repair_pushes) >= 1
    assert await sync(pushes.repair_pushes) == 0


async def test_a_lowered_cap_bites_on_the_next_call_and_a_raise_ends_by_itself(alice_app: Caller) -> None:
    by = alice_app.cast.alice.actor
    made = await alice_app.budget("10")
    await alice_app.call(5 * USD)
    await sync(actions.update_budget, workspace=alice_app.acme, by=by, budget_id=made.pk, cap="4")
    assert isinstance(await alice_app.refused(1), OverBudget)
    (status,) = [
        s for s in await sync(queries.budgets, alice_app.acme, datetime.now(UTC)) if s.budget.id == str(made.pk)
    ]
    assert (status.standing.over, status.standing.left, status.standing.stage) == (USD, 0, Stage.KILL)
    ends = datetime.now(UTC) + timedelta(hours=1)
    await sync(
        actions.grant_raise,
        workspace=alice_app.acme,
        by=by,
        budget_id=made.pk,
        amount="2",
        reason="launch",
        expires_at=ends,
    )
    await alice_app.call(USD)
    grant = await alice_app.grant()
    (rule,) = [rule for rule in grant.policy.budgets if rule.id == str(made.pk)]
    assert (rule.cap_at(now_ms()), rule.cap_at(int(ends.timestamp() * 1000))) == (6 * USD, 4 * USD)


async def test_a_deleted_budget_no_longer_refuses_and_its_open_hold_is_still_released(alice_app: Caller) -> None:
    made = await alice_app.budget("1")
    held = await alice_app.call(USD)
    await sync(actions.delete_budget, workspace=alice_app.acme, by=alice_app.cast.alice.actor, budget_id=made.pk)
    await alice_app.call(50 * USD)
    assert await alice_app.gate.admission.settle(held, USD // 4, 5, DONE) == "OK"
    assert (await sync(books, alice_app.acme)).differences == []


async def test_a_suspended_workspace_is_closed_at_once_and_finishes_what_runs(alice_app: Caller) -> None:
    held = await alice_app.call(USD)
    await sync(workspace_actions.suspend_workspace, workspace=alice_app.acme, by=alice_app.cast.alice.actor)
    assert isinstance(await alice_app.refused(1), WorkspaceClosed)
    assert await alice_app.gate.admission.settle(held, 5, 5, DONE) == "OK"
    await sync(workspace_actions.resume_workspace, workspace=alice_app.acme, by=alice_app.cast.alice.actor)
    await alice_app.call(1)


async def test_a_changed_key_makes_the_gateway_plan_the_call_again(alice_app: Caller) -> None:
    grant = await alice_app.grant()
    await alice_app.call(1)
    await sync(
        workspace_actions.change_virtual_key,
        workspace=alice_app.acme,
        by=alice_app.cast.alice.actor,
        key_id=grant.key.id,
        agent="crawler",
    )
    with pytest.raises(PolicyChanged) as changed:
        await alice_app.call(1, grant=grant)
    assert changed.value.grant.key.pins["agent"] == "crawler"
    await alice_app.call(1, grant=changed.value.grant)


async def test_every_wrong_key_gets_the_same_answer(alice_app: Caller) -> None:
    await alice_app.call(1)
    right = alice_app.key
    wrong = [right[:-1] + ("A" if right[-1] != "A" else "B"), "slk_nobody", "", "sk-openai", right.upper()]
    for text in wrong:
        with pytest.raises(InvalidKey) as caught:
            await alice_app.gate.policies.recognise(text)
        assert str(caught.value) == str(InvalidKey())


# --- Rates and throttle -----------------------------------------------------------------------------------------------


async def test_rate_limits_per_key_refuse_with_an_honest_wait_and_headers(alice_app: Caller) -> None:
    by = alice_app.cast.alice.actor
    await sync(
        actions.create_rate_limit,
        workspace=alice_app.acme,
        by=by,
        metric="rpm",
        limit="2",
        scope="virtual_key",
        value=None,
    )
    admitted = await alice_app.call(1)
    assert admitted.rate_headers() == [
        (b"x-ratelimit-limit-requests", b"2"),
        (b"x-ratelimit-remaining-requests", b"1"),
        (b"x-ratelimit-reset-requests", b"30000ms"),
    ]
    await alice_app.call(1)
    refusal = await alice_app.refused(1)
    assert isinstance(refusal, RateLimited)
    assert (refusal.status, 25 <= refusal.retry_after_s <= 30) == (429, True)


async def test_concurrent_calls_are_limited_until_one_ends(alice_app: Caller) -> None:
    by = alice_app.cast.alice.actor
    await sync(actions.create_rate_limit, workspace=alice_app.acme, by=by, metric="concurrency", limit=2)
    first, _ = await alice_app.call(1), await alice_app.call(1)
    assert isinstance(await alice_app.refused(1), RateLimited)
    await alice_app.gate.admission.settle(first, 1, 1, DONE)
    await alice_app.call(1)


async def test_a_throttled_budget_slows_down_before_it_stops(alice_app: Caller) -> None:
    await alice_app.budget("10", alert_percent=None, throttle_percent=50, throttle_per_minute=60)
    stages = [(await alice_app.call(USD)).stage for _ in range(6)]
    assert stages == [Stage.NORMAL] * 4 + [Stage.THROTTLE] * 2
    refusal = await alice_app.refused(USD)
    assert isinstance(refusal, Throttled)
    assert (refusal.status, refusal.retry_after_s) == (429, 1)


# --- Lost, rolled back, rebuilt (F16, F17) ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["flushall", "one counter", "rolled back", "corrupt"])
async def test_what_redis_lost_is_rebuilt_from_the_books_to_the_nano(alice_app: Caller, loss: str) -> None:
    acme, admission = alice_app.acme, alice_app.gate.admission
    made = await alice_app.budget("10")
    await alice_app.budget("5", scope="user", value=None)
    spent = [await alice_app.call(USD, dims={"user": "ann"}) for _ in range(4)]
    for n, admitted in enumerate(spent[:3]):
        await admission.settle(admitted, USD // (n + 2), 10, DONE)
    before = await sync(
        lambda: {s: (c.settled, c.held) for s, c in control.read_counters(control_store(), acme.pk).items()}
    )
    store, base = control_store(), money_keys.workspace_prefix(acme.pk)
    match loss:
        case "flushall":
            await sync(drain, money_stream(), money_keys.partition_of(acme.pk))
            await sync(store.flushdb)
        case "one counter":
            await sync(store.delete, base + next(s for s in before if str(made.pk) in s))
        case "rolled back":
            await sync(store.hset, money_keys.meta_key(acme.pk), "seq", 1)
        case "corrupt":
            await sync(store.hset, money_keys.meta_key(acme.pk), "state", "corrupt")
    admitted = await alice_app.call(1, dims={"user": "ben"})
    await admission.settle(admitted, 1, 1, DONE)
    after = await sync(
        lambda: {s: (c.settled, c.held) for s, c in control.read_counters(control_store(), acme.pk).items()}
    )
    for suffix, (settled, held) in before.items():
        extra = {1: (1, 0)}.get(1) if str(made.pk) in suffix else (0, 0)
        if money_keys.budget_of(suffix)[2] == "" and str(made.pk) not in suffix:
            extra = (1, 0)  # the plan's quota: one more call
        assert after[suffix] == (settled + extra[0], held + extra[1]), suffix
    assert await admission.settle(spent[3], USD // 7, 10, DONE) == "OK"
    report = await sync(books, acme)
    assert (report.differences, report.open_holds, report.entries) == ([], 0, 5)


async def test_a_second_rebuild_of_the_same_loss_does_nothing(alice_app: Caller) -> None:
    await alice_app.call(1)
    epoch = (await sync(lambda: control.read_meta(control_store(), alice_app.acme.pk))).epoch
    done = await sync(recovery.rebuild, alice_app.acme.pk, seen_epoch=epoch)
    assert done.epoch == epoch + 2  # asked under one, opened under the next
    assert await sync(recovery.rebuild, alice_app.acme.pk, seen_epoch=epoch) is None


async def test_a_rebuilder_that_died_half_way_is_taken_over(alice_app: Caller) -> None:
    await alice_app.budget("10")
    await alice_app.gate.admission.settle(await alice_app.call(USD), USD, 1, DONE)
    meta = await sync(lambda: control.read_meta(control_store(), alice_app.acme.pk))
    await sync(lambda: control.begin_rebuild(control_store(), alice_app.acme.pk, meta.epoch + 1))
    await alice_app.call(9 * USD)
    assert isinstance(await alice_app.refused(1), OverBudget)


async def test_a_flush_under_load_admits_nothing_it_should_not(alice_app: Caller) -> None:
    """Calls run on while Redis is emptied again and again: settled + held in the end is what the books say, and never above the cap."""
    await alice_app.budget("3")
    admitted, refused, over = 0, Tally[str](), asyncio.Event()

    async def worker() -> None:
        nonlocal admitted
        while not over.is_set():
            try:
                held = await alice_app.call(USD // 100)
            except (OverBudget, BudgetStoreUnavailable) as error:
                refused[error.code] += 1
                await asyncio.sleep(0.01)
                continue
            admitted += 1
            await asyncio.sleep(0.002)
            await alice_app.gate.admission.settle(held, USD // 150, 1, DONE)

    async def nemesis() -> None:
        for flushes in range(1, 4):
            while admitted < 25 * flushes and not refused["budget_exceeded"]:
                await asyncio.sleep(0.02)
            await sync(control_store().flushdb)
            await asyncio.sleep(0.05)
        while admitted < 100 and not refused["budget_exceeded"]:
            await asyncio.sleep(0.02)
        over.set()

    await asyncio.gather(nemesis(), *(worker() for _ in range(12)))
    assert await alice_app.gate.limiter.drain(10)
    await alice_app.call(0)
    report = await sync(books, alice_app.acme)
    assert report.differences == []
    assert report.ledger_nano <= 3 * USD
    assert report.entries == admitted
    assert admitted > 50


async def test_a_model_that_costs_more_than_its_bound_is_kept_from_hard_caps_until_somebody_looks(
    alice_app: Caller,
) -> None:
    await alice_app.budget("100")
    admitted = await alice_app.call(USD)
    await alice_app.gate.admission.settle(admitted, 2 * USD, 10, DONE)
    for _ in range(
        250
    ):  # the bar is made beside the calls; it holds once its policy is told, just after its row is seen
        with contextlib.suppress(ModelNotPriced):
            await alice_app.call(1)
            await asyncio.sleep(0.02)
            continue
        break
    assert isinstance(await alice_app.refused(1), ModelNotPriced)
    barred = await sync(queries.barred_models, alice_app.acme)
    await sync(actions.lift_bar, workspace=alice_app.acme, by=alice_app.cast.alice.actor, bar_id=barred[0].pk)
    await asyncio.sleep(
        0.3
    )  # what is refused without asking the money Redis is refused by a policy a quarter of a second old at most
    await alice_app.call(1)
    await sync(books, alice_app.acme)

    def flags() -> list[list[str]]:
        with tenancy.entered(alice_app.acme):
            return [entry.flags for entry in Entry.objects.filter(workspace_id=alice_app.acme.pk)]

    assert ["over"] in await sync(flags)


def _rebuilt(workspace_id: int) -> recovery.Rebuilt:
    """Whoever else is at it (the gate looks after its workspaces itself) is waited for."""
    while True:
        try:
            done = recovery.rebuild(workspace_id)
        except recovery.NotNow:
            time.sleep(0.05)
            continue
        assert done is not None
        return done


@pytest.mark.parametrize("many", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_a_workspace_s_many_thousand_counters_are_rebuilt_in_seconds(
    alice_app: Caller, capsys: pytest.CaptureFixture[str], many: int
) -> None:
    acme = alice_app.acme
    made = await alice_app.budget("5", scope="user", value=None)
    await alice_app.call(1)

    def fill() -> None:
        with tenancy.entered(acme):
            start_ms = made.rule().bounds_at(now_ms()).start_ms
            start = datetime.fromtimestamp(start_ms / 1000, UTC)
            BudgetTotal.objects.bulk_create(
                (
                    BudgetTotal(
                        workspace_id=acme.pk,
                        counter=money_keys.counter_suffix(made.pk, start_ms, money_keys.value_digest(f"user {n}")),
                        budget_id=made.pk,
                        period_start=start,
                        unit="nano",
                        settled=n,
                    )
                    for n in range(many)
                ),
                batch_size=5000,
            )

    await sync(fill)
    rebuilt = [
        await sync(_rebuilt, acme.pk) for _ in range(2)
    ]  # into nothing, and over counters that are there already
    done = rebuilt[-1]
    with capsys.disabled():
        print(f"\n  rebuilt {done.counters:,} counters in {done.seconds:.2f} s")
    assert done.counters == many + (1 if done.holds else 0)
    assert (
        done.seconds < 30 * many / 100_000
    )  # a fifteenth of that on an idle machine; FAULTS I8 allows 30 s for a hundred thousand
    refusal = await alice_app.refused(5 * USD, dims={"user": f"user {many - 1}"})
    assert refusal.facts["spent_usd"] == f"{(many - 1) / 10**9:.9f}"


async def test_a_call_under_way_while_its_workspace_is_deleted_ends_in_the_books(alice_app: Caller) -> None:
    """F35: the row and the schema may be gone before a long stream ends; the ledger outlives them."""
    running = await alice_app.call(USD)
    acme = alice_app.acme
    await sync(workspace_actions.delete_workspace, workspace=acme, by=alice_app.cast.alice.actor, typed_slug=acme.slug)
    await sync(pushes.repair_pushes)
    refusal = await alice_app.refused(USD)
    assert refusal.status in (401, 403)
    await sync(workspace_actions.purge_deleted_workspaces)

    assert await alice_app.gate.admission.settle(running, USD // 2, 10, DONE) == "OK"
    await sync(drain, money_stream(), money_keys.partition_of(acme.pk))

    def booked() -> list[tuple[int, str]]:
        with tenancy.every_workspace("a test looks at what outlives a workspace"):
            return list(Entry.objects.filter(workspace_id=acme.pk).values_list("cost_nano", "basis"))

    assert await sync(booked) == [(USD // 2, "measured")]


async def test_a_member_cap_refuses_a_member_and_nobody_else(alice_app: Caller) -> None:
    acme, alice = alice_app.acme, alice_app.cast.alice.actor
    await sync(lambda: Workspace.objects.filter(pk=acme.pk).update(plan="team"))
    await sync(acme.refresh_from_db)
    await sync(actions.member_caps, workspace=acme, by=alice, cap_usd="2")

    await alice_app.call(2 * USD, dims={"member": "ann"})
    refusal = await alice_app.refused(USD, dims={"member": "ann"})

    assert (refusal.status, refusal.facts["value"]) == (402, "ann")
    assert isinstance(await alice_app.call(USD, dims={"member": "ben"}), Admitted)

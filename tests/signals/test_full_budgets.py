"""A budget that refuses calls although its last percent is not spent is told as a stopped one, once."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from billing.domain import keys
from billing.domain.money import NANO_PER_USD
from guardrails.full_budgets import FullBudgets
from guardrails.limiter.wire import CounterAsk
from guardrails.policy import Policy, PolicyStore
from guardrails.signals import stages, telling
from guardrails.signals.models import FullCounter, Notice
from tests.cast import Cast
from tests.signals.conftest import Spending
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.audit import SYSTEM

USD = NANO_PER_USD


def test_one_call_that_was_too_large_is_no_full_budget() -> None:
    full = FullBudgets()
    counter = CounterAsk("b:x:0", "nano", 5 * USD, 100 * USD, 0, 1, cap=100 * USD)
    full.refused(None, counter, 40 * USD, 0)  # type: ignore[arg-type]  # it does not look further
    assert full._known == set()


@pytest.mark.django_db
def test_it_is_told_as_stopped_and_the_cap_s_own_crossing_is_no_second_mail(spending: Spending, cast: Cast) -> None:
    budget = spending.budget()
    spending.spend(budget, 97)
    spending.tell()
    start = budget.rule().bounds_at(int(time.time() * 1000)).start_ms
    counter = keys.counter_suffix(budget.pk, start)
    with tenancy.entered(cast.acme):
        FullCounter.objects.create(
            workspace_id=cast.acme.pk,
            budget_id=budget.pk,
            counter=counter,
            cap=100 * USD,
            settled=97 * USD,
            at=datetime.now(UTC),
        )
    assert telling.tell(datetime.now(UTC)) == 1
    assert telling.tell(datetime.now(UTC)) == 0
    with tenancy.entered(cast.acme):
        told = Notice.objects.order_by("-id")[0]
    assert (told.kind, told.severity) == ("stopped", "critical")
    assert "too little left, calls are refused" in told.title
    stages.look_soon(cast.acme)
    assert stages.look(datetime.now(UTC)) == 0, "it is still full"
    spending.spend(budget, 3)
    assert spending.tell() == 0, "the same thing was told"


@pytest.mark.django_db(transaction=True)
async def test_the_gateway_notes_a_full_budget_once_beside_the_event_loop(committed_cast: Cast) -> None:
    from asgiref.sync import sync_to_async
    from django.db import connection

    def in_thread(function):  # type: ignore[no-untyped-def]
        def run():  # type: ignore[no-untyped-def]
            try:
                return function()
            finally:
                connection.close()

        return sync_to_async(run, thread_sensitive=False)()

    acme = committed_cast.acme
    key = await in_thread(lambda: workspace_actions.create_virtual_key(workspace=acme, by=SYSTEM, name="k").text)
    policies = PolicyStore()
    policy: Policy = (await policies.recognise(key)).policy
    full = FullBudgets()
    counter = CounterAsk("b:01a200b9-59b4-7b00-8efd-263977369cd5:0", "nano", 5 * USD, 100 * USD, 0, 1, cap=100 * USD)
    for _ in range(100):
        full.refused(policy, counter, 97 * USD, 1_789_000_000_000)
    await full.close()
    await policies.close()

    def noted() -> list[tuple[str, int]]:
        with tenancy.entered(acme):
            return list(FullCounter.objects.values_list("counter", "settled"))

    assert await in_thread(noted) == [(counter.suffix, 97 * USD)]

"""What happens after an attempt that failed: repeated where that is free, sent elsewhere where a rule says so, and told honestly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guardrails import actions as money
from guardrails.policy import NEW_S
from tests.gateway.hop.house import House, sync
from workspaces import actions, tenancy
from workspaces.vault import health
from workspaces.vault.models import ProviderCredential

MESSAGES = "/anthropic/v1/messages"


async def second(house: House, **more: Any) -> Any:
    given = {"name": "second", "secret": "sk-second", "verify": False, "priority": 1, **more}
    made = await house.do(actions.add_credential, provider="simulator", **given)
    await asyncio.sleep(NEW_S)  # for so long a gateway may refuse from what it has just read
    return made


async def alias(house: House, *targets: Any, name: str = "fast", **more: Any) -> Any:
    made = await house.do(actions.create_alias, name=name, targets=targets, **more)
    await asyncio.sleep(NEW_S)  # for so long a gateway may refuse from what it has just read
    return made


# --- Names ------------------------------------------------------------------------------------------------------------
async def test_an_alias_is_asked_as_its_first_target_and_the_answer_says_what_served(house: House) -> None:
    await alias(house, "simulator/sim-large", "simulator/sim-small")
    for path in ("/v1/chat/completions", MESSAGES):
        answered = await house.call("ok", model="fast", path=path)
        assert answered.status == 200, answered.body
        served = [answered.headers[f"sluice-{name}"] for name in ("provider", "model", "attempts")]
        assert served == ["simulator", "sim-large", "1"]
        assert [asked.model for asked in house.asked(answered)] == ["sim-large"]
    [entry] = await house.entries(answered)
    assert (entry.model, entry.cost_nano > 0) == ("sim-large", True)


async def test_an_alias_changed_or_deleted_bites_on_the_next_call(house: House) -> None:
    made = await alias(house, "simulator/sim-large")
    assert (await house.call("ok", model="fast")).headers["sluice-model"] == "sim-large"
    await house.do(actions.change_alias, alias_id=made.id, targets=["simulator/sim-small"])
    assert (await house.call("ok", model="fast")).headers["sluice-model"] == "sim-small"
    await house.do(actions.delete_alias, alias_id=made.id)
    gone = await house.call("ok", model="fast")
    assert (gone.status, gone.error["code"]) == (404, "model_not_found")


async def test_an_alias_may_carry_the_name_of_a_model_whose_own_name_stays_behind_its_provider(house: House) -> None:
    await alias(house, "simulator/sim-large", name="sim-small")
    assert (await house.call("ok")).headers["sluice-model"] == "sim-large"
    assert (await house.call("ok", model="simulator/sim-small")).headers["sluice-model"] == "sim-small"


@pytest.mark.parametrize(
    "allowed,status,served",
    [(["fast"], 200, "sim-large"), (["sim-small"], 200, "sim-small"), (["simulator/sim-small"], 200, "sim-small"), (["sim-other"], 403, None)],
)  # fmt: skip
async def test_a_key_may_use_an_alias_or_only_those_of_its_targets_that_it_may_use(
    house: House, allowed: list[str], status: int, served: str | None
) -> None:
    await alias(house, "simulator/sim-large", "simulator/sim-small")
    house.key = (await house.do(actions.create_virtual_key, name="narrow", allowed_models=allowed)).text
    answered = await house.call("ok", model="fast")
    assert (answered.status, answered.headers.get("sluice-model")) == (status, served)


async def test_a_key_that_is_pinned_uses_its_credential_and_no_other_even_when_that_is_gone(house: House) -> None:
    own = await second(house)
    house.key = (await house.do(actions.create_virtual_key, name="pinned", credential_ids=[own.id])).text
    failed = await house.call("503", "503", "ok")
    assert [asked.secret for asked in house.asked(failed)] == ["sk-second"] * 3
    await house.do(actions.delete_credential, credential_id=own.id)
    refused = await house.call("ok")
    assert (refused.status, refused.error["code"]) == (404, "provider_not_configured")


async def test_credentials_of_one_priority_share_the_calls_by_weight(house: House) -> None:
    await second(house, priority=0, weight=3)
    secrets = [house.asked(await house.call("ok"))[0].secret for _ in range(40)]
    assert 15 < secrets.count("sk-second") < 40


# --- Repeating --------------------------------------------------------------------------------------------------------
async def test_an_error_that_is_not_billed_is_repeated_with_a_hold_of_its_own_for_each_attempt(house: House) -> None:
    answered = await house.call("503", "500", "ok")
    assert (answered.status, answered.headers["sluice-attempts"]) == (200, "3")
    entries = await house.entries(answered)
    assert [(entry.attempt, entry.state, entry.http_status) for entry in entries] == [
        (1, "void", 503),
        (2, "void", 500),
        (3, "settled", 200),
    ]
    assert [str(entry.rid) for entry in entries] == [asked.attempt for asked in house.asked(answered)]
    assert await house.open_holds() == ([], 0)


async def test_a_stream_is_repeated_before_its_first_byte_and_never_after(house: House) -> None:
    answered = await house.call("503", "ok", stream=True)
    assert (answered.status, answered.headers["sluice-attempts"]) == (200, "2")
    assert answered.body.endswith(b"data: [DONE]\n\n")
    cut = await house.call("cut", "ok", stream=True)
    assert (cut.status, cut.starts, cut.ends, len(house.asked(cut))) == (200, 1, 1, 1)
    assert b"provider_bad_response" in cut.body


async def test_the_first_error_is_told_when_nothing_helps_with_what_was_tried(house: House) -> None:
    failed = await house.call("503", "500", "529", "ok")
    assert (failed.status, failed.error["code"], failed.headers["sluice-attempts"]) == (503, "told_503", "3")
    assert failed.error["sluice"]["attempts"] == [
        f"simulator/sim-small: told_{status}" for status in ("503", "500", "529")
    ]
    assert failed.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("outcome", ["silent", "drop", "html"])
async def test_what_may_have_been_billed_is_never_repeated(house: House, outcome: str) -> None:
    failed = await house.call(outcome, "ok")
    assert (failed.status in (502, 504), len(house.asked(failed))) == (True, 1)
    [entry] = await house.entries(failed)
    assert (entry.basis, entry.cost_nano > 0) == ("assumed", True)


@pytest.mark.parametrize("outcome", ["400", "404", "413", "422", "401", "403"])
async def test_a_request_that_the_provider_calls_wrong_is_not_repeated(house: House, outcome: str) -> None:
    await alias(house, "simulator/sim-small", "simulator/sim-large")
    failed = await house.call(outcome, "ok")
    assert (failed.status, len(house.asked(failed))) == (int(outcome), 1)
    if outcome not in ("401", "403"):
        elsewhere = await house.call(outcome, "ok", model="fast")
        assert (elsewhere.status, len(house.asked(elsewhere))) == (int(outcome), 1)


@pytest.mark.parametrize(
    "outcome,attempts", [("429", 1), ("429/0", 2), ("429/7", 1), ("429/1000000000", 1), ("503/0", 2), ("503/60", 1)]
)
async def test_a_rate_limit_is_waited_for_when_the_provider_says_how_long_and_it_is_short(
    house: House, outcome: str, attempts: int
) -> None:
    answered = await house.call(outcome, "ok")
    assert len(house.asked(answered)) == attempts
    if attempts == 1:
        assert answered.status == int(outcome.partition("/")[0])


@pytest.mark.parametrize("headers", [{"sluice_retries": "0"}, {"x_stainless_retry_count": "1"}])
async def test_a_client_that_repeats_by_itself_is_not_repeated_for(house: House, headers: dict[str, str]) -> None:
    failed = await house.call("503", "ok", **headers)
    assert (failed.status, len(house.asked(failed))) == (503, 1)


@pytest.mark.parametrize(
    "headers", [{"sluice_retries": "-1"}, {"sluice_retries": "two"}, {"sluice_fallbacks": "maybe"}]
)
async def test_a_wish_that_cannot_be_read_is_a_400(house: House, headers: dict[str, str]) -> None:
    refused = await house.call("ok", **headers)
    assert (refused.status, refused.error["code"], house.asked(refused)) == (400, "invalid_header", [])


async def test_a_workspace_says_how_often(house: House) -> None:
    await house.do(actions.change_hop_rules, retries=1)
    assert len(house.asked(await house.call("503", "503", "ok"))) == 2
    await house.do(actions.change_hop_rules, retries=0)
    assert len(house.asked(await house.call("503", "503", "ok"))) == 1


async def test_a_stored_response_is_repeated_after_an_error_and_not_sent_elsewhere_after_silence(house: House) -> None:
    await alias(house, "simulator/sim-small", "simulator/sim-large", fallback_on=["no_answer", "server_error"])
    for number, (outcomes, attempts) in enumerate([("drop,ok", 1), ("503,html", 2)], start=10**9):
        body = b'{"model": "fast", "input": "plan:%d:%b"}' % (number, outcomes.encode())
        await house.send(number, "/v1/responses", body, {})
        assert len(house.provider.asked[number]) == attempts


async def test_nobody_waits_for_a_client_that_has_left(house: House) -> None:
    await house.do(actions.change_hop_rules, pause_ms=5_000)
    leaving = asyncio.Event()
    left = asyncio.ensure_future(house.call("503", "ok", leaving=leaving))
    await house.until_asked(1)
    leaving.set()
    assert (await left).starts == 0
    entries = await house.entries()
    assert [(entry.state, entry.attempt) for entry in entries] == [("void", 1)]
    assert await house.open_holds() == ([], 0)


# --- Elsewhere --------------------------------------------------------------------------------------------------------
async def test_another_credential_is_asked_at_once_when_the_first_one_fails(house: House) -> None:
    await second(house)
    for outcome in ("503", "429", "401", "500"):
        house.forget()
        answered = await house.call(outcome, "ok")
        assert answered.status == 200
        assert [asked.secret for asked in house.asked(answered)] == ["sk-first", "sk-second"]
    off = await house.call("429", "ok", sluice_fallbacks="off")
    assert (off.status, len(house.asked(off))) == (429, 1)


async def test_an_alias_goes_to_its_next_target_translated_quoted_and_held_anew(house: House, settings: Any) -> None:
    await house.do(
        actions.add_credential, provider="anthropic", secret="sk-ant", base_url=house.provider.base_url, verify=False
    )
    await alias(house, "simulator/sim-small", "anthropic/claude-haiku-4-5")
    answered = await house.call("503", "ok", model="fast")
    assert answered.status == 200
    assert answered.json["choices"][0]["message"]["content"] == "Hello"
    assert answered.headers["sluice-provider"] == "anthropic"
    assert [asked.path for asked in house.asked(answered)] == ["/v1/chat/completions", "/v1/messages"]
    first, last = await house.entries(answered)
    assert (first.provider, first.state, first.cost_nano) == ("simulator", "void", 0)
    assert (last.provider, last.attempt, last.cost_nano) == ("anthropic", 2, 9 * 1000 + 3 * 5000)


async def test_a_target_that_cannot_be_reached_is_passed_over(house: House, unused_tcp_port: int) -> None:
    dead = await second(house, base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    place = {"provider": "simulator", "model": "sim-large", "credential": str(dead.id)}
    await alias(house, place, "simulator/sim-small")
    answered = await house.call("ok", model="fast")
    assert (answered.status, answered.headers["sluice-attempts"]) == (200, "2")
    void, settled = await house.entries(answered)
    assert (void.error, void.state, settled.state) == ("provider_unreachable", "void", "settled")


@pytest.mark.parametrize("outcome", ["silent", "drop", "html"])
async def test_silence_sends_a_call_elsewhere_only_where_the_alias_says_so(house: House, outcome: str) -> None:
    await alias(house, "simulator/sim-small", "simulator/sim-large")
    assert (await house.call(outcome, "ok", model="fast")).status in (502, 504)
    await alias(house, "simulator/sim-small", "simulator/sim-large", name="sure", fallback_on=["no_answer"])
    answered = await house.call(outcome, "ok", model="sure")
    assert answered.status == 200
    entries = await house.entries(answered)
    assert [(entry.basis, entry.state) for entry in entries] == [("assumed", "settled"), ("measured", "settled")]


async def test_after_what_may_have_been_billed_an_earlier_route_is_not_repeated_either(house: House) -> None:
    await second(house)
    failed = await house.call("503", "html", "ok")
    assert [asked.secret for asked in house.asked(failed)] == ["sk-first", "sk-second"]
    assert failed.status == 503, "the first error is the one that is told"


async def test_a_budget_that_refuses_the_fallback_leaves_the_first_error_and_says_so(house: House) -> None:
    await house.do(money.create_budget, cap="0.0001", period="day", scope="model", value="sim-large")
    await alias(house, "simulator/sim-small", "simulator/sim-large")
    failed = await house.call("503", "ok", model="fast")
    assert (failed.status, failed.error["code"], len(house.asked(failed))) == (503, "told_503", 1)
    assert failed.error["sluice"]["next_attempt_refused"] == "simulator/sim-large: budget_exceeded"
    assert await house.open_holds() == ([], 0)


async def test_a_budget_with_room_for_one_attempt_has_room_for_the_next_after_the_first_is_void(house: House) -> None:
    await house.do(money.create_budget, cap="0.0000500", period="day")
    answered = await house.call("503", "503", "ok")
    assert answered.status == 200, answered.body


# --- Breakers and keys that are refused -------------------------------------------------------------------------------
async def test_a_credential_that_keeps_failing_is_left_alone_and_the_answer_says_until_when(house: House) -> None:
    for _ in range(5):
        await house.call("503", sluice_retries="0")
    rested = await house.call("ok")
    assert (rested.status, rested.error["code"], house.asked(rested)) == (503, "provider_circuit_open", [])
    assert 1 <= int(rested.headers["retry-after"]) <= 5
    assert rested.error["sluice"]["credential"] == "first"
    await second(house)
    answered = await house.call("ok")
    assert [asked.secret for asked in house.asked(answered)] == ["sk-second"]
    assert answered.headers["sluice-attempts"] == "1"


async def test_after_its_rest_one_probe_decides_while_others_wait(house: House) -> None:
    now = [100.0]
    house.forget(lambda: now[0])
    for _ in range(5):
        await house.call("503", sluice_retries="0")
    now[0] += 6
    probe = asyncio.ensure_future(house.call("silent", "ok", sluice_retries="0"))
    await house.until_asked(6)
    assert (await house.call("ok")).error["code"] == "provider_circuit_open"
    await probe
    assert (await house.call("ok")).error["code"] == "provider_circuit_open", "the probe failed"
    now[0] += 11
    assert (await house.call("ok")).status == 200
    assert (await house.call("ok")).status == 200
    now[0] += 60
    await house.call("503", "ok")
    assert (await house.call("ok")).status == 200


async def test_a_key_that_the_provider_refuses_is_marked_told_and_used_last_until_it_works_again(house: House) -> None:
    heard: list[health.CredentialHealth] = []
    health.register(heard.append)  # as alerts do
    try:
        assert (await house.call("401")).status == 401
        await house.gateway.runtime.health.close()

        def states() -> list[tuple[str, str]]:
            with tenancy.entered(house.cast.acme):
                return [(row.name, row.state) for row in ProviderCredential.objects.order_by("created_at")]

        assert await sync(states) == [("first", "rejected")]
        await second(house)
        answered = await house.call("ok")
        assert [asked.secret for asked in house.asked(answered)] == ["sk-second"]
        assert (await house.call("503", "ok")).status == 200  # the refused one is still the last resort
        await house.gateway.runtime.health.close()
        assert (await sync(states))[0] == ("first", "verified")
        assert [(told.name, told.healthy) for told in heard] == [("first", False), ("first", True)]
    finally:
        health._listeners.remove(heard.append)

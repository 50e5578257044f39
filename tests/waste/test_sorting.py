"""The pure part: which call is waste of which cause, and that no dollar is counted twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.money import NANO_PER_USD
from billing.prices import default_book
from guardrails.domain.waste import cheaper, pricing, realised
from guardrails.domain.waste.sorter import HOUR_MS, LOOP_CALLS, Sorter
from guardrails.domain.waste.tally import Tally, tally_of
from guardrails.domain.waste.values import Call, Category, Choice, Found, Promise, Subject, subject_of
from tests.rig.effort import examples

NOON = 1_790_000_000_000
BOOK = default_book()
OPUS, HAIKU = "claude-opus-4-5", "claude-haiku-4-5"


def usage(fresh: int = 1000, output: int = 200, **others: int) -> Usage:
    buckets = {"input_uncached": fresh, "output_text": output, **others}
    prompt = fresh + sum(others.values())
    return Usage(
        buckets={name: count for name, count in buckets.items() if count}, context=UsageContext(prompt_total=prompt)
    )


def call(number: int, *, at_ms: int | None = None, used: Usage | None = None, model: str = OPUS, **values: Any) -> Call:
    used = used or usage()
    at = NOON + number * 1000 if at_ms is None else at_ms
    cost = values.pop("cost_nano", None)
    if cost is None:
        cost = pricing.priced(BOOK, "anthropic", model, at, used) or 0
    given: dict[str, Any] = {"feature": "summary", **values}
    return Call(
        call_id=f"call-{number}", at_ms=at, cost_nano=cost, provider="anthropic", model=model, usage=used, **given
    )


def nothing_cheaper(provider: str, model: str) -> tuple[Choice, ...]:
    return ()


def haiku(provider: str, model: str) -> tuple[Choice, ...]:
    return (Choice(HAIKU, True),) if model == OPUS else ()


def sort(calls: list[Call], choices: Any = nothing_cheaper, **options: Any) -> list[Found]:
    sorter = Sorter(BOOK, choices, **options)
    for one in calls:
        sorter.take(one)
    return sorter.found()


def only(found: list[Found], category: Category) -> Found:
    (one,) = [one for one in found if one.category is category]
    return one


def test_the_same_question_within_the_hour_is_paid_twice_and_the_first_answer_is_no_waste() -> None:
    calls = [call(1, fingerprint=7), call(2, fingerprint=7), call(3, fingerprint=8), call(4, fingerprint=7)]
    one = only(sort(calls), Category.DUPLICATES)
    assert (one.calls, one.waste_nano) == (2, calls[1].cost_nano + calls[3].cost_nano)
    assert set(one.samples) == {"call-2", "call-4"}
    assert one.subject == Subject(feature="summary", provider="anthropic", model=OPUS)


def test_a_question_asked_again_after_an_hour_or_after_a_failure_is_no_duplicate() -> None:
    later = NOON + HOUR_MS + 2000
    assert sort([call(1, fingerprint=7), call(2, fingerprint=7, at_ms=later)]) == []
    assert sort([call(1, fingerprint=7, failed=True, cost_nano=0), call(2, fingerprint=7)]) == []
    assert sort([call(1), call(2)]) == [], "calls without a fingerprint are equal to none"


def test_what_was_asked_before_midnight_is_remembered_and_not_counted() -> None:
    calls = [call(1, fingerprint=7, at_ms=NOON - 1000), call(2, fingerprint=7)]
    sorter = Sorter(BOOK, nothing_cheaper, since_ms=NOON)
    for one in calls:
        sorter.take(one)
    assert only(sorter.found(), Category.DUPLICATES).calls == 1
    assert sorter.tally.calls == 1


def test_a_failed_attempt_that_was_charged_is_waste_whole_and_one_that_was_not_is_counted() -> None:
    calls = [
        call(1, failed=True, error="provider_timeout", assumed=True),
        call(2, failed=True, error="overloaded_error", cost_nano=0, attempt=2),
    ]
    one = only(sort(calls), Category.FAILURES)
    assert (one.calls, one.waste_nano, one.assumed_nano) == (1, calls[0].cost_nano, calls[0].cost_nano)
    assert one.facts == {
        "failed": 2, "retried": 1, "storms": 0, "errors": {"provider_timeout": 1, "overloaded_error": 1},
    }  # fmt: skip


def test_a_storm_of_free_failures_is_told_and_costs_nothing() -> None:
    one = only(sort([call(n, failed=True, cost_nano=0, error="429") for n in range(25)]), Category.FAILURES)
    assert (one.waste_nano, one.facts["storms"], one.facts["failed"]) == (0, 1, 25)


def test_of_an_answer_nobody_waited_for_the_output_is_waste() -> None:
    one = only(sort([call(1, hung_up=True, used=usage(1000, 400))]), Category.ABORTED)
    assert one.waste_nano == 400 * 25 * NANO_PER_USD // 1_000_000


def test_a_session_is_a_loop_from_the_call_that_a_limit_would_refuse() -> None:
    calls = [call(n, at_ms=NOON + n * 100, session="run-1", agent="scout") for n in range(LOOP_CALLS + 50)]
    one = only(sort(calls), Category.LOOPS)
    assert one.calls == 50
    assert one.waste_nano == sum(each.cost_nano for each in calls[LOOP_CALLS:])
    assert one.subject == Subject(feature="summary", agent="scout")
    assert one.facts == {"sessions": {"run-1": 50}, "allowed_an_hour": LOOP_CALLS}
    assert sort([call(n, session=f"s-{n % 20}") for n in range(LOOP_CALLS + 50)]) == [], "many sessions are no loop"


def test_a_loop_asking_the_same_is_a_loop_and_not_a_duplicate_too() -> None:
    calls = [call(n, at_ms=NOON + n * 100, session="run-1", fingerprint=7) for n in range(LOOP_CALLS + 50)]
    found = sort(calls)
    assert only(found, Category.LOOPS).calls == 50
    assert only(found, Category.DUPLICATES).calls == LOOP_CALLS - 1


def test_short_answers_of_a_dear_model_are_priced_on_the_cheaper_one() -> None:
    calls = [call(n, used=usage(3100, 210)) for n in range(30)]
    one = only(sort(calls, haiku), Category.OVERKILL)
    cost = sum(each.cost_nano for each in calls)
    assert one.cost_nano == cost
    assert one.waste_nano == cost - cost // 5, "five times the price"
    assert one.facts["options"] == {HAIKU: cost // 5}


def test_long_answers_keep_their_model() -> None:
    few_short = [call(n, used=usage(3100, 2000 if n % 2 else 210)) for n in range(30)]
    assert sort(few_short, haiku) == []
    mostly_short = [call(n, used=usage(3100, 2000 if n % 10 == 0 else 210)) for n in range(30)]
    assert only(sort(mostly_short, haiku), Category.OVERKILL).calls == 27, "the long answers are not counted"


def test_a_summary_is_short_by_what_it_was_made_from() -> None:
    digests = [call(n, used=usage(4000, 900)) for n in range(5)]
    assert only(sort(digests, haiku), Category.OVERKILL).calls == 5
    essays = [call(n, used=usage(1000, 900)) for n in range(5)]
    assert sort(essays, haiku) == []


def test_context_sent_again_without_a_cache_is_waste_of_what_the_cache_takes_off() -> None:
    calls = [call(n, session="s", used=usage(4000 + n * 500, 100)) for n in range(4)]
    one = only(sort(calls), Category.OVERSIZED)
    rate = 5 * NANO_PER_USD // 1_000_000
    resent = 4000 + 4500 + 5000
    assert one.facts["resent_tokens"] == resent
    assert one.waste_nano == resent * rate * 9 // 10 - 3 * 500 * rate // 4, (
        "read at a tenth, the new part written at 1.25"
    )
    cached = [call(n, session="s", used=usage(500, 100, cache_read=4000 + n * 500)) for n in range(4)]
    assert sort(cached) == []


def test_a_promise_is_kept_call_by_call_on_the_price_of_the_model_that_was_asked_for() -> None:
    promise = Promise("f-1", "anthropic", OPUS, "summary", NOON + 5000)
    calls = [call(n, model=HAIKU, model_requested=OPUS, used=usage(3000, 200)) for n in range(10)]
    sorter = Sorter(BOOK, nothing_cheaper, promises=[promise])
    for one in calls:
        sorter.take(one)
    saved = sorter.tally.saved["f-1"]
    assert saved.calls == 5, "from the lever on"
    assert saved.cost_nano * 5 == saved.would_have_nano
    assert saved.saved_nano == saved.cost_nano * 4


some_calls = some.lists(
    some.tuples(
        some.integers(0, 400_000), some.integers(0, 6000), some.integers(0, 1200), some.sampled_from(["", "a", "b"]),
        some.sampled_from([None, 1, 2]), some.sampled_from(["ok", "ok", "ok", "failed", "hung_up", "void"]),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(some_calls)
def test_no_dollar_stands_in_two_categories_and_none_comes_from_nowhere(drawn: list[tuple[Any, ...]]) -> None:
    calls = []
    for number, (at, fresh, output, session, fingerprint, fate) in enumerate(sorted(drawn, key=lambda one: one[0])):
        free: dict[str, Any] = {"cost_nano": 0} if fate == "void" else {}
        known: dict[str, Any] = {"session": session, "fingerprint": fingerprint}
        ended = {"failed": fate == "failed", "hung_up": fate == "hung_up"}
        calls.append(call(number, at_ms=NOON + at, used=usage(fresh, output), **known, **ended, **free))
    found = sort(calls, haiku, session_calls_an_hour=5)
    spent = sum(one.cost_nano for one in calls)
    assert sum(one.cost_nano for one in found) <= spent
    assert all(0 <= one.assumed_nano <= one.waste_nano <= one.cost_nano for one in found)
    assert sum(one.calls for one in found) <= len(calls)
    assert all(subject_of(one.subject.key) == one.subject for one in found)


def test_cheaper_models_are_those_in_use_and_the_smaller_ones_of_the_generation() -> None:
    at_s = NOON // 1000
    assert cheaper.choices(BOOK, "anthropic", OPUS, at_s=at_s, used={OPUS, "claude-sonnet-4-5", HAIKU}) == (
        Choice(HAIKU, True), Choice("claude-sonnet-4-5", True),
    )  # fmt: skip
    assert cheaper.choices(BOOK, "anthropic", OPUS, at_s=at_s, used={OPUS}) == (
        Choice("claude-sonnet-4-5", False), Choice(HAIKU, False),
    ), "the shortest step down first"  # fmt: skip
    assert cheaper.choices(BOOK, "anthropic", OPUS, at_s=at_s, used={HAIKU}, barred={HAIKU, "claude-sonnet-4-5"}) == ()
    names = [one.model for one in cheaper.choices(BOOK, "openai", "gpt-4.1", at_s=at_s, used=())]
    assert names == ["gpt-4.1-mini", "gpt-4.1-nano"]
    assert cheaper.choices(BOOK, "anthropic", HAIKU, at_s=at_s, used={OPUS}) == ()
    assert cheaper.choices(BOOK, "anthropic", "no-such-model", at_s=at_s, used={OPUS}) == ()


@pytest.mark.parametrize("model, names", [
    ("gemini-2.5-pro", ["gemini-2.5-flash", "gemini-2.5-flash-lite"]),
    ("gemini-2.5-flash", ["gemini-2.5-flash-lite"]),
    ("gemini-2.5-flash-lite", ["gemini-2.5-flash-lite-mini", "gemini-2.5-flash-lite-nano"]),
    ("gpt-5-mini", ["gpt-5-nano"]), ("gpt-5-nano", []),
])  # fmt: skip
def test_sizes_have_their_order(model: str, names: list[str]) -> None:
    assert cheaper.smaller(model) == names


def test_fewer_calls_alone_save_nothing_and_a_loss_is_said() -> None:
    before = realised.Before(calls=100, waste_nano=1000)
    assert realised.saved_nano(before, calls=10, waste_nano=100) == 0
    assert realised.saved_nano(before, calls=200, waste_nano=500) == 1500
    assert realised.saved_nano(before, calls=10, waste_nano=400) == -300
    assert realised.saved_nano(realised.Before(0, 0), calls=10, waste_nano=0) == 0


def test_a_day_counted_in_parts_is_the_day_counted_whole() -> None:
    """Each part reads the hour before it again, and goes on from what was put down as JSON."""
    asked = [
        call(
            number, at_ms=NOON + number * 37_000, used=usage(4000 + number * 10, 200), session=f"s{number % 3}", fingerprint=number % 41,
            **({"failed": True, "error": "timeout"} if number % 17 == 0 else {"hung_up": True} if number % 13 == 0 else {}),
        )
        for number in range(400)
    ]  # fmt: skip
    promise = Promise("f-1", "anthropic", OPUS, "summary", NOON)
    offers = (Choice(HAIKU, True),)
    given: dict[str, Any] = {"promises": [promise], "session_calls_an_hour": 30}
    whole = Sorter(BOOK, lambda provider, model: offers, **given)
    for one in asked:
        whole.take(one)
    tally = Tally()
    for first in range(0, 400, 90):
        since = asked[first].at_ms
        part = Sorter(BOOK, lambda provider, model: offers, since_ms=since, tally=tally, **given)
        for one in asked[:first]:
            if one.at_ms >= since - HOUR_MS:
                part.take(one)
        for one in asked[first : first + 90]:
            part.take(one)
        tally = tally_of(json.loads(json.dumps(part.tally.plain())))
    last = Sorter(BOOK, lambda provider, model: (), tally=tally)
    assert {one.category for one in whole.found()} >= {Category.FAILURES, Category.ABORTED, Category.DUPLICATES}
    assert sorted(last.found(), key=str) == sorted(whole.found(), key=str)
    assert last.tally.saved == whole.tally.saved

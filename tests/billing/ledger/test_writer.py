"""The stream becomes the books: every event once, whatever order or repetition it arrives in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.domain.keys import partition_of, stream_key
from billing.ledger import rollups, writer
from billing.models import BudgetLine, BudgetTotal, Crossing, DeadLetter, Entry, OpenAttempt, StreamOffset
from tests.cast import Cast
from tests.rig.effort import examples
from workspaces import actions, tenancy
from workspaces.ids import uuid7

pytestmark = pytest.mark.django_db

WS = 42


def test_a_settled_call_is_one_line_with_its_cost_tokens_and_dimensions(events: Any, books: Any) -> None:
    rid = events.call(WS, cost=1234, held=5000, dims={"customer": "acme", "feature": "chat"}, tags={"team": "a"})
    assert books.drain(WS).booked == 1
    with tenancy.every_workspace("tests"):
        entry = Entry.objects.get(rid=rid)
    assert (entry.state, entry.leg, entry.cost_nano, entry.hold_nano, entry.basis) == (
        "settled",
        0,
        1234,
        5000,
        "measured",
    )
    assert (entry.customer, entry.feature, entry.model, entry.tags) == ("acme", "chat", "fake-ok", {"team": "a"})
    assert (entry.input_tokens, entry.cache_read_tokens, entry.output_tokens) == (10, 4, 3)
    assert entry.at == datetime.fromtimestamp((UUID(rid).int >> 80) / 1000, UTC)
    unpacked = entry.unpacked()
    assert unpacked["raw_usage"] == '{"prompt_tokens": 14, "completion_tokens": 3}'
    assert unpacked["breakdown"][0]["cost_usd"] == "0.0000015"


def test_a_hold_is_an_open_attempt_until_its_end_is_booked(events: Any, books: Any, counter: str) -> None:
    rid = events.emit("hold", WS, held=9, charges=[[counter, "nano", 9]])
    books.drain(WS)
    assert books.rows("SELECT rid, hold_nano FROM billing_open_attempt") == [(UUID(rid), 9)]
    events.emit("settle", WS, rid, cost=3, held=9, charges=[[counter, "nano", 3]])
    books.drain(WS)
    assert books.rows("SELECT rid FROM billing_open_attempt") == []


def test_a_hold_that_arrives_after_its_settle_opens_nothing(events: Any, books: Any) -> None:
    rid = str(uuid7())
    events.emit("settle", WS, rid, cost=3, held=9)
    books.drain(WS)
    events.emit("hold", WS, rid, held=9)
    books.drain(WS)
    assert books.rows("SELECT rid FROM billing_open_attempt") == []


def test_an_expired_attempt_is_assumed_at_its_hold_and_the_truth_corrects_it_once(
    events: Any, books: Any, counter: str
) -> None:
    rid = events.emit("hold", WS, held=100)
    events.emit("expire", WS, rid, cost=100, held=100, charges=[[counter, "nano", 100]])
    books.drain(WS)
    total = "SELECT cost_nano, assumed_nano, calls FROM billing_rollup_day WHERE dimension = ''"
    assert books.rows(total) == [(100, 100, 1)]
    for _ in range(2):
        events.emit("adjust", WS, rid, cost=-70, held=100, charges=[[counter, "nano", -70]])
        books.drain(WS)
    assert books.rows(total) == [(30, 0, 1)]
    assert books.value("SELECT settled FROM billing_budget_total") == 30
    assert books.rows("SELECT leg, state, cost_nano, basis FROM billing_entry ORDER BY leg") == [
        (0, "expired", 100, "assumed"),
        (1, "adjusted", -70, "measured"),
    ]


def test_a_void_attempt_shows_in_the_call_log_and_costs_nothing(events: Any, books: Any, counter: str) -> None:
    rid = events.emit("hold", WS, held=9)
    events.emit(
        "void", WS, rid, held=9, error="provider_unreachable", http_status=0, buckets={}, charges=[[counter, "nano", 0]]
    )
    books.drain(WS)
    assert books.entries("state", "cost_nano", "error") == [("void", 0, "provider_unreachable")]
    assert books.rows("SELECT cost_nano, attempts, voids, errors FROM billing_rollup_day WHERE dimension = ''") == [
        (0, 1, 1, 1)
    ]


def test_rollups_are_the_sum_of_the_lines_for_every_dimension_and_grain(events: Any, books: Any) -> None:
    chance = random.Random(7)
    for _ in range(120):
        dims = {
            "customer": f"c{chance.randrange(5)}",
            "session": f"s{chance.randrange(9)}",
            "feature": chance.choice(["a", "b", ""]),
        }
        events.call(
            WS,
            cost=chance.randrange(10**12),
            dims=dims,
            tags={"team": chance.choice("xy")},
            model=chance.choice(["m1", "m2"]),
        )
    books.drain(WS, batch=37)
    ledger = books.value("SELECT sum(cost_nano)::bigint FROM billing_entry")
    for table in ("hour", "day", "month"):
        assert books.value(f"SELECT sum(cost_nano)::bigint FROM billing_rollup_{table} WHERE dimension = ''") == ledger
        for dimension in ("customer", "model", "provider", "tag:team"):
            assert (
                books.value(
                    f"SELECT sum(cost_nano)::bigint FROM billing_rollup_{table} WHERE dimension = %s", dimension
                )
                == ledger
            )
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_rollup_detail") == ledger
    by_customer = "SELECT customer, sum(cost_nano)::bigint FROM {} GROUP BY 1 ORDER BY 1"
    assert books.rows(by_customer.format("billing_rollup_detail")) == books.rows(by_customer.format("billing_entry"))


def test_the_same_events_delivered_again_change_nothing(events: Any, books: Any, counter: str) -> None:
    fields = []
    for cost in range(20):
        rid = str(uuid7())
        fields += [
            events.fields("hold", WS, rid, held=99),
            events.fields("settle", WS, rid, cost=cost, held=99, charges=[[counter, "nano", cost]]),
        ]
    for one in fields:
        events.add(WS, one)
    books.drain(WS)
    before = books.picture()
    for one in [*fields, *fields]:
        events.add(WS, one)
    assert books.drain(WS).booked == 0
    assert books.picture() == before


KINDS = st.sampled_from(["settle", "void", "expire", "expire+adjust", "open"])


@given(
    kinds=st.lists(KINDS, min_size=1, max_size=25), chance=st.randoms(use_true_random=False), batch=st.integers(1, 30)
)
@pytest.mark.tries
@settings(
    max_examples=examples(20, one_in=4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_and_repetition_of_events_ends_in_the_same_books(
    events: Any, books: Any, kinds: list[str], chance: random.Random, batch: int
) -> None:
    """The same story told twice: in order, and shuffled with some events doubled."""
    budget, pictures = uuid4(), []
    for shuffled in (False, True):
        events.redis.flushdb()
        events.seq.clear()
        fields = _story(events, kinds, f"b:{budget}:1761955200000")
        told = [one for one in fields for _ in range(chance.choice((1, 1, 2)))] if shuffled else fields
        if shuffled:
            chance.shuffle(told)
        sid = _savepoint("SAVEPOINT story")
        _line(budget, cap=1000, thresholds=[50, 90, 100])
        for one in told:
            events.add(WS, one)
        books.drain(WS, batch=batch)
        picture = books.picture()
        # Whether a threshold was passed on the way depends on the order where a correction takes the sum back under it.
        if any(kind == "expire+adjust" for kind in kinds):
            picture.pop("crossings")
        pictures.append(picture)
        _savepoint(f"ROLLBACK TO SAVEPOINT {sid}")
    assert pictures[0] == pictures[1]


def _story(events: Any, kinds: list[str], counter: str) -> list[dict[str, str]]:
    at_ms, told = 1_763_700_000_000, []
    for place, kind in enumerate(kinds):
        rid = str(UUID(int=at_ms << 80 | 0x7 << 76 | 0b10 << 62 | place))  # the same ids in both tellings
        common: dict[str, Any] = {"at_ms": at_ms, "call": rid, "held": 100, "dims": {"customer": f"c{place % 3}"}}
        told.append(events.fields("hold", WS, rid, charges=[[counter, "nano", 100]], **common))
        if kind == "settle":
            told.append(events.fields("settle", WS, rid, cost=place, charges=[[counter, "nano", place]], **common))
        elif kind == "void":
            told.append(events.fields("void", WS, rid, charges=[[counter, "nano", 0]], **common))
        elif kind.startswith("expire"):
            told.append(events.fields("expire", WS, rid, cost=100, charges=[[counter, "nano", 100]], **common))
            if kind.endswith("adjust"):
                told.append(events.fields("adjust", WS, rid, cost=-60, charges=[[counter, "nano", -60]], **common))
    return told


def _savepoint(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    return "story"


def _line(budget: UUID, *, cap: int, thresholds: list[int], workspace: int = WS) -> None:
    with tenancy.every_workspace("tests write a budget's line"):
        BudgetLine.objects.create(
            budget_id=budget, workspace_id=workspace, name="Production", unit="nano", cap=cap, thresholds=thresholds
        )


def test_each_threshold_is_crossed_once_per_period(events: Any, books: Any) -> None:
    budget = uuid4()
    _line(budget, cap=1000, thresholds=[50, 75, 90, 100])
    crossed = "SELECT threshold FROM billing_crossing WHERE counter LIKE %s ORDER BY 1"
    for period in (events.now_ms() - 60 * 86_400_000, events.now_ms() - 86_400_000):
        counter = f"b:{budget}:{period}"
        expected: list[list[int]] = [[], [50, 75], [50, 75], [50, 75, 90, 100]]
        for cost, thresholds in zip((499, 300, 1, 300), expected, strict=True):
            events.call(WS, cost=cost, charges=[[counter, "nano", cost]])
            books.drain(WS)
            assert [row[0] for row in books.rows(crossed, counter + "%")] == thresholds
    with tenancy.every_workspace("tests"):
        assert Crossing.objects.filter(budget_id=budget).count() == 8
        assert set(BudgetTotal.objects.values_list("settled", flat=True)) == {1100}


def test_a_poison_event_is_set_aside_tried_five_times_and_quarantined_while_the_others_go_on(
    events: Any, books: Any
) -> None:
    partition = partition_of(WS)
    events.call(WS, cost=1)
    bad = events.fields("settle", WS, "not-a-rid", cost=7)
    events.add(WS, bad)
    events.add(WS, {"k": b"\xff\xfe", "nonsense": b"\x00"})
    events.call(WS, cost=2)
    done = books.drain(WS)
    assert (done.booked, done.buried) == (2, 2)
    now = datetime.now(UTC)
    assert set(books.rows("SELECT workspace_id, tries FROM billing_dead_letter")) == {(WS, 1), (None, 1)}
    for _ in range(6):
        now += timedelta(minutes=5)
        writer.retry_dead_letters(partition, now)
    assert books.rows("SELECT tries, next_at FROM billing_dead_letter") == [(5, None), (5, None)]
    # Its number was seen: it was not lost on the way.
    assert books.rows("SELECT seq, gaps FROM billing_sequence_mark") == [(5, "[]")]


def test_a_dead_letter_that_can_be_booked_after_all_is_booked(events: Any, books: Any) -> None:
    rid = str(uuid7())
    fields = events.fields("settle", WS, rid, cost=7)
    events.add(WS, {**fields, "c": "not a number"})
    books.drain(WS)
    with tenancy.every_workspace("tests mend a letter"):
        letter = DeadLetter.objects.get()
        letter.fields["c"] = "7"
        letter.save()
    assert writer.retry_dead_letters(partition_of(WS), datetime.now(UTC) + timedelta(minutes=1)) == 1
    assert books.rows("SELECT cost_nano FROM billing_entry") == [(7,)]
    assert books.rows("SELECT id FROM billing_dead_letter") == []


def test_an_event_that_only_the_database_refuses_is_found_among_its_batch(events: Any, books: Any) -> None:
    for cost in (1, 2, 3):
        events.call(WS, cost=cost)
    events.emit("settle", WS, cost=2**63, held=9)  # no bigint
    for cost in (4, 5):
        events.call(WS, cost=cost)
    done = books.drain(WS)
    assert (done.booked, done.buried) == (5, 1)
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_rollup_day WHERE dimension = ''") == 15


def test_an_event_in_another_workspaces_partition_is_not_booked(events: Any, books: Any) -> None:
    stranger = next(other for other in range(43, 200) if partition_of(other) != partition_of(WS))
    events.redis.xadd(stream_key(partition_of(WS)), events.fields("settle", stranger, str(uuid7()), cost=7))
    assert books.drain(WS).buried == 1
    assert books.rows("SELECT rid FROM billing_entry") == []


def test_a_missing_number_is_noted_and_forgotten_when_it_arrives(events: Any, books: Any, caplog: Any) -> None:
    late = events.fields("hold", WS, str(uuid7()))
    events.call(WS)
    books.drain(WS)
    assert books.rows("SELECT seq, gaps FROM billing_sequence_mark") == [(3, "[[1, 1]]")]
    assert "events 1 to 1 are missing" in caplog.text
    events.add(WS, late)
    books.drain(WS)
    assert books.rows("SELECT seq, gaps FROM billing_sequence_mark") == [(3, "[]")]


def test_after_a_flush_with_a_clock_that_went_back_nothing_new_is_skipped(events: Any, books: Any) -> None:
    events.call(WS, cost=1)
    books.drain(WS)
    events.redis.flushdb()
    for place in range(3):
        events.add(WS, events.fields("settle", WS, str(uuid7()), cost=10), id_=f"{1000 + place}-0")
    assert books.drain(WS).booked == 3
    assert books.value("SELECT resets FROM billing_stream_offset") == 1
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_entry") == 31


def test_an_older_redis_that_gives_the_same_id_again_is_noticed(events: Any, books: Any) -> None:
    first = events.fields("settle", WS, str(uuid7()), cost=1)
    events.add(WS, first, id_="5000-0")
    events.add(WS, events.fields("settle", WS, str(uuid7()), cost=2), id_="6000-0")
    books.drain(WS)
    events.redis.flushdb()
    events.add(WS, first, id_="5000-0")
    events.add(WS, events.fields("settle", WS, str(uuid7()), cost=4), id_="6000-0")
    books.drain(WS)
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_entry") == 7


@pytest.mark.django_db
def test_a_minute_of_many_calls_is_trimmed_whole(events: Any, books: Any) -> None:
    """Redis drops ten thousand entries at a time: a partition that gets more a minute would grow until its Redis is full."""
    pipe = events.redis.pipeline(transaction=False)
    for number in range(12_000):
        pipe.xadd(stream_key(63), {"k": "hold"}, id=f"{1_000 + number}-0")
    pipe.xadd(stream_key(63), {"k": "hold"}, id="99999-0")
    pipe.execute()
    assert books.stream.trim({63: "99999-0"}) >= 11_900
    assert books.stream.lengths()[63] <= 101


def test_trimming_keeps_what_is_young_what_is_not_committed_and_the_last_committed_one(events: Any, books: Any) -> None:
    for place in range(250):
        events.add(WS, events.fields("settle", WS, str(uuid7()), cost=1), id_=f"{1000 + place}-0")
    books.drain(WS)
    writer.trim(books.stream, datetime.now(UTC))
    left = books.stream.read_from(partition_of(WS), "", 1000)
    assert left[-1].id == "1249-0"
    assert len(left) <= 150  # Redis trims whole nodes
    events.call(WS, cost=1)
    assert books.drain(WS).booked == 1
    assert books.value("SELECT resets FROM billing_stream_offset") == 0


def test_calls_of_past_and_coming_months_find_their_partition(events: Any, books: Any) -> None:
    now = datetime.now(UTC)
    for days in (-200, -95, -31, 0, 0.9):
        at_ms = int((now + timedelta(days=days)).timestamp() * 1000)
        rid = str(uuid7(at_ms))
        events.add(WS, events.fields("settle", WS, rid, cost=1))
    assert books.drain(WS).booked == 5
    assert books.value("SELECT count(*) FROM billing_entry") == 5


def test_days_and_hours_are_those_of_the_workspaces_clock(events: Any, books: Any, cast: Cast) -> None:
    cast.acme.time_zone = "Asia/Kathmandu"  # +5:45
    cast.acme.save()
    at = datetime(2026, 11, 20, 18, 20, tzinfo=UTC)  # 00:05 on the 21st there
    events.call(cast.acme.id, cost=5, at_ms=int(at.timestamp() * 1000))
    books.drain(cast.acme.id)
    assert books.rows("SELECT day::text FROM billing_rollup_day WHERE dimension = ''") == [("2026-11-21",)]
    assert books.rows("SELECT hour FROM billing_rollup_hour WHERE dimension = ''") == [
        (datetime(2026, 11, 20, 18, 15, tzinfo=UTC),)
    ]


def test_keys_learn_when_they_were_last_used(events: Any, books: Any, cast: Cast) -> None:
    key = actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="app").row
    events.call(cast.acme.id, key=str(key.id))
    books.drain(cast.acme.id)
    key.refresh_from_db()
    assert key.last_used_at is not None


def test_beyond_the_bound_new_combinations_of_a_day_lose_session_and_user(
    events: Any, books: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(rollups.write.__kwdefaults__, "most_details", 10)
    for place in range(30):
        events.call(WS, cost=1, dims={"session": f"s{place}", "user": f"u{place}"})
    books.drain(WS, batch=6)
    assert books.value("SELECT count(*) FROM billing_rollup_detail") <= 11
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_rollup_detail") == 30
    assert books.value("SELECT count(*) FROM billing_rollup_day WHERE dimension = 'session'") == 30


def test_a_settle_whose_context_redis_lost_gets_it_from_the_open_attempt(events: Any, books: Any) -> None:
    rid = events.emit("hold", WS, held=9, dims={"customer": "acme"})
    books.drain(WS)
    events.emit("settle", WS, rid, cost=3, held=9, context=False)
    books.drain(WS)
    assert books.rows("SELECT customer, cost_nano FROM billing_entry") == [("acme", 3)]
    assert OpenAttempt.objects.count() == 0
    assert StreamOffset.objects.get(partition=partition_of(WS)).last_id

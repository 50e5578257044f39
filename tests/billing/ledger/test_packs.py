"""Combinations answer the same whether they stand in rows, in packs or in both; nothing is lost on the way between."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ledger import queries, reconcile
from billing.ledger.packs import adding, columns, packing, placing
from billing.ledger.packs.columns import coded
from billing.ledger.packs.reading import Block
from billing.ledger.queries import Days, Granularity
from billing.ledger.values import texts_in
from tests.cast import Cast
from tests.rig.effort import examples
from workspaces import tenancy
from workspaces.models import Workspace

NOW = datetime.now(UTC)
RANGE = Days(NOW.date() - timedelta(days=12), NOW.date())
QUESTIONS: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    (("customer", "feature"), {}),
    (("tag:team", "model"), {"customer": "ann"}),
    (("user",), {"tag:team": "x"}),
    (("session", "user"), {}),
    ((), {"customer": "ben", "feature": "chat"}),
)


@given(st.lists(st.integers(-(2**62), 2**62 - 1), max_size=50))
def test_a_column_of_numbers_comes_back_as_it_was(numbers: list[int]) -> None:
    assert columns.unpack_numbers(columns.pack_numbers(np.array(numbers, np.int64))).tolist() == numbers


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8), max_size=50))
def test_a_column_of_texts_comes_back_as_it_was(texts: list[str]) -> None:
    column = columns.unpack_texts(columns.coded(texts).packed())
    assert [column.value(int(code)) for code in column.codes] == texts
    assert texts_in(columns.coded(texts * 9).packed()) == list(dict.fromkeys(texts))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-(10**15), 10**15)), max_size=60))
def test_sums_are_exact_to_the_last_nano(rows: list[tuple[int, int]]) -> None:
    places, numbers = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    expected = [sum(number for place, number in rows if place == one) for one in range(4)]
    assert columns.sums_at(places, numbers, 4).tolist() == expected


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(-(10**6), 10**12)),
    max_size=40,
)


@settings(deadline=None, max_examples=examples(60))
@given(ROWS, st.integers(1, 9), st.integers(1, 2), st.booleans())
def test_the_largest_groups_are_found(
    rows: list[tuple[int, str, str, int]], limit: int, width: int, is_placed: bool
) -> None:
    day = NOW.date()
    chosen = []
    for number in range(3):
        own = [row for row in rows if row[0] == number]
        texts = [coded([row[1 + place] for row in own]) for place in range(width)]
        cost = columns.pack_numbers(np.array([row[3] for row in own], np.int64))
        block = Block(day - timedelta(days=number), len(own), texts, {"cost_nano": cost})
        chosen.append(adding.Chosen(block, None, texts, [one.codes for one in texts]))
    sums: dict[tuple[str, ...], int] = {}
    for row in rows:
        sums[row[1 : 1 + width]] = sums.get(row[1 : 1 + width], 0) + row[3]
    expected = sorted(sums, key=lambda group: (-sums[group], group))[:limit]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(placing, "MOST_PLACES", placing.MOST_PLACES if is_placed else 0)  # else groups are hashed
        patched.setattr(placing, "ROWS_A_PLACE", 0.01)
        patched.setattr(placing, "_AT_ONCE", 20)
        assert adding.ranked(chosen, ["cost_nano"], limit) == expected
    assert [row.totals.cost_nano for row in adding.of(chosen, expected, ["cost_nano"])] == [
        sums[one] for one in expected
    ]
    there = list(dict.fromkeys(group[0] for group in expected))[:2]
    of_groups, lines = adding.of_groups_and_days(chosen, expected, there, ["cost_nano"])
    assert of_groups == adding.of(chosen, expected, ["cost_nano"])
    assert sorted(lines) == sorted(adding.of_days(chosen, there, ["cost_nano"]))
    by_day = adding.of_days(chosen, ["a", "c"], ["cost_nano"])
    assert sum(totals.cost_nano for _, _, totals in by_day) == sum(row[3] for row in rows if row[1] in "ac")


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32))
def test_the_largest_of_very_many_groups_are_those_of_a_plain_sum(limit: int, few: int, seed: int) -> None:
    """As many rows as are sieved, with many equals among the sums."""
    chance = np.random.default_rng(seed)
    codes = [chance.integers(0, most, adding.FEW + 500) for most in (few, 3_000)]
    texts = [coded([f"v{code}" for code in column]) for column in codes]
    costs = chance.integers(0, 5, len(codes[0])) ** 3
    block = Block(NOW.date(), len(costs), texts, {"cost_nano": columns.pack_numbers(costs)})
    sums: dict[tuple[str, str], int] = {}
    for first, second, cost in zip(*codes, costs, strict=True):
        group = (f"v{first}", f"v{second}")
        sums[group] = sums.get(group, 0) + int(cost)
    expected = sorted(sums, key=lambda group: (-sums[group], group))[:limit]

    chosen = adding.Chosen(block, None, texts, [one.codes for one in texts])
    assert adding.ranked([chosen], ["cost_nano"], limit) == expected
    rows = adding.of([chosen], expected, ["cost_nano"])
    assert [(row.values, row.totals.cost_nano) for row in rows] == [(one, sums[one]) for one in expected]


def test_of_groups_that_all_come_to_nothing_the_first_by_name_are_shown() -> None:
    names = [f"c{number:04}" for number in range(600)]
    random.Random(3).shuffle(names)
    texts = [coded(names), coded(["a", "b"] * 300)]
    errors = columns.pack_numbers(np.array([name == "c0599" for name in names], np.int64))
    block = Block(NOW.date(), len(names), texts, {"errors": errors})
    chosen = adding.Chosen(block, None, texts, [one.codes for one in texts])
    found = adding.ranked([chosen], ["errors"], 4, most_equals=10)
    assert [group[0] for group in found] == ["c0599", "c0000", "c0001", "c0002"]


@settings(deadline=None, max_examples=examples(40))
@given(ROWS, st.booleans())
def test_a_condensed_block_comes_to_the_same(rows: list[tuple[int, str, str, int]], some: bool) -> None:
    rows = rows * 40  # so many of few groups
    texts = [coded([row[1 + place] for row in rows]) for place in range(2)]
    cost = columns.pack_numbers(np.array([row[3] for row in rows], np.int64))
    block = Block(NOW.date(), len(rows), texts, {"cost_nano": cost})
    chosen_rows = np.arange(0, len(rows), 2) if some else None
    codes = [one.codes if chosen_rows is None else one.codes[chosen_rows] for one in texts]
    chosen = adding.Chosen(block, chosen_rows, texts, codes)
    condensed = adding.condensed(chosen, ["cost_nano"])
    assert not rows or len(condensed) <= 9
    assert condensed.total("cost_nano") == chosen.total("cost_nano")
    for limit in (1, 20):
        assert adding.ranked([condensed], ["cost_nano"], limit) == adding.ranked([chosen], ["cost_nano"], limit)
    groups = adding.ranked([chosen], ["cost_nano"], 20)
    assert adding.of([condensed], groups, ["cost_nano"]) == adding.of([chosen], groups, ["cost_nano"])


def call(events: Any, workspace: Workspace, chance: random.Random) -> str:
    at = NOW - timedelta(minutes=chance.randrange(10 * 24 * 60))
    dims = {
        "customer": chance.choice(["ann", "ben", "", "çy"]), "feature": chance.choice(["chat", "search"]),
        "user": f"user-{chance.randrange(9)}", "session": f"s-{chance.randrange(20)}",
    }  # fmt: skip
    return str(
        events.call(
            workspace.id, cost=chance.randrange(1, 10**9), at_ms=int(at.timestamp() * 1000), dims=dims,
            tags=chance.choice([{}, {"team": "x"}, {"team": "y", "plan": "pro"}]), model=chance.choice(["m1", "m2"]),
        )
    )  # fmt: skip


def answers(workspace: Workspace) -> list[Any]:
    with tenancy.entered(workspace):
        found: list[Any] = [queries.grouped(workspace, RANGE, by, filters=filters) for by, filters in QUESTIONS]
        found += [queries.ranked(workspace, RANGE, ("customer", "model"), limit=3, rank_by="tokens")]
        found += [queries.grouped(workspace, RANGE, ("customer", "model"), only=[("ann", "m1"), ("nobody", "m1")])]
        found += [queries.by_value(workspace, RANGE, "user", limit=5)]
        filters = {"customer": "ann"}
        found += [queries.series(workspace, RANGE, Granularity.WEEK, dimension="model", filters=filters)]
        found += [queries.series(workspace, RANGE, Granularity.DAY, dimension="model", values=["m2"], filters=filters)]
    return found


@pytest.mark.django_db
def test_answers_are_the_same_before_between_and_after_packing(events: Any, books: Any, cast: Cast) -> None:
    chance = random.Random(7)
    for _ in range(90):
        call(events, cast.acme, chance)
    call(events, cast.globex, chance)
    for workspace in (cast.acme, cast.globex):
        books.drain(workspace.id)
    before = answers(cast.acme)

    days = [NOW.date() - timedelta(days=back) for back in range(12)]
    for day in days[::2]:
        packing.pack(cast.acme.id, day)
    assert answers(cast.acme) == before, "half of them packed"
    for day in days:
        packing.pack(cast.acme.id, day)
    assert books.value("SELECT count(*) FROM billing_rollup_detail WHERE workspace_id = %s", cast.acme.id) == 0
    assert answers(cast.acme) == before, "all of them packed"


@pytest.mark.django_db
def test_what_comes_after_packing_counts_once_and_joins_its_pack(events: Any, books: Any, cast: Cast) -> None:
    acme, at_ms = cast.acme, int(NOW.timestamp() * 1000)
    rid = events.emit("expire", acme.id, cost=100, held=100, dims={"customer": "ann", "user": "u"}, at_ms=at_ms)
    books.drain(acme.id)
    packing.pack(acme.id, NOW.date())
    events.emit("adjust", acme.id, rid, cost=-40, held=100, dims={"customer": "ann", "user": "u"}, at_ms=at_ms)
    books.drain(acme.id)
    for _ in range(2):
        with tenancy.entered(acme):
            (row,) = queries.grouped(acme, RANGE, ("customer", "user"))
        assert (row.totals.cost_nano, row.totals.calls) == (60, 1)
        packing.pack(acme.id, NOW.date())
    assert books.value("SELECT rows FROM billing_detail_pack WHERE workspace_id = %s", acme.id) == 1


@pytest.mark.django_db
def test_books_with_packs_reconcile_and_packs_of_others_are_hidden(events: Any, books: Any, cast: Cast) -> None:
    for workspace in (cast.acme, cast.globex):
        for number in range(3):
            events.call(workspace.id, cost=1000 + number, dims={"customer": f"c{number}"})
        books.drain(workspace.id)
        packing.pack(workspace.id, datetime.now(UTC).date())
    found = reconcile.books(cast.acme)
    assert not [one for one in found.differences if "rollup" in one.what], found.differences
    with tenancy.entered(cast.acme):
        rows = queries.grouped(cast.acme, RANGE, ("customer", "model"), filters={})
        assert sum(row.totals.cost_nano for row in rows) == 3003


@pytest.mark.django_db
def test_only_what_has_gathered_is_packed_by_the_worker(events: Any, books: Any, cast: Cast) -> None:
    for number in range(3):
        events.call(cast.acme.id, dims={"customer": f"c{number}"})
    books.drain(cast.acme.id)
    assert packing.pack_due(datetime.now(UTC)) == 0, "three rows are read as they are"
    assert packing.pack_due(datetime.now(UTC), least=3) == 1
    assert packing.pack_due(datetime.now(UTC), least=3) == 0

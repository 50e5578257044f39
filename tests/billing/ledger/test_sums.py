"""What lines add up to is the same whichever way it is added."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ledger import rollups
from tests.rig.effort import examples

vectors = st.lists(
    st.integers(-(2**40), 2**40) | st.sampled_from([0, 1, 2**62, -(2**63), 2**70]), min_size=16, max_size=16
)


@given(st.lists(vectors, min_size=1, max_size=30), st.integers(0, 10**6))
@settings(max_examples=examples(60), deadline=None)
def test_by_line_and_by_column_are_the_same_sums(given_vectors: list[list[int]], seed: int) -> None:
    chance = random.Random(seed)
    columns = [
        ("", [""] * len(given_vectors)),
        ("customer", [chance.choice(["", "a", "b", "c"]) for _ in given_vectors]),
        ("tag:plan", [chance.choice([None, "", "pro"]) for _ in given_vectors]),
    ]
    by_line = sorted(rollups._added_by_line(columns, given_vectors))
    assert sorted(rollups._added_by_column(columns, given_vectors)) == by_line
    assert next(sums for name, _, sums in by_line if not name) == [
        sum(column) for column in zip(*given_vectors, strict=True)
    ]
    assert not [value for name, value, _ in by_line if name == "customer" and not value]

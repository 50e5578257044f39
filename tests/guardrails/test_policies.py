"""Policies in memory: which are new enough to refuse a call by, without asking anybody else."""

from __future__ import annotations

from guardrails.domain.budgets import Matcher
from guardrails.policy import NEW_S, Policy, PolicyStore
from workspaces.models import Workspace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def read_at(moment: float) -> Policy:
    return Policy(
        workspace=Workspace(pk=42),
        ver=1,
        state="active",
        plan="free",
        zone="UTC",
        slug="acme",
        budgets=(),
        rates=(),
        credentials={},
        barred=frozenset(),
        epoch=1,
        seq=0,
        matcher=Matcher(()),
        loaded_at=moment,
    )


def test_a_policy_counts_as_new_for_a_moment() -> None:
    clock = Clock()
    policies, policy = PolicyStore(clock=clock), read_at(clock.now)
    assert policies.is_new(policy)
    clock.now += NEW_S
    assert not policies.is_new(policy)


def test_a_policy_that_was_read_for_a_call_is_new_to_it_however_long_reading_takes() -> None:
    """Else a call that is refused from memory (an unknown model, an open breaker) has it read again, and again, while PostgreSQL is slow."""
    clock = Clock()
    policies, before = PolicyStore(clock=clock), read_at(clock.now - 1)
    since = policies.now()
    assert not policies.is_new(before, since), "it was read before the call came: an edit may have come between"
    read_for_it = read_at(clock.now)
    clock.now += 60  # the reading took a minute
    assert policies.is_new(read_for_it, since)
    assert not policies.is_new(read_for_it), "to a call that comes only now it is old"
    assert not policies.is_new(read_for_it, policies.now())

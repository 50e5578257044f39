"""Budgets that are used up, and refusals that share their evidence.

Over a spent budget nearly every call is refused, and a loop that hits it does so as fast as it can: saying no must be cheap. The money Redis is
asked all the same, because a raise, a reset or a revocation bites on the next call. But calls that wait together need one answer, not one each:
while a call (the *leader*) whose counter is known to be spent waits to be sent, others of the same counter and policy version join it.

Why a follower's refusal is right: it joined before the leader's question was sent, so the answer is of a moment after the follower's arrival.
At that moment Redis had checked the epoch, the policy version, the state and the period (else the answer is not Denied, and followers ask
for themselves), and settled + held of the counter left less than the least that the follower could have been held for: its input counted, its
output limit lowered to a single token. Its own question, asked at that moment, would have been denied too. A leader that fails,
or is cancelled, or is told anything else, proves nothing: its followers ask for themselves, and the counter is no longer known as spent.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from guardrails.domain.refusals import OverBudget
from guardrails.met import Met

MOST_KNOWN = 10_000
"""Counters; then all are forgotten, and each is learned again from its next denial."""

Name = tuple[int, int, str]
"""(workspace, policy version, counter)"""


Facts = tuple[int, int, int, int, int, int | None]
"""(policy version, limit, settled, held, needed, the output limit that would fit)"""


class Evidence(NamedTuple):
    """Of a counter, as Redis had it when it denied the leader."""

    settled: int
    held: int


class Group:
    """A leader and who joined it."""

    __slots__ = ("_waiting", "name", "place", "sent")

    def __init__(self, name: Name, place: int) -> None:
        self.name = name
        self.place = place
        """Of the counter among what the leader meets"""
        self.sent = False
        self._waiting: list[asyncio.Future[Evidence | None]] = []

    def leave(self) -> None:
        """The leader's question is on its way: who comes now is too late for its answer."""
        self.sent = True

    async def follow(self) -> Evidence | None:
        """What the leader is told of the counter; None when that proves nothing."""
        told: asyncio.Future[Evidence | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        return await told

    def tell(self, evidence: Evidence | None) -> None:
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            if not told.done():
                told.set_result(evidence)


class Spent:
    """The counters of one process that denied somebody lately."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        """Spent counters. While there is none, nobody need look further"""
        self._said: dict[str, tuple[Facts, OverBudget]] = {}
        self._groups: dict[Name, Group] = {}

    def denied(self, counter: str) -> None:
        if len(self.known) >= MOST_KNOWN:
            self.known.clear()
            self._said.clear()
        self.known.add(counter)

    def said(self, counter: str, facts: Facts) -> OverBudget | None:
        """What the last call was told that was refused by the same numbers: a loop asks the same again and again."""
        last = self._said.get(counter)
        return last[1] if last is not None and last[0] == facts else None

    def say(self, counter: str, facts: Facts, refusal: OverBudget) -> None:
        self._said[counter] = facts, refusal

    def met_by(self, met: Met) -> int | None:
        """The place of a spent counter among what a call meets; None when it meets none."""
        if self.known.isdisjoint(met.suffixes):
            return None
        return next(place for place, suffix in enumerate(met.suffixes) if suffix in self.known)

    def group(self, workspace_id: int, version: int, suffix: str) -> Group | None:
        """One that can still be joined."""
        group = self._groups.get((workspace_id, version, suffix))
        return None if group is None or group.sent else group

    def lead(self, workspace_id: int, version: int, suffix: str, place: int) -> Group:
        name = (workspace_id, version, suffix)
        group = self._groups[name] = Group(name, place)
        return group

    def over(self, group: Group, evidence: Evidence | None) -> None:
        """The leader has its answer, or will get none."""
        if self._groups.get(group.name) is group:
            del self._groups[group.name]
        if evidence is None:
            self.known.discard(group.name[2])
            self._said.pop(group.name[2], None)
        group.tell(evidence)

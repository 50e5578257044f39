"""Budgets that refuse calls although their last percent is not spent: what is left is too little for a call's worst case.

The books never see that (nothing was charged), so the gateway that refuses notes it, once a counter and cap, beside the event loop; signals tell
it as they tell a cap that was reached.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from billing.domain import keys
from guardrails.limiter.wire import CounterAsk
from guardrails.policy import Policy
from guardrails.signals.models import FullCounter
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces import tenancy

log = logging.getLogger(__name__)

FULL_FROM: Final = 90
"""Percent of the limit that must be settled: before, one large call was too large, and the others still pass."""
MOST_KNOWN: Final = 50_000


class FullBudgets:
    """Of one gateway process."""

    def __init__(self) -> None:
        self._known: set[tuple[int, str, int]] = set()
        self._notes: set[asyncio.Task[None]] = set()

    def refused(self, policy: Policy, counter: CounterAsk, settled: int, now_ms: int) -> None:
        """A call did not fit on this counter. Costs a look-up for all but the first."""
        if settled * 100 < counter.limit * FULL_FROM:
            return
        key = (policy.workspace_id, counter.suffix, counter.limit)
        if key in self._known:
            return
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()  # told again is told once: the table knows
        self._known.add(key)
        task = asyncio.ensure_future(self._note(policy, counter, settled, now_ms))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _note(self, policy: Policy, counter: CounterAsk, settled: int, now_ms: int) -> None:
        budget_id, _, _ = keys.budget_of(counter.suffix)
        try:
            await in_thread(lambda: _keep(policy, counter, budget_id, settled, now_ms))
        except DATABASE_AWAY as error:
            log.warning("a full budget is not noted: %s", str(error).split("\n", 1)[0])
            self._known.discard((policy.workspace_id, counter.suffix, counter.limit))

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._notes, return_exceptions=True)


def _keep(policy: Policy, counter: CounterAsk, budget_id: UUID, settled: int, now_ms: int) -> None:
    with tenancy.entered(policy.workspace):
        FullCounter.objects.bulk_create(
            [
                FullCounter(
                    workspace_id=policy.workspace_id, budget_id=budget_id, counter=counter.suffix, cap=counter.cap, settled=settled,
                    at=datetime.fromtimestamp(now_ms / 1000, UTC),
                )
            ],
            ignore_conflicts=True,
        )  # fmt: skip

"""What admission says yes with: the hold, where each budget and limit stands after it, and the headers that tell the client."""

from __future__ import annotations

from operator import sub

import msgspec

from billing.domain.events import CallContext
from billing.domain.money import usd_text
from billing.domain.quote import Quote
from guardrails.domain.budgets import Stage, Unit
from guardrails.domain.periods import FOREVER_MS
from guardrails.met import Met
from guardrails.policy import Grant
from guardrails.told import rate_headers


class Remaining(msgspec.Struct, frozen=True):
    """A budget after the call was held."""

    budget_id: str
    name: str
    unit: Unit
    value: str
    used: int
    cap: int
    stage: Stage
    hard: bool
    resets_ms: int | None

    @property
    def left(self) -> int:
        return max(0, self.cap - self.used)


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """An attempt that may be sent, and what was agreed. Must be finished exactly once by the gateway; later finishes change nothing."""

    rid: str
    grant: Grant
    hold_nano: int
    quote: Quote
    output_limit: int | None
    """What must be sent upstream as the limit per answer; None where nothing needs to be set"""
    clamped: bool
    """The client gets less output than it could have had: say so in `Sluice-Clamped`"""
    unpriced: bool
    """No bound and no hard budget: forward, and flag the entry"""
    met: Met
    used: list[int]
    """Per budget of `met`: settled + held, this call included"""
    rates_left: list[tuple[int, int]]
    """Per rate limit of `met`: how many more would pass now, ms until it is full again"""
    at_ms: int
    context: CallContext

    @property
    def budgets(self) -> tuple[Remaining, ...]:
        """Each budget of the call after it was held."""
        return tuple(
            Remaining(
                budget_id=match.budget.id,
                name=match.budget.name,
                unit=match.budget.unit,
                value=match.value,
                used=used,
                cap=cap,
                stage=match.budget.stage_at(used, self.at_ms),
                hard=match.budget.hard,
                resets_ms=None if bounds.end_ms == FOREVER_MS else bounds.end_ms,
            )
            for match, bounds, cap, used in zip(
                self.met.matches, self.met.bounds, self.met.caps, self.used, strict=True
            )
        )

    @property
    def relies_on_limit(self) -> bool:
        """A hard budget counts what the answer costs: the output limit that its hold was made of must be sent."""
        return self.met.binding is not None

    @property
    def workspace_id(self) -> int:
        return self.grant.policy.workspace_id

    @property
    def left_nano(self) -> int | None:
        """The least that any hard money budget of the call has left; None where there is none."""
        met = self.met
        if not met.hard_caps:
            return None
        left: int = min(map(sub, met.hard_caps, met.hard_used(self.used)))
        return max(0, left)

    @property
    def remaining_usd(self) -> str | None:
        """The same as plain dollars."""
        left = self.left_nano
        return None if left is None else usd_text(left)

    @property
    def stage(self) -> Stage:
        """The furthest stage that any of the budgets has reached."""
        order = list(Stage)
        return max((remaining.stage for remaining in self.budgets), key=order.index, default=Stage.NORMAL)

    def rate_headers(self) -> list[tuple[bytes, bytes]]:
        return rate_headers(self.met.told, self.rates_left) if self.rates_left else []

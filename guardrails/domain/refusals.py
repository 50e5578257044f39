"""The explainable no: every reason admission has for refusing a call, with the facts and what to do next.

The gateway turns these into its answer (OpenAI-shaped JSON); nothing else needs to know why. `retry`: repeating is useful (True),
useless (False).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.domain.money import show_usd, usd_text
from guardrails.domain.budgets import Budget, Kind, Unit
from guardrails.domain.rates import WHAT, Metric, RateLimit


class Refusal(Exception):
    """Base of the family. `status` and `code` are stable; `facts` goes into `error.sluice`."""

    status = 500
    code = "refused"
    type = "invalid_request_error"
    hint = ""
    retry = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        retry_after_s: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.hint = hint or self.hint
        self.retry_after_s = retry_after_s
        self.facts = dict(facts or {})
        self.headers: dict[str, str] = {}
        """Of the answer, beside those that every refusal has"""


class InvalidKey(Refusal):
    """One answer for every way a key can be wrong, so that nobody learns which."""

    status, code = 401, "invalid_api_key"
    hint = "Send a Sluice virtual key as `Authorization: Bearer slk_...`; make one under Keys."

    def __init__(self) -> None:
        super().__init__(
            "Incorrect API key provided. It is not a Sluice virtual key, or it was revoked or has expired."
        )


class WorkspaceClosed(Refusal):
    status, code, type = 403, "workspace_closed", "permission_error"
    hint = "An owner of the workspace can open it again."

    def __init__(self, state: str) -> None:
        super().__init__(f"This workspace makes no calls: it is {state}.", facts={"state": state})


class ModelNotPriced(Refusal):
    status, code = 400, "model_not_priced"
    hint = "Ask an administrator to add a price for it (Settings, Prices), or use a model that has one."

    def __init__(self, why: str, budget: Budget) -> None:
        super().__init__(
            f"{why} The budget {budget.name!r} is a hard cap, so a call whose cost has no known bound is not sent.",
            facts={"budget": budget.name, "budget_id": budget.id},
        )


class BudgetStoreUnavailable(Refusal):
    """Nothing can be promised, so nothing is sent. `reason`: unreachable, overloaded, starting, recovering, clock_skew, full."""

    status, code, type = 503, "budget_store_unavailable", "api_error"
    retry = True
    hint = "The call was not sent and costs nothing; send it again in a moment."

    def __init__(self, reason: str, *, retry_after_s: int = 2) -> None:
        sentence = {
            "recovering": "Budgets are being restored from the ledger; no call is admitted until that is done.",
            "clock_skew": "The clocks of this gateway and of the budget store differ by more than five seconds.",
            "overloaded": "More calls wait for the budget store than it answers in time.",
            "starting": "This gateway has just started and is not registered yet.",
            "full": "The budget store is short of memory; running calls finish, new ones are not admitted.",
        }.get(reason, "The budget store does not answer, so no budget can be checked.")
        super().__init__(sentence, retry_after_s=retry_after_s, facts={"reason": reason})


class OverBudget(Refusal):
    status, code, type = 402, "budget_exceeded", "budget_exceeded"

    def again(self) -> OverBudget:
        """The same for another call."""
        return OverBudget(self.message, code=self.code, hint=self.hint, facts=self.facts)


class RateLimited(Refusal):
    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"
    retry = True
    hint = "Wait as long as Retry-After says, or ask an administrator for a higher limit."


class Throttled(Refusal):
    status, code, type = 429, "budget_throttled", "rate_limit_error"
    retry = True
    hint = "This budget is nearly used up, so its calls are spaced out; wait as long as Retry-After says."


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a budget stood when a call was refused."""

    budget: Budget
    value: str
    settled: int
    held: int
    cap: int
    resets_at: str
    """ISO 8601; empty when it never resets"""
    url: str
    """Where it can be raised"""

    @property
    def left(self) -> int:
        return max(0, self.cap - self.settled - self.held)


_CODES = {Kind.DAILY_HARD_STOP: "daily_hard_stop", Kind.PLAN_QUOTA: "plan_quota_exceeded"}


def over_budget(standing: Standing, *, needed: int, would_fit: int | None) -> OverBudget:
    """402 with the facts. `would_fit` is an output limit that passes, 0 when none does, None when the cap is not about length."""
    budget = standing.budget
    shown = _amounts(budget.unit)
    whom = f" for {budget.scope.by} {standing.value!r}" if standing.value else ""
    state = "has no room for this call" if standing.left else "is used up"
    message = budget.message or (
        f"The budget {budget.name!r}{whom} {state}: {shown(standing.settled)} spent and {shown(standing.held)} held of "
        f"{shown(standing.cap)}; this call could need {shown(needed)}."
    )
    resets = f" It resets at {standing.resets_at}." if standing.resets_at else ""
    fit = f" It would pass with an output limit of {would_fit} tokens." if would_fit else ""
    raise_it = f" Ask for more at {budget.upgrade_url or standing.url}." if budget.upgrade_url or standing.url else ""
    return OverBudget(
        message,
        code=_CODES.get(budget.kind, "budget_exceeded"),
        hint=f"Nothing was sent and nothing was charged.{fit}{resets}{raise_it}",
        facts={**facts_of(standing), "needed": _fact(budget.unit, needed), "would_fit": would_fit},
    )


def throttled(standing: Standing, retry_after_s: int) -> Throttled:
    shown = _amounts(standing.budget.unit)
    used = standing.settled + standing.held
    return Throttled(
        f"The budget {standing.budget.name!r} is at {shown(used)} of {shown(standing.cap)}, so its calls are slowed down. "
        f"Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
        facts=facts_of(standing),
    )


def rate_limited(rate: RateLimit, value: str, retry_ms: int) -> RateLimited:
    facts = {
        "limit": rate.limit,
        "metric": rate.metric.value,
        "scope": rate.scope.by or "workspace",
        "limit_id": rate.id,
    }
    whom = f" for {rate.scope.by} {value!r}" if value else ""
    if retry_ms < 0:
        refusal = RateLimited(
            f"This call alone could need more than the limit of {rate.limit} {WHAT[rate.metric]}{whom} ever allows at once.",
            hint="Send less input or a lower output limit, or ask an administrator for a higher limit.",
            facts=facts,
        )
        refusal.retry = False
        return refusal
    wait = max(1, -(-retry_ms // 1000))
    refusal = RateLimited(
        f"Rate limit reached{whom}: {rate.limit} {WHAT[rate.metric]}. Try again in {wait} s.",
        retry_after_s=wait,
        facts=facts,
    )
    counted = {Metric.RPM: "requests", Metric.RPH: "requests", Metric.TPM: "tokens"}.get(rate.metric)
    if counted:
        refusal.headers = {
            f"x-ratelimit-limit-{counted}": str(rate.limit),
            f"x-ratelimit-remaining-{counted}": "0",
            f"x-ratelimit-reset-{counted}": f"{retry_ms}ms",
        }
    return refusal


def facts_of(standing: Standing) -> dict[str, Any]:
    """What `error.sluice` says of a budget: in dollars for money, as plain numbers for tokens and calls."""
    budget, unit = standing.budget, standing.budget.unit
    suffix = "_usd" if unit is Unit.USD else f"_{unit.value}"
    return {
        "budget": budget.name,
        "budget_id": budget.id,
        "scope": budget.scope.by or "workspace",
        "value": standing.value or budget.scope.value or "",
        "period": budget.period.value,
        f"spent{suffix}": _fact(unit, standing.settled),
        f"held{suffix}": _fact(unit, standing.held),
        f"cap{suffix}": _fact(unit, standing.cap),
        f"left{suffix}": _fact(unit, standing.left),
        "remaining_usd": usd_text(standing.left) if unit is Unit.USD else None,
        "resets_at": standing.resets_at or None,
        "url": budget.upgrade_url or standing.url or None,
    }


def _fact(unit: Unit, amount: int) -> str | int:
    return usd_text(amount) if unit is Unit.USD else amount


def _amounts(unit: Unit) -> Any:
    return show_usd if unit is Unit.USD else lambda amount: f"{amount:,} {unit.value}"

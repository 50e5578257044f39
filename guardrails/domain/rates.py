"""Rate limits as values: requests a minute and an hour, tokens a minute, calls at the same time; GCRA with a burst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from guardrails.domain.budgets import TAG_PREFIX, WORKSPACE_SCOPE, Scope


class Metric(StrEnum):
    RPM = "rpm"
    RPH = "rph"
    TPM = "tpm"
    CONCURRENCY = "concurrency"


WINDOW_US = {Metric.RPM: 60_000_000, Metric.RPH: 3_600_000_000, Metric.TPM: 60_000_000}
WHAT = {
    Metric.RPM: "requests per minute",
    Metric.RPH: "requests per hour",
    Metric.TPM: "tokens per minute",
    Metric.CONCURRENCY: "calls at the same time",
}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many in a window, for a scope's one value or each value. `burst` at once (default: the whole window's worth)."""

    id: str
    name: str
    scope: Scope
    metric: Metric
    limit: int
    burst: int = 0

    @property
    def at_once(self) -> int:
        return self.burst or self.limit

    @property
    def title(self) -> str:
        return self.name or f"{self.limit} {WHAT[self.metric]}"


@dataclass(frozen=True, slots=True)
class RateMatch:
    rate: RateLimit
    value: str = ""


def matching(rates: Iterable[RateLimit], dims: Mapping[str, str], tags: Mapping[str, str]) -> list[RateMatch]:
    """The rate limits a call meets."""
    found = []
    for rate in rates:
        by = rate.scope.by
        if by == WORKSPACE_SCOPE:
            found.append(RateMatch(rate))
            continue
        value = tags.get(by[4:]) if by.startswith(TAG_PREFIX) else dims.get(by)
        if value and rate.scope.value is None:
            found.append(RateMatch(rate, value))
        elif value and rate.scope.value == value:
            found.append(RateMatch(rate))
    return found

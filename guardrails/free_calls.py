"""Calls that cost nothing (token counts, moderations): no budget can stop them, but a revoked key, a closed workspace and rate limits do."""

from __future__ import annotations

from collections.abc import Mapping

from guardrails.domain import refusals
from guardrails.domain.rates import Metric, matching
from guardrails.domain.refusals import BudgetStoreUnavailable, WorkspaceClosed
from guardrails.limiter import pace, store
from guardrails.limiter.limiter import BudgetStoreUnavailable as NoAnswer
from guardrails.limiter.wire import Closed, Limited, Lost, Ok, StalePolicy
from guardrails.met import rate_ask
from guardrails.policy import Grant, PolicyStore
from guardrails.told import rate_headers, told_of
from workspaces.models import WorkspaceState

REQUESTS = frozenset((Metric.RPM, Metric.RPH))
"""What a free call counts towards. It has no tokens of ours, and nothing that must end: no concurrency."""
MOST_TRIES = 4


class FreeCalls:
    def __init__(self, redis: store.AsyncStore, policies: PolicyStore) -> None:
        self._redis, self._policies = redis, policies

    async def admit(
        self, grant: Grant, dims: Mapping[str, str], tags: Mapping[str, str]
    ) -> tuple[Grant, list[tuple[bytes, bytes]]]:
        """The grant under the newest policy, and headers that tell what its rate limits leave. Raises RateLimited, WorkspaceClosed, InvalidKey,
        BudgetStoreUnavailable.

        Where no rate limit applies, the money Redis is not needed: with it away the call passes under the policy in memory.
        """
        since = self._policies.now()
        for _ in range(MOST_TRIES):
            policy = grant.policy
            if policy.state != WorkspaceState.ACTIVE:
                if self._policies.is_new(policy, since):
                    raise WorkspaceClosed(policy.state)
                grant = await self._policies.renew(grant)
                continue
            found = [match for match in matching(policy.rates, dims, tags) if match.rate.metric in REQUESTS]
            try:
                asks, fresh = [rate_ask(one) for one in found], self._policies.is_new(policy, since)
                reply = await pace.ask(self._redis, policy.workspace_id, policy.ver, asks, fresh=fresh)
            except NoAnswer as none:
                if not found:
                    return grant, []
                raise BudgetStoreUnavailable(none.reason) from None
            match reply:
                case Ok():
                    return grant, rate_headers(told_of(found), reply.rates)
                case Limited(index, retry_ms):
                    raise refusals.rate_limited(found[index].rate, found[index].value, retry_ms)
                case StalePolicy() | Lost():
                    grant = await self._policies.renew(grant)
                case Closed(state):
                    raise WorkspaceClosed(state)
                case _:
                    break
        raise BudgetStoreUnavailable("recovering", retry_after_s=1)

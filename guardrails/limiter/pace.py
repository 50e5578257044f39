"""Asking the money Redis about a call that costs nothing: is the workspace open, the policy the newest, the rate kept?"""

from __future__ import annotations

import msgspec

from billing.domain import keys
from guardrails.limiter import scripts, store
from guardrails.limiter.limiter import NO_ANSWER, BudgetStoreUnavailable
from guardrails.limiter.patience import within
from guardrails.limiter.wire import AdmitReply, RateAsk, admit_reply, encode

ANSWER_S = 0.5


class PaceRequest(msgspec.Struct, array_like=True, frozen=True):
    prefix: str
    workspace: str
    ver: int
    rates: list[RateAsk]
    fresh: int


async def ask(redis: store.AsyncStore, workspace_id: int, ver: int, rates: list[RateAsk], *, fresh: bool) -> AdmitReply:
    """Ok (with what the rates have left), Limited, StalePolicy, Closed, or Lost: Redis does not know the workspace, so the policy must be
    `fresh`, just read. Raises BudgetStoreUnavailable when there is no answer in time;
    then at most the rates have been counted."""
    partition = keys.partition_of(workspace_id)
    request = PaceRequest(keys.partition_prefix(partition), str(workspace_id), ver, rates, int(fresh))
    try:
        asking = store.call(redis, scripts.PACE, keys.stream_key(partition), [encode(request)])
        (reply,) = await within(ANSWER_S, asking)
    except NO_ANSWER as error:
        raise BudgetStoreUnavailable(type(error).__name__, reason="unreachable") from error
    return admit_reply(reply)

"""A hold whose cost comes in parts: each line of a batch is an attempt of its own, charged to the counters that the batch was held on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from billing.domain import keys
from guardrails.limiter import scripts
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import Refused
from guardrails.limiter.store import SyncStore, call_sync
from guardrails.limiter.wire import encode

BATCH = 200


class Part(msgspec.Struct, array_like=True, frozen=True):
    rid: str
    """Of the part: always the same for the same line, so that a line read twice is booked once"""
    cost_nano: int
    tokens: int
    calls: int
    ctx: str
    payload: str


def settle_parts(store: SyncStore, workspace_id: int, rid: str, parts: Sequence[Part]) -> bool:
    """Charge at most `BATCH` parts of the hold `rid`; those that were charged before change nothing. False when the hold has ended, or is
    too long over to be known: nothing was charged then. The caller ends the hold itself, by voiding what is left of it.

    Raises Refused when the workspace needs a rebuild, or is in one, and RedisError: then repeating it is safe.
    """
    if len(parts) > BATCH:
        raise ValueError(f"at most {BATCH} at a time")
    partition = keys.partition_of(workspace_id)
    arguments: list[bytes | str] = [
        keys.partition_prefix(partition),
        str(int(workspace_id)),
        rid,
        *(encode(part) for part in parts),
    ]
    reply = call_sync(store, scripts.SPLIT, keys.stream_key(partition), arguments)
    if reply[0] in (b"UNKNOWN", b"ENDED"):
        return False
    if reply[0] != b"DONE":
        raise Refused(reply)
    return True


def settle_now(workspace_id: int, rid: str, parts: Sequence[Part]) -> bool:
    """`settle_parts` in the money Redis of this installation, as many as there are."""
    store = sync_store()
    return all(
        settle_parts(store, workspace_id, rid, parts[first : first + BATCH]) for first in range(0, len(parts), BATCH)
    )

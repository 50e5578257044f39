"""Corrections of ended attempts by a price: the counters and the stream move together, each (attempt, leg) once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from billing.domain import keys
from guardrails.limiter import scripts
from guardrails.limiter.control import Refused
from guardrails.limiter.store import SyncStore, call_sync
from guardrails.limiter.wire import encode

BATCH = 200


class Rerating(msgspec.Struct, array_like=True, frozen=True):
    rid: str
    leg: int
    """2 and above, the next one of the attempt"""
    delta_nano: int
    charges: list[tuple[str, str, int, int, str]]
    """(counter suffix, unit, delta, end of its period in ms or 0 when that is long over, the value it counts)"""
    ctx: str
    payload: str


class Answer(StrEnum):
    OK = "OK"
    ALREADY = "ALREADY"
    """This leg was written before, whatever it said."""
    OPEN = "OPEN"
    """The attempt's own truth may still come."""


def rerate(store: SyncStore, workspace_id: int, items: Sequence[Rerating]) -> list[Answer]:
    """Write at most `BATCH` corrections; answers one word for each. Raises Refused when the workspace needs a rebuild, or is in one, and
    RedisError: then what was written is not known, until the stream was drained."""
    if len(items) > BATCH:
        raise ValueError(f"at most {BATCH} at a time")
    partition = keys.partition_of(workspace_id)
    arguments: list[bytes | str] = [
        keys.partition_prefix(partition),
        str(int(workspace_id)),
        *(encode(item) for item in items),
    ]
    reply = call_sync(store, scripts.RERATE, keys.stream_key(partition), arguments)
    if reply[0] != b"DONE":
        raise Refused(reply)
    answers = []
    for item, (word, *rest) in zip(items, reply[1], strict=True):
        if word == b"NEED_REBUILD":
            raise Refused([word, *rest, item.rid])
        answers.append(Answer(word.decode()))
    return answers

"""A past for a workspace that the money Redis has never admitted a call of: events of calls that happened elsewhere, or in a story.

They enter the same stream, numbered from 1, and the ledger writer books them as any others. The counters are made from the books afterwards
(`guardrails.recovery.rebuild`), as after a loss; until then the first call of the workspace would do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from billing.domain import keys
from guardrails.limiter import control
from guardrails.limiter.store import SyncStore


class AlreadyAdmitting(Exception):
    """The workspace has a present: its numbers are given by admission, and a past can no longer be written under it."""


def append(store: SyncStore, workspace_id: int, events: Iterable[Mapping[str, str | bytes | int]]) -> str:
    """Append events (the fields of `billing.domain.events`, "w" and "q" included) to the stream; answers the last one's id, "" for none.

    Raises AlreadyAdmitting, StoreError.
    """
    meta = control.read_meta(store, workspace_id)
    if meta is not None and meta.seq:
        raise AlreadyAdmitting(f"workspace {workspace_id} has made calls already")
    pipe = store.pipeline(transaction=False)
    stream = keys.stream_key(keys.partition_of(workspace_id))
    for fields in events:
        pipe.xadd(stream, dict(fields))  # type: ignore[arg-type]  # redis-py's stub wants one type of value
    answers = pipe.execute()
    return answers[-1].decode() if answers else ""

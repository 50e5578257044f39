"""The rare, synchronous writes: policy version, state, the steps of a rebuild, the sweep. For tasks, commands and worker threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from billing.domain import keys
from billing.domain.dimensions import OTHER
from guardrails.limiter import scripts
from guardrails.limiter.store import SyncStore, call_sync
from guardrails.limiter.wire import encode

CHUNK = 1000
_OTHER = keys.value_digest(OTHER)
SWEEP_GRACE_MS = 5_000
"""Expired leases are left alone this long, so that a Redis that was away a moment does not charge calls that are alive"""


class Refused(Exception):
    """The money Redis refused a step: another rebuild is newer, or the workspace is in another state. `answer` is its reply."""

    def __init__(self, answer: list[Any]) -> None:
        super().__init__(" ".join(str(part) for part in answer))
        self.answer = answer


class SeedCounter(msgspec.Struct, array_like=True, frozen=True, gc=False):
    suffix: str
    settled: int
    held: int
    end_ms: int
    label: str = ""


class SeedHold(msgspec.Struct, array_like=True, frozen=True):
    rid: str
    amount: int
    charges: list[tuple[str, str, int]]
    """(counter suffix, unit, held amount)"""
    ctx: str
    at_ms: int
    lease_ms: int
    slots: list[str] = []
    """The suffixes of the concurrency limits it occupies"""


class LostEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event that Redis lost and the books never read."""

    kind: str
    rid: str
    cost: int
    held: int
    charges: list[tuple[str, str, int]]
    ctx: str
    payload: str


@dataclass(frozen=True, slots=True)
class Meta:
    """A workspace's head in Redis."""

    state: str
    epoch: int
    seq: int
    ver: int
    counters: int
    asked_ms: int = 0
    """When the gateways were asked to hand in what they hold, by the clock of Redis; 0: they are not being asked"""


@dataclass(frozen=True, slots=True)
class Heard:
    """How far the gateways are with handing in."""

    asked_for_ms: int
    frozen_for_ms: int
    said: frozenset[int]
    """Gateways that have handed in everything"""


@dataclass(frozen=True, slots=True)
class Counter:
    suffix: str
    settled: int
    held: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    expired: int
    failed: int
    retired: int
    skewed: bool = False


def push_policy(store: SyncStore, workspace_id: int, ver: int, state: str) -> bool:
    """Make every older policy stale and set the state (active, suspended, deleting). False where Redis does not know the workspace yet,
    or it is being rebuilt: the rebuild carries both."""
    return bool(_control(store, "policy", workspace_id, ver, state)[0] == b"OK")


def begin_rebuild(store: SyncStore, workspace_id: int, epoch: int) -> int:
    """Stop admissions and finishes of a workspace under a new epoch; answers the seq Redis had. Raises Refused for an epoch not newer."""
    return int(_granted(_control(store, "begin", workspace_id, epoch))[1])


def ask(store: SyncStore, workspace_id: int, epoch: int) -> Heard:
    """Ask the gateways to hand in what they hold; may be repeated to learn who has. Raises Refused when the epoch is another."""
    reply = _granted(_control(store, "ask", workspace_id, epoch))
    store.hset(_asked_key(store, workspace_id), str(int(workspace_id)), str(epoch))
    return Heard(reply[1], reply[2], frozenset(int(gateway) for gateway in reply[3]))


def handed_in(store: SyncStore, workspace_id: int, epoch: int, gateways: Iterable[int]) -> Iterator[bytes]:
    """What those gateways handed in, packed."""
    for gateway in gateways:
        key, first = keys.handed_key(workspace_id, epoch, gateway), 0
        while True:
            some: Any = store.lrange(key, first, first + CHUNK - 1)
            yield from some
            first += CHUNK
            if len(some) < CHUNK:
                break


def emit(store: SyncStore, workspace_id: int, epoch: int, seq: int, events: Sequence[LostEvent]) -> None:
    """Write lost events again, numbered from `seq` + 1 on (or from what Redis had, if that is more)."""
    for chunk in _chunks(events):
        _granted(_control(store, "emit", workspace_id, epoch, seq, chunk))


def asked_no_more(store: SyncStore, workspace_id: int) -> None:
    store.hdel(_asked_key(store, workspace_id), str(int(workspace_id)))


def _asked_key(store: SyncStore, workspace_id: int) -> str:
    return keys.asked_key(keys.partition_of(workspace_id) if isinstance(store, redis.RedisCluster) else 0)


def wipe(store: SyncStore, workspace_id: int, epoch: int) -> None:
    """Forget the counters and open holds of a workspace that is being rebuilt (or, with any epoch, deleted)."""
    cursor, left = "0", 1
    while left or cursor != "0":
        _, following, left = _granted(_control(store, "wipe", workspace_id, epoch, cursor, CHUNK))
        cursor = following.decode()


def seed(
    store: SyncStore, workspace_id: int, epoch: int, counters: Sequence[SeedCounter], holds: Sequence[SeedHold]
) -> None:
    """Write absolute values, in chunks that may be repeated."""
    for chunk in _chunks(counters):
        _granted(_control(store, "seed", workspace_id, epoch, chunk, []))
    for chunk in _chunks(holds):
        _granted(_control(store, "seed", workspace_id, epoch, [], chunk))


def commit_rebuild(
    store: SyncStore,
    workspace_id: int,
    *,
    epoch: int,
    seq: int,
    ver: int,
    state: str,
    counters: int,
    families: Sequence[tuple[str, int, int]] = (),
) -> int:
    """Open the workspace again; answers its seq. `families`: see `families_of`."""
    words = (epoch, seq, ver, state, counters, list(families))
    return int(_granted(_control(store, "commit", workspace_id, *words))[1])


def families_of(counters: Iterable[SeedCounter]) -> list[tuple[str, int, int]]:
    """(budget and period, how many of its values have a counter of their own, when the period ends) of each-value budgets: as many more as
    are missing to the bound may still come."""
    found: dict[str, tuple[int, int]] = {}
    for counter in counters:
        _, stem, start, *digest = counter.suffix.split(":")
        if digest and digest[0] != _OTHER:
            many, _ = found.get(f"{stem}:{start}", (0, 0))
            found[f"{stem}:{start}"] = (many + 1, counter.end_ms)
    return [(family, many, end_ms) for family, (many, end_ms) in found.items()]


def forget_budget(store: SyncStore, workspace_id: int, budget_id: str) -> None:
    _control(store, "forget", workspace_id, keys.uuid_text(budget_id))


def erase(store: SyncStore, workspace_id: int) -> None:
    """Remove what is left of a workspace in state deleting."""
    wipe(store, workspace_id, 0)
    _granted(_control(store, "erase", workspace_id))


def sweep(store: SyncStore, partition: int, *, most: int = 200, grace_ms: int = SWEEP_GRACE_MS) -> Swept:
    """Charge the holds nobody came back for, retire counters of long-ended periods; at most `most` of each."""
    prefix = keys.partition_prefix(partition)
    now_ms = time.time_ns() // 1_000_000
    code, expired, failed, retired = call_sync(
        store, scripts.SWEEP, keys.stream_key(partition), [now_ms, prefix, most, grace_ms]
    )
    return Swept(expired, failed, retired, skewed=code == b"CLOCK_SKEW")


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_meta(store: SyncStore, workspace_id: int) -> Meta | None:
    return read_metas(store, [workspace_id])[0]


def read_metas(store: SyncStore, workspace_ids: Sequence[int]) -> list[Meta | None]:
    """The heads of many workspaces, in their order; None for one that Redis does not know."""
    found: list[Meta | None] = []
    for chunk in _chunks(workspace_ids):
        pipe = store.pipeline(transaction=False)
        for workspace_id in chunk:
            pipe.hmget(keys.meta_key(workspace_id), ["state", "epoch", "seq", "ver", "n", "asked"])
        for state, *numbers in pipe.execute():
            found.append(None if state is None else Meta(state.decode(), *(int(number or 0) for number in numbers)))
    return found


def read_counters(store: SyncStore, workspace_id: int) -> dict[str, Counter]:
    """Every counter of a workspace by its suffix ("b:<budget>:<start>[:<digest>]")."""
    found: Any = store.hkeys(keys.index_key(workspace_id))
    suffixes = [field.decode() for field in found]
    return {counter.suffix: counter for chunk in _chunks(suffixes) for counter in read_some(store, workspace_id, chunk)}


def count_counters(store: SyncStore, workspace_id: int) -> int:
    """How many counters a workspace has."""
    found: Any = store.hlen(keys.index_key(workspace_id))
    return int(found)


def suffixes_under(store: SyncStore, workspace_id: int, stem: str) -> set[str]:
    """The suffixes of the counters that begin with `stem`. The money Redis is asked in small steps: it has calls to admit."""
    fields = store.hscan_iter(keys.index_key(workspace_id), match=f"{stem}*", count=CHUNK)
    return {field.decode() for field, _ in fields}


def read_some(store: SyncStore, workspace_id: int, suffixes: Sequence[str]) -> list[Counter]:
    """The counters of these suffixes; one that was never used reads as zero."""
    prefix = keys.workspace_prefix(workspace_id)
    pipe = store.pipeline(transaction=False)
    for suffix in suffixes:
        pipe.hmget(prefix + suffix, ["s", "h", "v"])
    rows = pipe.execute()
    return [
        Counter(suffix, int(settled or 0), int(held or 0), (label or b"").decode())
        for suffix, (settled, held, label) in zip(suffixes, rows, strict=True)
    ]


def open_holds(store: SyncStore, workspace_id: int) -> list[str]:
    """The rids of the workspace's open holds."""
    return list(deadlines(store, workspace_id))


def deadlines(store: SyncStore, workspace_id: int) -> dict[str, int]:
    """rid -> when the lease of an open hold ends, in ms."""
    mine = f"w:{int(workspace_id)}:r:".encode()
    members: Any = store.zrange(keys.open_key(keys.partition_of(workspace_id)), 0, -1, withscores=True)
    return {member[len(mine) :].decode(): int(score) for member, score in members if member.startswith(mine)}


def _control(store: SyncStore, verb: str, workspace_id: int, *arguments: Any) -> list[Any]:
    partition = keys.partition_of(workspace_id)
    packed = encode([verb, keys.partition_prefix(partition), str(int(workspace_id)), *arguments])
    reply: list[Any] = call_sync(store, scripts.CONTROL, keys.stream_key(partition), [packed])
    return reply


def _granted(reply: list[Any]) -> list[Any]:
    if reply[0] != b"OK":
        raise Refused(reply)
    return reply


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), CHUNK):
        yield items[first : first + CHUNK]

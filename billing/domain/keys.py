"""Names of the money keys in Redis. Built here and nowhere else, from validated ids, so that a hostile id cannot reach another tenant's key.

All keys of a workspace carry the hash tag of its partition and so share one Redis Cluster slot (PROTOCOL.md, "Units and names").
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID
from zlib import crc32

PARTITIONS = 64


@lru_cache(maxsize=16_384)
def partition_of(workspace_id: int) -> int:
    """The partition (0..63) that all keys and events of a workspace live in."""
    return crc32(str(int(workspace_id)).encode()) % PARTITIONS


@lru_cache(maxsize=PARTITIONS)
def partition_prefix(partition: int) -> str:
    if not 0 <= partition < PARTITIONS:
        raise ValueError(f"no such partition: {partition}")
    return f"sl:{{p{partition:02d}}}:"


def workspace_prefix(workspace_id: int) -> str:
    """`sl:{p07}:w:42:`"""
    return f"{partition_prefix(partition_of(workspace_id))}w:{int(workspace_id)}:"


def meta_key(workspace_id: int) -> str:
    return workspace_prefix(workspace_id) + "meta"


def index_key(workspace_id: int) -> str:
    return workspace_prefix(workspace_id) + "idx"


def open_key(partition: int) -> str:
    """The sorted set of open holds of a partition, scored by deadline."""
    return partition_prefix(partition) + "open"


def stream_key(partition: int) -> str:
    """The stream of hold/settle/void/expire/adjust events of a partition."""
    return partition_prefix(partition) + "out"


def due_key(partition: int) -> str:
    """The sorted set of counters by the time they may be retired."""
    return partition_prefix(partition) + "due"


def asked_key(partition: int) -> str:
    """Workspace -> epoch of the rebuilds that wait for the gateways to hand in what they hold (one hash a cluster slot, else partition 0's)."""
    return partition_prefix(partition) + "asked"


def said_key(workspace_id: int, epoch: int) -> str:
    """Which gateways have handed in everything for this epoch."""
    return f"{workspace_prefix(workspace_id)}said:{int(epoch)}"


def handed_key(workspace_id: int, epoch: int, gateway: int) -> str:
    """What one gateway handed in for this epoch."""
    return f"{workspace_prefix(workspace_id)}handed:{int(epoch)}:{int(gateway)}"


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{32}")


def uuid_text(identity: UUID | str) -> str:
    """An id as it stands in a key. Raises ValueError for anything but a UUID in its canonical form."""
    text = str(identity)
    if not _UUID.fullmatch(text):
        raise ValueError(f"not a canonical UUID: {text[:64]!r}")
    return text


def value_digest(value: str) -> str:
    """A dimension's value -> 32 hex digits. Values are people's text: they never stand in a key themselves."""
    return blake2b(value.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=16_384)
def counter_suffix(budget_id: UUID | str, start_ms: int, digest: str = "") -> str:
    """`b:<budget>:<period start ms>` and for one value of an each-value budget `:<digest>` after it."""
    if digest and not _DIGEST.fullmatch(digest):
        raise ValueError("not a value digest")
    stem = f"b:{uuid_text(budget_id)}:{int(start_ms)}"
    return f"{stem}:{digest}" if digest else stem


@lru_cache(maxsize=16_384)
def rate_suffix(limit_id: UUID | str, metric: str, digest: str = "") -> str:
    """`rl:<limit>:<metric>[:<digest>]`, the state of one rate limit."""
    if not (metric.isascii() and metric.isalpha()) or (digest and not _DIGEST.fullmatch(digest)):
        raise ValueError("not a rate metric or value digest")
    stem = f"rl:{uuid_text(limit_id)}:{metric}"
    return f"{stem}:{digest}" if digest else stem


def budget_of(counter: str) -> tuple[UUID, int, str]:
    """A counter suffix -> (budget id, period start ms, value digest or "")."""
    parts = counter.split(":")
    if len(parts) not in (3, 4) or parts[0] != "b":
        raise ValueError(f"not a counter: {counter[:64]!r}")
    return UUID(uuid_text(parts[1])), int(parts[2]), parts[3] if len(parts) == 4 else ""

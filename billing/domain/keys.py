"""Names of the money keys in Redis. Built here and nowhere else, from validated ids, so that a hostile id cannot reach another tenant's key.

All keys of a workspace carry the hash tag of its partition and so share one Redis Cluster slot (PROTOCOL.md, "Units and names").
"""

from __future__ import annotations

from zlib import crc32

PARTITIONS = 64


def partition_of(workspace_id: int) -> int:
    """The partition (0..63) that all keys and events of a workspace live in."""
    return crc32(str(int(workspace_id)).encode()) % PARTITIONS


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

"""The money stream, as the ledger reads it: entries after a point, whether a point is still there, and trimming.

The only door of the ledger to the money Redis. It reads and trims; what is in the stream is written by guardrails' scripts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from billing.domain.keys import PARTITIONS, stream_key

__all__ = ["PARTITIONS", "MoneyStream", "RawEntry", "StreamUnavailable", "money_stream"]

StreamUnavailable: Final = RedisError
"""The money Redis does not answer, or refuses. Nothing was lost: read again later."""


MOST_TRIMS: Final = 500
"""Of five million entries of a partition in one go: a minute's entries of far more than one Redis takes."""


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One stream entry as Redis keeps it."""

    id: str
    fields: Mapping[bytes, bytes]

    def seal(self) -> bytes:
        """Digest of the content: tells an entry from another one that got the same id after Redis lost its end."""
        digest = blake2b(digest_size=16)
        for name, value in sorted(self.fields.items()):
            digest.update(b"%d:%d:" % (len(name), len(value)))
            digest.update(name)
            digest.update(value)
        return digest.digest()

    def named(self) -> dict[str, bytes]:
        """Fields by their names as text. Raises ValueError where a name is not UTF-8; values are checked by who reads them."""
        return {_FIELDS.get(name) or name.decode(): value for name, value in self.fields.items()}


_FIELDS: Final = {name.encode(): name for name in "kwqrtchbxpl"}
"""The names that are nearly all there are."""


class MoneyStream:
    """The streams of all partitions on one Redis (or Redis Cluster)."""

    def __init__(self, url: str, *, cluster: bool = False) -> None:
        options: dict[str, Any] = {
            "socket_connect_timeout": 2,
            "socket_timeout": 10,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        self.cluster = cluster
        self._redis: redis.Redis | redis.RedisCluster = (
            redis.RedisCluster.from_url(url, **options) if cluster else redis.Redis.from_url(url, **options)
        )

    def read_from(self, partition: int, first_id: str, count: int) -> list[RawEntry]:
        """At most `count` entries, oldest first, from `first_id` on (that one included); an empty id is the beginning."""
        rows: Any = self._redis.xrange(stream_key(partition), min=first_id or "-", max="+", count=count)
        return [RawEntry(id_.decode(), fields or {}) for id_, fields in rows]

    def newest_ids(self) -> list[str]:
        """The newest entry's id of every partition, by number; empty where there is no entry."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.xrevrange(stream_key(partition), count=1)
        return [rows[0][0].decode() if rows else "" for rows in pipe.execute()]

    def lengths(self) -> list[int]:
        """How many entries every partition's stream keeps."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.xlen(stream_key(partition))
        return [int(length) for length in pipe.execute()]

    def wait(self, after: Sequence[str], *, timeout_ms: int) -> None:
        """Sleep until some partition has an entry after the id given for it, at most `timeout_ms`.

        A hint to be quick, not a promise: a cluster cannot wait on several slots, and ids that went back are not seen here.
        """
        if self.cluster:
            # One slot at a time; partition 0 stands for "a moment".
            streams = {stream_key(0): after[0] or "0-0"}
        else:
            streams = {stream_key(partition): last or "0-0" for partition, last in enumerate(after)}
        self._redis.xread(streams, count=1, block=max(1, timeout_ms))  # type: ignore[arg-type]

    def trim(self, oldest_kept: Mapping[int, str]) -> int:
        """Drop what is older than the id given for a partition; answers how many entries went.

        Redis drops ten thousand entries of a stream at a time, so that nobody waits for long: as often as there are more, but not for ever.
        """
        dropped = 0
        for _ in range(MOST_TRIMS):
            pipe = self._redis.pipeline(transaction=False)
            for partition, oldest in oldest_kept.items():
                pipe.xtrim(stream_key(partition), minid=oldest, approximate=True)
            gone = {
                partition: int(count) for partition, count in zip(oldest_kept, pipe.execute(), strict=True) if count
            }
            dropped += sum(gone.values())
            oldest_kept = {partition: oldest_kept[partition] for partition in gone}
            if not oldest_kept:
                break
        return dropped

    def close(self) -> None:
        self._redis.close()


@lru_cache(maxsize=4)
def _connected(url: str, cluster: bool) -> MoneyStream:
    return MoneyStream(url, cluster=cluster)


def money_stream() -> MoneyStream:
    """The stream of this installation; connections are kept per process (redis-py's pools know about forks)."""
    return _connected(settings.MONEY_REDIS_URL, settings.MONEY_REDIS_CLUSTER)

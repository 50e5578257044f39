"""Connections to the money Redis, single or cluster, and the call of a script on them. Nothing is retried here: whether a
repeat is safe depends on what was asked, and only the asker knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio as aredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.retry import Retry

from guardrails.limiter.pipe import Pipe
from guardrails.limiter.scripts import Script

StoreError = redis.RedisError
"""The money Redis could not be asked, or refused: every error of the library. Others catch this name."""
AsyncStore = aredis.Redis | aredis.RedisCluster
SyncStore = redis.Redis | redis.RedisCluster

ANSWER_S = 1.0
CONNECT_S = 1.0
"""Who asks waits less (lanes.py, patience.py); a process that is short of CPU must be able to finish its dialing."""


def connect(url: str, *, cluster: bool = False) -> AsyncStore:
    """The gateway's connection pool, for one event loop."""
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": ANSWER_S,
        "retry": AsyncRetry(NoBackoff(), 0),
        "protocol": 2,
    }
    return aredis.RedisCluster.from_url(url, **options) if cluster else aredis.Redis.from_url(url, **options)


def pipe(store: aredis.Redis) -> Pipe:
    """The short way to the same server, for the scripts of every call."""
    return Pipe(store.connection_pool, connect_s=CONNECT_S, answer_s=ANSWER_S)


def connect_sync(url: str, *, cluster: bool = False, answer_s: float = 5.0) -> SyncStore:
    """Connections for commands, tasks and threads."""
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    return redis.RedisCluster.from_url(url, **options) if cluster else redis.Redis.from_url(url, **options)


async def call(store: AsyncStore, script: Script, key: str, arguments: Sequence[bytes | str | int]) -> Any:
    """Run a script by its hash; by its text where the server does not know it yet. `key` routes in a cluster. Raises RedisError, OSError."""
    try:
        try:
            return await store.execute_command("EVALSHA", script.sha, 1, key, *arguments)
        except NoScriptError:
            return await store.execute_command("EVAL", script.text, 1, key, *arguments)
    except (AttributeError, RuntimeError) as error:
        # A connection that was closed under a command: redis-py's cluster client does it when it learns a new topology (AttributeError), and
        # uvloop says RuntimeError to who writes to one that was reset.
        raise RedisConnectionError("the connection was closed under a command") from error


def call_sync(store: SyncStore, script: Script, key: str, arguments: Sequence[bytes | str | int]) -> Any:
    try:
        return store.execute_command("EVALSHA", script.sha, 1, key, *arguments)  # type: ignore[no-untyped-call]
    except NoScriptError:
        return store.execute_command("EVAL", script.text, 1, key, *arguments)  # type: ignore[no-untyped-call]

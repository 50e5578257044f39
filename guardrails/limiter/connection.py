"""The money Redis of this installation, from the settings."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from guardrails.limiter import store


@lru_cache(maxsize=4)
def _sync(url: str, cluster: bool) -> store.SyncStore:
    return store.connect_sync(url, cluster=cluster)


def sync_store() -> store.SyncStore:
    """Kept per process; redis-py's pools know about forks and threads."""
    return _sync(settings.MONEY_REDIS_URL, settings.MONEY_REDIS_CLUSTER)


def async_store() -> store.AsyncStore:
    """A pool for the running event loop."""
    return store.connect(settings.MONEY_REDIS_URL, cluster=settings.MONEY_REDIS_CLUSTER)

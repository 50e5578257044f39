"""Start-up: a budget Redis that evicts or forgets is refused in production (PROTOCOL.md, "Durability")."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from guardrails.limiter.connection import sync_store
from guardrails.limiter.store import StoreError, SyncStore


def register() -> None:
    checks.register(money_redis_is_fit, "database")


def faults_of(store: SyncStore) -> list[str]:
    """What makes a Redis unfit to hold money; empty when it is fit. Raises StoreError when it cannot be asked."""
    faults = []
    policy = store.config_get("maxmemory-policy").get("maxmemory-policy", "")
    if policy != "noeviction":
        faults.append(f"maxmemory-policy is {policy!r}: it may drop counters; set it to noeviction")
    if store.config_get("appendonly").get("appendonly", "") != "yes":
        faults.append("appendonly is off: a restart would forget every hold; set it to yes")
    return faults


def money_redis_is_fit(*, app_configs: Any, databases: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Run by `manage.py check --database default` and by `migrate`. Where CONFIG is forbidden (managed servers) it cannot be asked: a warning."""
    if not databases or not settings.MONEY_REDIS_URL:
        return []
    kind = checks.Error if settings.PRODUCTION else checks.Warning
    try:
        faults = faults_of(sync_store())
    except StoreError as error:
        return [checks.Warning(f"the money Redis could not be asked for its settings: {error}", id="guardrails.W001")]
    return [kind(f"the money Redis is not fit to hold budgets: {fault}", id="guardrails.E001") for fault in faults]

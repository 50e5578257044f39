"""A production does not start on stores that forget or mix up; anything else may."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from config import fitness
from config.stack import redis as stack_redis
from config.stack.redis import RedisServer


@pytest.mark.django_db(transaction=True)
def test_durable_stores_are_accepted(settings: Settings, redis_server: RedisServer) -> None:
    settings.MONEY_REDIS_URL = redis_server.url()
    fitness.refuse_unfit_stores()


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [({"appendonly": "no"}, "appendonly is off"), ({"maxmemory-policy": "allkeys-lru"}, "set it to noeviction")],
)
def test_a_redis_that_forgets_or_evicts_is_refused_with_what_to_change(
    settings: Settings, tmp_path: Path, wrong: dict[str, str], advice: str
) -> None:
    with stack_redis.running(tmp_path / "unfit", settings=wrong) as server:
        settings.MONEY_REDIS_URL = server.url()
        with pytest.raises(ImproperlyConfigured, match=advice):
            fitness.refuse_unfit_stores()


@pytest.mark.django_db(transaction=True)
def test_a_redis_that_is_away_is_not_judged(settings: Settings, redis_server: RedisServer) -> None:
    settings.MONEY_REDIS_URL = redis_server.url()
    redis_server.stop()
    fitness.refuse_unfit_stores()


def test_a_production_that_serves_names_the_secrets_it_lacks(settings: Settings) -> None:
    settings.WEAK_SECRETS = ["SLUICE_MASTER_KEY"]
    with pytest.raises(ImproperlyConfigured, match=r"SLUICE_MASTER_KEY \(43\)"):
        fitness.refuse_weak_secrets()

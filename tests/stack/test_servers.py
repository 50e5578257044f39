"""The embedded servers keep what they promise: nothing lost by kill -9, an ordinary role for the application, refusals explained."""

from __future__ import annotations

import psycopg
import pytest

from config.stack import redis as stack_redis
from config.stack.postgres import PostgresServer
from config.stack.redis import RedisServer


def test_postgres_keeps_committed_rows_over_kill_9_and_restart(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url()) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    busy = psycopg.connect(postgres_server.url())  # a session that is open at the moment of the crash
    busy.execute("SELECT 1")
    postgres_server.kill()
    postgres_server.start()
    busy.close()
    with psycopg.connect(postgres_server.url()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(42,)]


def test_the_application_role_is_an_ordinary_one(db: None) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False, False, False)


def test_redis_keeps_acknowledged_writes_over_kill_9_and_restart(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for n in range(1000):
            client.hincrby("counter", "s", n)
    redis_server.kill()
    redis_server.start()
    with redis_server.client() as client:
        assert client.hget("counter", "s") == "499500"


def test_a_money_redis_that_forgets_or_evicts_is_named_unfit(tmp_path) -> None:
    with stack_redis.running(tmp_path / "good") as good:
        assert stack_redis.faults_of_money_redis(good.url()) == []
    bad = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with stack_redis.running(tmp_path / "bad", settings=bad) as unfit:
        faults = stack_redis.faults_of_money_redis(unfit.url())
    assert len(faults) == 2
    assert "allkeys-lru" in faults[0]
    assert "append-only" in faults[1]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_transactional_test_finds_nothing_of_the_one_before(transactional_db: None, turn: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'left_behind'")
        assert cursor.fetchone() == (0,)
        cursor.execute("CREATE SCHEMA left_behind")


def test_each_test_starts_with_empty_redis_numbers(money_redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(money_redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")

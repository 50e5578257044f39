"""The embedded servers keep what they promise: nothing lost by kill -9, an ordinary role for the application, refusals explained."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psycopg
import pytest

from config.stack.postgres import NOBODY, PostgresServer, Rootless, binaries, open_to_all, rootless
from config.stack.process import StackError
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
        # While its thread syncs the file, "everysec" holds writes back in memory, for two seconds at most, and acknowledges them.
        # (The file is the limit, not the books: what a kill took from memory is found missing and rebuilt; see guardrails/recovery.)
        assert client.waitaof(1, 0, 10_000)[0] == 1
    redis_server.kill()
    redis_server.start()
    with redis_server.client() as client:
        assert client.hget("counter", "s") == "499500"


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


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@as_root
@pytest.mark.parametrize("way", sorted({rootless(), "nobody"}))
def test_root_runs_postgres_as_somebody_else(way: Rootless) -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-root-") as folder:
        Path(folder).chmod(0o711)
        server = PostgresServer(home=Path(folder) / "postgres", fast_and_unsafe=True, as_root=way)
        if way == "nobody" and not open_to_all(binaries()):
            with pytest.raises(StackError, match="other users cannot enter"):
                server.start()
            return
        try:
            server.start()
            server.ensure_application_database()
            with psycopg.connect(server.url()) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("sluice",)
            assert (server.data.stat().st_uid == NOBODY) == (way == "nobody")
            server.kill()
            server.start()
        finally:
            server.stop()


@as_root
def test_a_folder_that_others_may_not_enter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(StackError, match="set SLUICE_HOME to a folder that others may enter, or set DATABASE_URL"):
        PostgresServer(home=private / "postgres", as_root="nobody").start()

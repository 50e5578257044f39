"""The writer is killed between any two of its steps: the books end as if it had not been (FAULTS F13, F20)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from billing.domain.keys import partition_of
from billing.ledger import writer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]

WS = 42
ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import django; django.setup()
from billing.domain.keys import partition_of
from billing.ledger import writer
from billing.ledger.stream import money_stream
print("ready", flush=True)
while True:
    writer.drain_once(money_stream(), partition_of(42), batch=20)
"""


def start_writer(environment: dict[str, str], **extra: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env={**environment, **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def tell(events: Any, calls: int) -> int:
    chance, cost = random.Random(3), 0
    counter = "b:0198c0de-0000-7000-8000-000000000009:0"
    for _ in range(calls):
        amount = chance.randrange(10**9)
        events.call(
            WS,
            cost=amount,
            held=10**9,
            charges=[[counter, "nano", amount]],
            dims={"customer": f"c{chance.randrange(50)}"},
        )
        cost += amount
    return cost


def check(books: Any, calls: int, cost: int) -> None:
    assert books.value("SELECT count(*) FROM billing_entry") == calls
    assert books.value("SELECT sum(cost_nano)::bigint FROM billing_entry") == cost
    assert books.value("SELECT settled FROM billing_budget_total") == cost
    for table, where in (
        ("hour", "dimension = ''"),
        ("day", "dimension = 'customer'"),
        ("month", "dimension = ''"),
        ("detail", "true"),
    ):
        assert books.value(f"SELECT sum(cost_nano)::bigint FROM billing_rollup_{table} WHERE {where}") == cost
        assert books.value(f"SELECT sum(calls)::bigint FROM billing_rollup_{table} WHERE {where}") == calls
    assert books.rows("SELECT rid FROM billing_open_attempt") == []
    assert books.rows("SELECT seq, gaps FROM billing_sequence_mark") == [(2 * calls, "[]")]


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_dying_at_a_named_point_loses_and_doubles_nothing(
    point: str, events: Any, books: Any, sluice_environment: Any
) -> None:
    cost = tell(events, 60)
    for _ in range(2):
        process = start_writer(sluice_environment, SLUICE_CRASH_AT=point)
        assert process.wait(30) == 137
        process.stdout.close()
    books.drain(WS)
    check(books, 60, cost)


def test_random_kills_of_the_writer_lose_and_double_nothing(events: Any, books: Any, sluice_environment: Any) -> None:
    cost, chance, started = tell(events, 400), random.Random(11), time.monotonic()
    kills = 0
    while writer.survey(books.stream).behind and time.monotonic() - started < 15:
        process = start_writer(sluice_environment)
        time.sleep(chance.uniform(0.02, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        kills += 1
        connections.close_all()
    assert kills > 1
    deadline = time.monotonic() + 10
    while writer.drain(books.stream, partition_of(WS)).busy and time.monotonic() < deadline:
        time.sleep(0.05)  # PostgreSQL has not noticed yet that the last one is gone
    check(books, 400, cost)


LOOP = """
import django; django.setup()
from billing import tasks
print("ready", flush=True)
while True:
    tasks.write_ledger()
"""


def test_postgres_dying_under_the_writer_costs_only_time(
    events: Any, migrated_postgres: Any, sluice_environment: dict[str, str]
) -> None:
    environment = {**sluice_environment, "DATABASE_URL": migrated_postgres.url()}
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        cost = tell(events, 150)
        time.sleep(0.3)
        migrated_postgres.kill()
        cost += tell(events, 150)
        time.sleep(1)
        migrated_postgres.start()
        deadline = time.monotonic() + 40
        while booked(migrated_postgres) != (300, cost):
            assert process.poll() is None
            assert time.monotonic() < deadline, booked(migrated_postgres)
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def booked(server: Any) -> tuple[int, int]:
    with psycopg.connect(server.admin_url("sluice")) as connection:
        row = connection.execute("SELECT count(*), coalesce(sum(cost_nano), 0)::bigint FROM billing_entry").fetchone()
        assert row is not None
        return row[0], row[1]

"""A small writer of money events, in the format of guardrails' scripts, and the drained books beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection

from billing.domain.keys import partition_of, stream_key
from billing.ledger import writer
from billing.ledger.stream import MoneyStream
from billing.models import Entry
from workspaces import tenancy
from workspaces.ids import uuid7


class Events:
    """XADDs events as admission and settlement do; every workspace has its own gapless seq."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)
        self.seq: dict[int, int] = {}
        self.last_ms = 0

    def now_ms(self) -> int:
        """The time, one millisecond on at every question: events of one millisecond have no order."""
        self.last_ms = max(self.last_ms + 1, time.time_ns() // 1_000_000)
        return self.last_ms

    def fields(self, kind: str, workspace: int, rid: str, **values: Any) -> dict[str, str]:
        """The fields of one event, with a number of its own."""
        self.seq[workspace] = self.seq.get(workspace, 0) + 1
        now_ms = values["at_ms"] if "at_ms" in values else self.now_ms()
        context = {
            "call": values.get("call") or str(uuid7(now_ms)),
            "key": values.get("key", "0198c0de-0000-7000-8000-000000000001"),
            "provider": values.get("provider", "simulator"),
            "model": values.get("model", "fake-ok"),
            "endpoint": "/v1/chat/completions",
            "attempt": values.get("attempt", 1),
            "dims": values.get("dims", {}),
            "tags": values.get("tags", {}),
            "model_requested": values.get("model_requested", ""),
            "fingerprint": values.get("fingerprint", ""),
        }
        fields = {
            "k": kind,
            "w": str(workspace),
            "q": str(self.seq[workspace]),
            "r": rid,
            "t": str(now_ms),
            "c": str(values.get("cost", 0)),
            "h": str(values.get("held", 0)),
            "b": json.dumps(values.get("charges", [])),
            "x": json.dumps(context) if values.get("context", True) else "",
        }
        if kind in ("settle", "adjust", "void"):
            fields["p"] = json.dumps(
                {
                    "basis": values.get("basis", "measured"),
                    "price_status": values.get("price_status", "exact"),
                    "http_status": values.get("http_status", 200),
                    "error": values.get("error", ""),
                    "flags": values.get("flags", []),
                    "buckets": values.get("buckets", {"input_uncached": 10, "cache_read": 4, "output_text": 3}),
                    "raw_usage": {"prompt_tokens": 14, "completion_tokens": 3},
                    "breakdown": [
                        {"unit": "input_uncached", "quantity": 10, "rate_per_m_usd": "0.15", "cost_usd": "0.0000015"}
                    ],
                    "duration_ms": values.get("duration_ms", 120),
                    "first_byte_ms": 30,
                    "overhead_us": 400,
                }
            )
        return fields

    def add(self, workspace: int, fields: dict[str, Any], id_: str = "*") -> str:
        return self.redis.xadd(stream_key(partition_of(workspace)), fields, id=id_).decode()

    def emit(self, kind: str, workspace: int, rid: str | None = None, **values: Any) -> str:
        """Write an event; answers its rid."""
        rid = rid or str(uuid7(values.get("at_ms", self.now_ms())))
        self.add(workspace, self.fields(kind, workspace, rid, **values))
        return rid

    def call(self, workspace: int, cost: int = 5, held: int = 9, **values: Any) -> str:
        """A whole call: hold and settle."""
        rid = self.emit("hold", workspace, held=held, **values)
        return self.emit("settle", workspace, rid, cost=cost, held=held, **values)


class Books:
    """What PostgreSQL has, read past row-level security."""

    def __init__(self, stream: MoneyStream) -> None:
        self.stream = stream

    @classmethod
    def at(cls, url: str) -> Books:
        return cls(MoneyStream(url))

    def drain(self, workspace: int, **options: Any) -> writer.Drained:
        return writer.drain(self.stream, partition_of(workspace), **options)

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with tenancy.every_workspace("tests compare whole books"), connection.cursor() as cursor:
            cursor.execute(query, params)
            return cursor.fetchall()

    def value(self, query: str, *params: Any) -> Any:
        return self.rows(query, *params)[0][0]

    def picture(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that is derived from events, comparable between two ways of arriving at it."""
        measured = "calls, attempts, errors, voids, cost_nano, assumed_nano, unpriced_calls, input_tokens, output_tokens, duration_ms"
        queries = {
            "totals": "SELECT workspace_id, counter, settled FROM billing_budget_total",
            "crossings": "SELECT workspace_id, counter, threshold FROM billing_crossing",
            "open": "SELECT workspace_id, rid, counters FROM billing_open_attempt",
            "hours": f"SELECT workspace_id, dimension, hour, value, {measured} FROM billing_rollup_hour",
            "days": f"SELECT workspace_id, dimension, day, value, {measured} FROM billing_rollup_day",
            "months": f"SELECT workspace_id, dimension, month, value, {measured} FROM billing_rollup_month",
            "details": f"SELECT workspace_id, day, digest, {measured} FROM billing_rollup_detail",
            "marks": "SELECT workspace_id, seq, gaps FROM billing_sequence_mark",
        }
        found = {name: sorted(self.rows(query), key=repr) for name, query in queries.items()}
        return found | {
            "entries": sorted(
                self.entries("workspace_id", "rid", "leg", "at", "state", "cost_nano", "counters"), key=repr
            )
        }

    def entries(self, *names: str) -> list[tuple[Any, ...]]:
        """These attributes of all lines, in the order of the ledger."""
        with tenancy.every_workspace("tests compare whole books"):
            lines = Entry.objects.order_by("at", "rid", "leg")
            return [tuple(getattr(line, name) for name in names) for line in lines]


@pytest.fixture
def events(money_redis_url: str) -> Iterator[Events]:
    made = Events(money_redis_url)
    yield made
    made.redis.close()


@pytest.fixture
def books(money_redis_url: str) -> Iterator[Books]:
    stream = MoneyStream(money_redis_url)
    yield Books(stream)
    stream.close()


@pytest.fixture
def counter() -> str:
    """The counter of some monthly budget."""
    return f"b:{uuid4()}:1761955200000"

"""Lines that were kept as they were until migration 0012 are the same lines after it: read, exported, compared and delivered again."""

from __future__ import annotations

import importlib
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import connection

from billing.domain.keys import value_digest
from billing.ledger import common, folding
from billing.ledger.kept import OF_CALLER
from billing.migrations._packed_details import _DICTIONARY_1, unpack
from billing.models import Entry
from workspaces import tenancy
from workspaces.ids import uuid7

moving = importlib.import_module("billing.migrations.0012_lines_are_folded")
BUDGET = "0198c0de-0000-7000-8000-0000000000ff"


def packed(told: dict[str, Any]) -> bytes:
    squeezer = zlib.compressobj(6, zlib.DEFLATED, -15, 6, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY_1)
    return b"\x01" + squeezer.compress(msgspec.json.encode(told)) + squeezer.flush() if told else b""


def wide(workspace: int, **changed: Any) -> dict[str, Any]:
    """A line of the old table."""
    at = changed.pop("at", datetime(2026, 11, 3, 4, 5, 6, 789000, tzinfo=UTC))
    told = {
        "usage": {"input_uncached": 10, "output_text": 3},
        "breakdown": [{"unit": "output_text", "quantity": 3, "rate_per_m_usd": "0.6", "cost_usd": "0.0000018"}],
        "raw_usage": '{"prompt_tokens": 10, "completion_tokens": 3}',
        "provider_request_id": "chatcmpl-0af3",
    }
    line = {
        "workspace_id": workspace, "at": at, "rid": uuid7(int(at.timestamp() * 1000)), "leg": 0, "cost_nano": 1800, "hold_nano": 9000,
        "call_id": uuid7(), "state": "settled", "basis": "measured", "price_status": "exact", "ended_at": at + timedelta(seconds=2), "seq": 7,
        "attempt": 2, "credential_id": uuid7(), "model_requested": "alias", "model_served": "m-1", "endpoint": "/v1/chat/completions",
        "streamed": True, "http_status": 200, "error": "", "first_byte_ms": 40, "duration_ms": None, "overhead_us": 400,
        "counters": [[f"b:{BUDGET}:0:{value_digest('acme')}", "nano", 1800], [f"b:{BUDGET}:0", "calls", 1]], "flags": ["over"],
        "price_version": "2026-11-20", "fingerprint": -5, "detail": packed(told), "tags": {"plan": "pro", "a": "b"},
        "member": "", "agent": "", "department": "d", "virtual_key": "k", "customer": "acme", "feature": "chat", "end_user": "u", "session": "s",
        "model": "m", "provider": "openai", "environment": "production",
    }  # fmt: skip
    return line | changed


@pytest.fixture
def old_table() -> Any:
    """The old table, as far as the migration reads it."""
    types = {
        "at": "timestamptz", "ended_at": "timestamptz", "rid": "uuid", "call_id": "uuid", "credential_id": "uuid", "counters": "jsonb",
        "flags": "jsonb", "tags": "jsonb", "detail": "bytea", "streamed": "boolean", "workspace_id": "bigint", "leg": "smallint",
        "cost_nano": "bigint", "hold_nano": "bigint", "seq": "bigint", "attempt": "smallint", "http_status": "integer",
        "first_byte_ms": "integer", "duration_ms": "integer", "overhead_us": "integer", "fingerprint": "bigint",
    }  # fmt: skip
    columns = ", ".join(f"{name} {types.get(name, 'text')}" for name in moving.COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE public.billing_wide_entry_2026_11 ({columns})")
        cursor.execute("SELECT public.sluice_make_partition('billing_entry', '2026-11-01')")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE public.billing_wide_entry_2026_11")


def put(lines: list[dict[str, Any]]) -> None:
    with connection.cursor() as cursor:
        for line in lines:
            values = [
                msgspec.json.encode(line[name]).decode() if name in ("counters", "flags", "tags") else line[name]
                for name in moving.COLUMNS
            ]
            cursor.execute(
                f"INSERT INTO public.billing_wide_entry_2026_11 VALUES ({', '.join(['%s'] * len(values))})", values
            )


def move(pages: int = 99) -> None:
    after: tuple[UUID, int] | None = None
    for _ in range(pages):
        with tenancy.every_workspace("tests move whole books"), connection.cursor() as cursor:
            after = moving.fold_page(cursor, "billing_wide_entry_2026_11", after)
        if after is None:
            return


def same(entry: Entry, line: dict[str, Any]) -> None:
    told = unpack(line["detail"])
    assert entry.unpacked() == {name: value for name, value in told.items() if value}
    names = {
        name: "user" if name == "end_user" else name for name in moving.COLUMNS if name not in ("detail", "ended_at")
    }
    assert {name: getattr(entry, attribute) for name, attribute in names.items()} == {
        name: line[name] for name in names
    }
    assert entry.ended_at == line["ended_at"]
    assert entry.failed == bool(line["error"] or line["http_status"] >= 400)


@pytest.mark.django_db
def test_every_line_is_the_same_after_it_was_moved(old_table: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PAGE", 2)
    lines = [
        wide(42), wide(42, customer="globex", tags={}), wide(7),
        wide(42, state="void", cost_nano=0, detail=b"", counters=[], flags=[], error="provider_timeout", http_status=0, fingerprint=None),
        wide(42, state="adjusted", leg=1, cost_nano=-5, call_id=None, credential_id=None, price_status="partial"),
    ]  # fmt: skip
    put(lines)
    move(pages=2)  # and then it was ended
    move()
    with tenancy.every_workspace("tests"):
        found = {(entry.rid, entry.leg): entry for entry in Entry.objects.all()}
    assert len(found) == len(lines)
    for line in lines:
        same(found[line["rid"], line["leg"]], line)
    assert found[lines[-1]["rid"], 1].unsure_tokens == "10,0,0,3"


@pytest.mark.django_db
def test_a_moved_line_shares_its_caller_with_a_new_one(events: Any, books: Any, old_table: None) -> None:
    key = "0198c0de-0000-7000-8000-000000000001"
    put(
        [
            wide(
                42,
                virtual_key=key,
                provider="simulator",
                model="fake-ok",
                department="",
                environment="",
                tags={"b": "2", "a": "1"},
            )
        ]
    )
    move()
    events.call(42, cost=1800, dims={"customer": "acme", "feature": "chat"}, tags={"b": "2", "a": "1"})
    assert books.drain(42).booked == 1
    assert books.value("SELECT count(DISTINCT caller_id) FROM billing_entry WHERE workspace_id = 42") == 1
    assert OF_CALLER == ("member", "agent", "department", "virtual_key", "feature", "model", "provider", "environment")


@pytest.mark.django_db
def test_a_workspace_whose_answers_never_repeat_keeps_its_patterns_in_its_lines(
    events: Any, books: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "MOST_PATTERNS", 1)
    charges = [[f"b:{BUDGET}:0", "nano", 5], [f"b:{BUDGET}:1:{value_digest('nobody')}", "tokens", 17]]
    for number in range(3):
        events.call(42, cost=5, error=f"strange_{'abc'[number]}", charges=charges)
    assert books.drain(42).booked == 3
    assert books.value("SELECT count(*) FROM billing_pattern WHERE workspace_id = 42") == 1
    assert books.value("SELECT count(*) FROM billing_entry WHERE shape_id IS NULL") == 3
    assert {(error, str(counters)) for error, counters in books.entries("error", "counters")} == {
        (f"strange_{letter}", str(charges)) for letter in "abc"
    }
    assert folding.FIELDS[7] == "error"

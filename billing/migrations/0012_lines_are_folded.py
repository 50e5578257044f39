"""The lines that stand in the old table are folded into the new one, a workspace's month in pages of a transaction each; then the old table goes.

It can be ended at any moment and run again: a line is written once (its key), and a month of the old table goes when all of it was moved.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec
from django.db import connections, migrations, transaction

from billing.ledger import common, folding
from billing.ledger.lines import NAMED, UNSURE, tokens_of
from billing.migrations._packed_details import unpack

PAGE = 2_000
_COLUMNS = ("end_user" if name == "user" else name for name in NAMED)
COLUMNS = (
    "workspace_id", "at", "rid", "leg", "cost_nano", "hold_nano", "call_id", "state", "basis", "price_status", "ended_at", "seq", "attempt",
    "credential_id", "model_requested", "model_served", "endpoint", "streamed", "http_status", "error", "first_byte_ms", "duration_ms",
    "overhead_us", "counters", "flags", "price_version", "fingerprint", "detail", "tags", *_COLUMNS,
)  # fmt: skip
INTO = (
    "workspace_id", "at", "rid", "leg", "cost_nano", "hold_nano", "call_id", "state", "basis", "price_status", "caller_id", "shape_id", "plan_id",
    "failed", "customer", "end_user", "session", "unsure_tokens", "detail",
)  # fmt: skip


def fold_all(apps: Any, schema_editor: Any) -> None:
    connection = connections[schema_editor.connection.alias]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = to_regclass('public.billing_wide_entry') ORDER BY 1"
        )
        months = [name for (name,) in cursor.fetchall()]
    for month in months:
        after = None
        while True:
            with transaction.atomic(connection.alias), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('sluice.every_workspace', 'on', true)")
                after = fold_page(cursor, month, after)
            if after is None:
                break
        with connection.cursor() as cursor:
            cursor.execute(f'DROP TABLE public."{month}"')
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS public.billing_wide_entry")


def fold_page(cursor: Any, month: str, after: tuple[Any, int] | None) -> tuple[Any, int] | None:
    """Move the lines that follow (rid, leg) in a month of the old table; answers the last one's key, None where there is none."""
    where, given = ("WHERE (rid, leg) > (%s, %s)", list(after)) if after else ("", [])
    cursor.execute(f'SELECT {", ".join(COLUMNS)} FROM public."{month}" {where} ORDER BY rid, leg LIMIT {PAGE}', given)  # noqa: S608 - names of the catalogue and ours
    lines = [dict(zip(COLUMNS, row, strict=True)) for row in cursor.fetchall()]
    if not lines:
        return None
    for _, some in groupby(sorted(lines, key=lambda line: line["workspace_id"]), key=lambda line: line["workspace_id"]):
        cursor.executemany(
            f"INSERT INTO public.billing_entry ({', '.join(INTO)}) VALUES ({', '.join(['%s'] * len(INTO))}) ON CONFLICT DO NOTHING",  # noqa: S608 - names of ours
            list(folded(cursor, list(some))),
        )
    return lines[-1]["rid"], lines[-1]["leg"]


def folded(cursor: Any, lines: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """The rows of lines of one workspace, by `INTO`."""
    workspace = lines[0]["workspace_id"]
    parts = []
    for line in lines:
        told = unpack(line["detail"])
        flags, counters, tags = (_plain(line[name]) for name in ("flags", "counters", "tags"))
        usage = told.get("usage", {})
        later = round((line["ended_at"] - line["at"]).total_seconds() * 1000)
        shape, tail = folding.fold(
            (
                line["attempt"], str(line["credential_id"] or ""), line["model_requested"], line["model_served"], line["endpoint"],
                line["streamed"], line["http_status"], line["error"], line["price_version"], tuple(flags),
            ),
            told,
            times=(later, line["seq"], line["first_byte_ms"], line["duration_ms"], line["overhead_us"]),
            fingerprint=line["fingerprint"],
        )  # fmt: skip
        dims = [line["end_user" if name == "user" else name] for name in NAMED]
        plan, charged = folding.fold_charges(
            [tuple(charge) for charge in counters], cost_nano=line["cost_nano"], usage=usage, dims=dims, tags=tags
        )
        caller = (
            line["member"], line["agent"], line["department"], line["virtual_key"], line["feature"], line["model"], line["provider"],
            line["environment"], msgspec.json.encode(dict(sorted(tags.items()))).decode() if tags else "{}",
        )  # fmt: skip
        unsure = ",".join(map(str, tokens_of(usage))) if line["price_status"] in UNSURE and usage else ""
        parts.append((line, shape, plan, charged, tail, caller, unsure))
    callers = common.callers(cursor, {(workspace, part[5]) for part in parts})
    patterns = common.patterns(cursor, {(workspace, pattern) for part in parts for pattern in part[1:3] if pattern})
    for line, shape, plan, charged, tail, caller, unsure in parts:
        numbers = [patterns.get((workspace, shape)), patterns.get((workspace, plan))]
        if numbers[0] is None or (numbers[1] is None and plan):
            numbers, detail = [None, None], folding.detail_with_patterns(shape, plan, charged, tail)
        else:
            detail = folding.detail(charged, tail)
        failed = bool(line["error"]) or line["http_status"] >= 400
        yield [
            *(line[name] for name in INTO[:10]), callers[workspace, caller], *numbers, failed, line["customer"], line["end_user"],
            line["session"], unsure, detail,
        ]  # fmt: skip


def _plain(value: Any) -> Any:
    """Django's connections hand jsonb out as text."""
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("billing", "0011_folded_lines")]
    operations = [migrations.RunPython(fold_all)]

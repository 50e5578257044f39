"""Single calls: the log, newest first, and one call's attempts with their corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import JSONField, Model, Q, QuerySet

from billing.domain.dimensions import Dimension
from billing.ledger import sums
from billing.ledger import values as kept
from billing.ledger.asking import (
    NO_FILTERS,
    TAG,
    CannotAnswer,
    Days,
    Filters,
    check_dimension,
    inside,
    moments,
    narrowed,
)
from billing.ledger.kept import lookup
from billing.ledger.ranking import LISTED_DAYS
from billing.ledger.rollups import NO_MONTHS
from billing.models import Caller, Entry, OpenAttempt, Pattern, RollupMonth
from workspaces import narrowing
from workspaces.ids import made_at_ms
from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """An attempt as the call log shows it: its charge, and its corrections in their order."""

    charge: Entry
    corrections: tuple[Entry, ...] = ()
    key_name: str | None = None
    """Of the charge's virtual key, read with it; None where the workspace has no such key (any more)."""

    @property
    def correction(self) -> Entry | None:
        """The last one."""
        return self.corrections[-1] if self.corrections else None

    @property
    def cost_nano(self) -> int:
        return self.charge.cost_nano + sum(correction.cost_nano for correction in self.corrections)

    @property
    def latest(self) -> Entry:
        """The line that knows most: the last correction, if any. Its tokens are those it added: ask `told` for the attempt's."""
        return self.correction or self.charge

    @property
    def told(self) -> Entry:
        """The line that the answer itself made: the charge, or the truth that corrected it. Later ones only changed the price."""
        return next((line for line in self.corrections if line.leg == 1), self.charge)

    @property
    def basis(self) -> str:
        return self.latest.basis

    @property
    def cursor(self) -> str:
        """Where this call stands in the log, for `recent_calls(after=...)`."""
        return str(self.charge.rid)


def recent_calls(
    workspace: Workspace,
    *,
    limit: int = 50,
    after: UUID | None = None,
    filters: Filters = NO_FILTERS,
    failed: bool | None = None,
    days: Days | None = None,
) -> list[LoggedCall]:
    """The call log, newest first. `after`: the cursor of the last call of the page before."""
    inside(workspace)
    rows: QuerySet[Entry] = Entry.objects.filter(workspace_id=workspace.pk, leg=0, call_id__isnull=False)
    rows = _in_sight(workspace, rows)
    if days is not None:
        first, end = moments(workspace, days)
        rows = rows.filter(at__gte=first, at__lt=end)
    for name, value in narrowed(filters).items():
        check_dimension(name)
        rows = rows.filter(**{lookup(f"tags__{name.removeprefix(TAG)}" if name.startswith(TAG) else name): value})
    if failed is not None:
        rows = rows.filter(failed=failed)
    if after is not None:
        try:
            at = datetime.fromtimestamp(made_at_ms(after) / 1000, UTC)
        except ValueError:
            raise CannotAnswer("not a cursor of the call log") from None
        rows = rows.filter(Q(at__lt=at) | Q(at=at, rid__lt=after))
        rows = rows.filter(at__lte=at)  # says the same to the planner, which then reads the index from there
    found = _with_corrections(workspace, rows.order_by("-at", "-rid")[:limit])
    return sorted(found, key=lambda call: (call.charge.at, call.charge.rid), reverse=True)


def attempts_of(workspace: Workspace, call_id: UUID) -> list[LoggedCall]:
    """All attempts of one call, first one first; none when there is no such call here."""
    inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(call_id) / 1000, UTC)
    except ValueError:
        return []
    # A call's attempts are admitted soon after its id is made: the index finds them without one on call_id.
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__range=window, call_id=call_id, leg=0, **_narrow())
    found = _with_corrections(workspace, _in_sight(workspace, rows))
    return sorted(found, key=lambda call: (call.charge.attempt, call.charge.at))


def shown_since(workspace: Workspace) -> datetime | None:
    """The moment before which single calls are not shown any more, where the workspace has set one."""
    days = workspace.calls_shown_days
    return None if days is None else datetime.now(UTC) - timedelta(days=days)


def _in_sight(workspace: Workspace, rows: QuerySet[Entry]) -> QuerySet[Entry]:
    since = shown_since(workspace)
    return rows if since is None else rows.filter(at__gte=since)


def _narrow() -> dict[str, str]:
    return {lookup(name): value for name, value in narrowed(NO_FILTERS).items()}


def _with_corrections(workspace: Workspace, charges: QuerySet[Entry]) -> list[LoggedCall]:
    """The charges, in any order, with their corrections: one statement. (`raw()` knows no composite keys.)"""
    query, params = charges.select_related(None).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH charges AS MATERIALIZED ({query}), lines AS (SELECT {_of('charges', Entry)} FROM charges UNION ALL "  # noqa: S608 - names of ours
            f"SELECT {_of('e', Entry)} FROM charges AS c "
            "JOIN billing_entry AS e ON e.workspace_id = %s AND e.at = c.at AND e.rid = c.rid AND e.leg > 0) "
            f"SELECT {_of('lines', Entry)}, {_of('caller', Caller)}, {_of('shape', Pattern)}, {_of('plan', Pattern)}, {_KEY_NAME} "
            "FROM lines JOIN billing_caller AS caller ON caller.id = lines.caller_id "
            "LEFT JOIN billing_pattern AS shape ON shape.id = lines.shape_id LEFT JOIN billing_pattern AS plan ON plan.id = lines.plan_id",
            [*params, workspace.pk],
        )
        rows = cursor.fetchall()
    found: list[tuple[Entry, str | None]] = [(_entry(row), row[-1]) for row in rows]
    corrections: dict[UUID, list[Entry]] = {}
    for line in sorted((line for line, _ in found if line.leg > 0), key=lambda line: line.leg):
        corrections.setdefault(line.rid, []).append(line)
    return [
        LoggedCall(line, tuple(corrections.get(line.rid, ())), key_name) for line, key_name in found if line.leg == 0
    ]


def _of(source: str, table: type[Model]) -> str:
    return ", ".join(f'{source}."{field.column}"' for field in table._meta.concrete_fields)


_KEY_NAME: Final = """(
    SELECT k.name FROM public.workspaces_virtualkey AS k WHERE k.workspace_id = lines.workspace_id
    AND k.id = CASE WHEN caller.virtual_key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN caller.virtual_key::uuid END
)"""
_NO_EXPRESSION: Any = None
"""A field read as it stands."""


def _entry(row: Sequence[Any]) -> Entry:
    entry, place = _made(Entry, row, 0)
    entry.caller, place = _made(Caller, row, place)
    shape, place = _made(Pattern, row, place)
    plan, place = _made(Pattern, row, place)
    entry.shape = shape if entry.shape_id else None
    entry.plan = plan if entry.plan_id else None
    return entry


Kept = TypeVar("Kept", Entry, Caller, Pattern)


def _made(table: type[Kept], row: Sequence[Any], place: int) -> tuple[Kept, int]:
    fields = table._meta.concrete_fields
    values = [
        field.from_db_value(value, _NO_EXPRESSION, connection) if isinstance(field, JSONField) else value
        for field, value in zip(fields, row[place : place + len(fields)], strict=True)
    ]
    return table.from_db(connection.alias, [field.attname for field in fields], values), place + len(fields)


def call_of(workspace: Workspace, given: UUID) -> UUID | None:
    """The call that an id names: its own, or one of its attempts'. None where the books have neither."""
    inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(given) / 1000, UTC)
    except ValueError:
        return None
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__range=window, leg=0, **_narrow())
    return _in_sight(workspace, rows).filter(Q(call_id=given) | Q(rid=given)).values_list("call_id", flat=True).first()


def dimensions_with(workspace: Workspace, value: str, today: date) -> list[str]:
    """The dimensions that calls of the last five years had this value in, as the months' rollup knows (users and sessions: of the last 400 days)."""
    inside(workspace)
    names = [str(name) for name in Dimension if name not in NO_MONTHS]
    # Months and days are named one by one: each is then one look at the index, where a range would be read through.
    months = sorted({day.replace(day=1) for day in (today - timedelta(days=15 * back) for back in range(-1, 122))})
    rows = RollupMonth.objects.filter(workspace_id=workspace.pk, dimension__in=names, month__in=months, value=value)
    found = set(rows.values_list("dimension", flat=True))
    if not found:
        since = today - timedelta(days=LISTED_DAYS)
        found = {str(name) for name in NO_MONTHS if kept.has(workspace.pk, name, value, since)}
    if narrowing.department() is not None:
        days_back = Days(today - timedelta(days=LISTED_DAYS), today)
        found = {name for name in found if sums.grouped(workspace, days_back, (name,), only=[(value,)])}
    return [name for name in _SEARCHED if name in found]


_SEARCHED: Final = (
    "customer", "feature", "agent", "model", "user", "session", "member", "department", "virtual_key", "environment", "provider",
)  # fmt: skip
"""Where a word that fits several dimensions is meant first."""


def open_attempts(workspace: Workspace) -> int:
    """Calls that are held and not ended, as far as the books know."""
    inside(workspace)
    if narrowing.department() is not None:
        raise CannotAnswer("Open attempts are known of the whole workspace only.")
    return OpenAttempt.objects.filter(workspace_id=workspace.pk).count()

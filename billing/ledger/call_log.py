"""Single calls: the log, newest first, and one call's attempts with their corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import JSONField, Q, QuerySet

from billing.domain.dimensions import Dimension
from billing.ledger import sums
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
from billing.ledger.ranking import LISTED_DAYS, days_between
from billing.ledger.rollups import NO_MONTHS
from billing.models import Entry, OpenAttempt, RollupDay, RollupMonth
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
        rows = rows.filter(**{f"tags__{name.removeprefix(TAG)}" if name.startswith(TAG) else name: value})
    if failed is not None:
        broken = Q(http_status__gte=400) | ~Q(error="")
        rows = rows.filter(broken if failed else ~broken)
    if after is not None:
        try:
            at = datetime.fromtimestamp(made_at_ms(after) / 1000, UTC)
        except ValueError:
            raise CannotAnswer("not a cursor of the call log") from None
        rows = rows.filter(Q(at__lt=at) | Q(at=at, rid__lt=after))
        rows = rows.filter(at__lte=at)  # says the same to the planner, which then reads the index from there
    return _with_corrections(workspace, rows.order_by("-at", "-rid")[:limit])


def attempts_of(workspace: Workspace, call_id: UUID) -> list[LoggedCall]:
    """All attempts of one call, first one first; none when there is no such call here."""
    inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(call_id) / 1000, UTC)
    except ValueError:
        return []
    # A call's attempts are admitted soon after its id is made: the index finds them without one on call_id.
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(
        workspace_id=workspace.pk, at__range=window, call_id=call_id, leg=0, **narrowed(NO_FILTERS)
    )
    return _with_corrections(workspace, _in_sight(workspace, rows).order_by("attempt", "at"))


def shown_since(workspace: Workspace) -> datetime | None:
    """The moment before which single calls are not shown any more, where the workspace has set one."""
    days = workspace.calls_shown_days
    return None if days is None else datetime.now(UTC) - timedelta(days=days)


def _in_sight(workspace: Workspace, rows: QuerySet[Entry]) -> QuerySet[Entry]:
    since = shown_since(workspace)
    return rows if since is None else rows.filter(at__gte=since)


_FIELDS: Final = Entry._meta.concrete_fields


_NO_EXPRESSION: Any = None
"""A field read as it stands."""


def _with_corrections(workspace: Workspace, charges: QuerySet[Entry]) -> list[LoggedCall]:
    """The charges, in their order, with their corrections: one statement. (`raw()` knows no composite keys.)"""
    query, params = charges.query.sql_with_params()
    names = [f'"{field.column}"' for field in _FIELDS]
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH charges AS MATERIALIZED ({query}) SELECT {', '.join(names)}, {_KEY_NAME} FROM charges UNION ALL "  # noqa: S608 - names of ours
            f"SELECT {', '.join(f'e.{name}' for name in names)}, NULL FROM charges AS c "
            "JOIN billing_entry AS e ON e.workspace_id = %s AND e.at = c.at AND e.rid = c.rid AND e.leg > 0",
            [*params, workspace.pk],
        )
        rows = cursor.fetchall()
    lines = [_entry(row[:-1]) for row in rows]
    key_names = {line.rid: row[-1] for line, row in zip(lines, rows, strict=True) if line.leg == 0}
    corrections: dict[UUID, list[Entry]] = {}
    for line in sorted((line for line in lines if line.leg > 0), key=lambda line: line.leg):
        corrections.setdefault(line.rid, []).append(line)
    return [
        LoggedCall(line, tuple(corrections.get(line.rid, ())), key_names[line.rid]) for line in lines if line.leg == 0
    ]


_KEY_NAME: Final = """(
    SELECT k.name FROM public.workspaces_virtualkey AS k WHERE k.workspace_id = charges.workspace_id
    AND k.id = CASE WHEN charges.virtual_key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN charges.virtual_key::uuid END
)"""


def _entry(row: Sequence[Any]) -> Entry:
    values = [
        field.from_db_value(value, _NO_EXPRESSION, connection) if isinstance(field, JSONField) else value
        for field, value in zip(_FIELDS, row, strict=True)
    ]
    return Entry.from_db(connection.alias, [field.attname for field in _FIELDS], values)


def call_of(workspace: Workspace, given: UUID) -> UUID | None:
    """The call that an id names: its own, or one of its attempts'. None where the books have neither."""
    inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(given) / 1000, UTC)
    except ValueError:
        return None
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__range=window, leg=0, **narrowed(NO_FILTERS))
    return _in_sight(workspace, rows).filter(Q(call_id=given) | Q(rid=given)).values_list("call_id", flat=True).first()


def dimensions_with(workspace: Workspace, value: str, today: date) -> list[str]:
    """The dimensions that calls of the last five years had this value in, as the months' rollup knows (sessions: of the last 400 days)."""
    inside(workspace)
    names = [str(name) for name in Dimension if name not in NO_MONTHS]
    # Months and days are named one by one: each is then one look at the index, where a range would be read through.
    months = sorted({day.replace(day=1) for day in (today - timedelta(days=15 * back) for back in range(-1, 122))})
    rows = RollupMonth.objects.filter(workspace_id=workspace.pk, dimension__in=names, month__in=months, value=value)
    found = set(rows.values_list("dimension", flat=True))
    if not found:
        days = days_between(today - timedelta(days=LISTED_DAYS), today + timedelta(days=1))
        kept = RollupDay.objects.filter(
            workspace_id=workspace.pk, dimension__in=list(NO_MONTHS), day__in=days, value=value
        )
        found = set(kept.values_list("dimension", flat=True)[:1])
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

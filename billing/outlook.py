"""Where a workspace's spend is heading: the books' daily sums handed to `billing.domain.forecast`."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, time, timedelta

from billing.domain.forecast import WINDOW_DAYS, Forecast, forecast
from billing.ledger import queries
from billing.ledger.queries import NO_FILTERS, Days, Filters, Granularity
from billing.ledger.rollups import zone
from workspaces.models import Workspace


def of_month(workspace: Workspace, now: datetime, filters: Filters = NO_FILTERS) -> Forecast:
    """The running calendar month of the entered workspace, whole or of what passes the filters."""
    today = queries.today(workspace, now)
    last = today.replace(day=monthrange(today.year, today.month)[1])
    return of(workspace, now, Days(today.replace(day=1), last), filters)


def of(workspace: Workspace, now: datetime, days: Days, filters: Filters = NO_FILTERS) -> Forecast:
    """Any run of the entered workspace's days that today is in. Raises ValueError when it is not."""
    today = queries.today(workspace, now)
    known = Days(min(days.first, today - timedelta(days=WINDOW_DAYS)), today)
    points = queries.series(workspace, known, Granularity.DAY, filters=filters)
    daily = {point.start: point.totals.cost_nano for point in points}
    return forecast(daily, first=days.first, last=days.last, today=today, elapsed=elapsed(workspace, now))


def elapsed(workspace: Workspace, now: datetime) -> float:
    """How much of the workspace's day is over, 0 to 1."""
    clock = zone(workspace.time_zone)
    today = now.astimezone(clock).date()
    starts, ends = (datetime.combine(day, time(), clock).timestamp() for day in (today, today + timedelta(days=1)))
    return (now.timestamp() - starts) / (ends - starts)

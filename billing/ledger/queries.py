"""Reading the books: sums from rollups, calls from the ledger, and how far the books lag behind the gate.

Every function is called inside the workspace (`tenancy.entered`) and says so if it is not: row-level security would answer with
silent zeros. Days, weeks and months are those of the workspace's own clock. This module is the door; the rooms behind it hold one decision each.
"""

from billing.ledger.asking import (
    NO_FILTERS,
    TAG,
    CannotAnswer,
    Days,
    Filters,
    Granularity,
    Point,
    Row,
    Totals,
    check_dimension,
    inside,
    moments,
    month_to_date,
    today,
)
from billing.ledger.call_log import (
    LoggedCall,
    attempts_of,
    call_of,
    dimensions_with,
    open_attempts,
    recent_calls,
    shown_since,
)
from billing.ledger.movers import Mover, movers
from billing.ledger.sums import (
    MOST_DAYS_BY_HOUR,
    RANKS,
    answered,
    by_value,
    days_and_hours_so_far,
    grouped,
    known_tags,
    ranked,
    series,
    totals,
)
from billing.ledger.trust import Trust, lag_s, trust

__all__ = [
    "MOST_DAYS_BY_HOUR",
    "NO_FILTERS",
    "RANKS",
    "TAG",
    "CannotAnswer",
    "Days",
    "Filters",
    "Granularity",
    "LoggedCall",
    "Mover",
    "Point",
    "Row",
    "Totals",
    "Trust",
    "answered",
    "attempts_of",
    "by_value",
    "call_of",
    "check_dimension",
    "days_and_hours_so_far",
    "dimensions_with",
    "grouped",
    "inside",
    "known_tags",
    "lag_s",
    "moments",
    "month_to_date",
    "movers",
    "open_attempts",
    "ranked",
    "recent_calls",
    "series",
    "shown_since",
    "today",
    "totals",
    "trust",
]

"""Usage that providers state and nobody has taught us, once a day: `guardrails.signals` tells it to the workspace's owners.

The line itself carries the flag `schema_drift:<key path>`, and is PARTIAL where the key may be a line of the bill (`billing.domain.extraction`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, Final

from billing.ledger.copying import clean
from billing.ledger.lines import Line, uuid_or_none

FLAG: Final = "schema_drift:"
MOST_A_DAY: Final = 50
"""Of a workspace, about: keys come from providers, and an endless number of new ones says no more than fifty."""
_News = tuple[int, date, str, str, str]
"""(workspace, day, provider, model, key path)"""

_RECORD: Final = """
INSERT INTO billing_unknown_usage (workspace_id, day, provider, model, path, at, call_id, price_status)
SELECT n.workspace_id, n.day, n.provider, n.model, n.path, n.at, n.call_id, n.price_status
FROM unnest(%s::bigint[], %s::date[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::uuid[], %s::text[])
    AS n (workspace_id, day, provider, model, path, at, call_id, price_status)
WHERE (SELECT count(*) FROM billing_unknown_usage u WHERE u.workspace_id = n.workspace_id AND u.day = n.day) < %s
ON CONFLICT DO NOTHING
"""


def record(cursor: Any, lines: Iterable[Line]) -> None:
    """Write down what of these new lines is new today, in the writer's transaction: as lasting as the lines."""
    first: dict[_News, Line] = {}
    counts: Counter[int] = Counter()
    for line in lines:
        for flag in line.outcome.flags if line.outcome else ():
            if flag.startswith(FLAG) and counts[line.workspace_id] < MOST_A_DAY:
                news = _news(line, flag)
                counts[line.workspace_id] += news not in first
                first.setdefault(news, line)
    if first:
        rows = [
            (*news, datetime.fromtimestamp(line.at_ms / 1000, UTC), uuid_or_none(line.context.call), line.price_status)
            for news, line in sorted(first.items(), key=lambda pair: pair[0])
        ]
        cursor.execute(_RECORD, [*(list(column) for column in zip(*rows, strict=True)), MOST_A_DAY])


def _news(line: Line, flag: str) -> _News:
    context, day = line.context, datetime.fromtimestamp(line.at_ms / 1000, UTC).date()
    path = flag.removeprefix(FLAG)
    return line.workspace_id, day, clean(context.provider, 128), clean(context.model, 128), clean(path, 64)

"""A question's table as CSV, line by line: all its groups, ranked as on the page, with every measure. Names cannot run as formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from billing.domain.money import usd_text
from billing.ledger import queries
from billing.ledger.queries import Totals
from billing.views.naming import Names
from billing.views.question import Question, title_of
from workspaces.domain.names import cell
from workspaces.models import Workspace

MOST_GROUPS: Final = 100_000
PIECE: Final = 500
PIECE_OF_PAIRS: Final = 5_000
"""Two dimensions read the daily combinations whole for each piece: fewer, larger ones."""
_MEASURES: Final = (
    "Calls", "Attempts", "Failed", "Cost (USD)", "Unconfirmed (USD)", "Input tokens", "Cached input tokens", "Cache write tokens",
    "Output tokens", "Mean latency (ms)", "Mean time to first byte (ms)",
)  # fmt: skip


def lines(workspace: Workspace, asked: Question, groups: Sequence[tuple[str, ...]], names: Names) -> Iterator[str]:
    """Header, groups, what is in no group, and the total."""
    titles = [cell(title_of(name)) for name in asked.dimensions]
    yield _line(["From", "To", *titles, *_MEASURES, *(["Cost before (USD)"] if asked.compares else [])])
    shown = Totals()
    piece = PIECE if len(asked.dimensions) == 1 and not asked.filters else PIECE_OF_PAIRS
    for start in range(0, len(groups), piece):
        some = groups[start : start + piece]
        before = {}
        if asked.compares:
            earlier = queries.grouped(workspace, asked.before, asked.dimensions, filters=asked.filters, only=some)
            before = {row.values: row.totals for row in earlier}
        rows = queries.grouped(workspace, asked.days, asked.dimensions, filters=asked.filters, only=some)
        for place, name in enumerate(asked.dimensions):
            names.learn(name, {row.values[place] for row in rows})
        text = []
        for row in rows:
            shown += row.totals
            named = [names.of(name, value) for name, value in zip(asked.dimensions, row.values, strict=True)]
            text.append(_row(asked, named, row.totals, before.get(row.values, Totals())))
        yield "".join(text)
    whole = queries.totals(workspace, asked.days, asked.filters)
    blank = [""] * (len(asked.dimensions) - 1)
    if (whole - shown).attempts or (whole - shown).cost_nano:
        yield _row(asked, ["(not in any group above)", *blank], whole - shown, None)
    yield _row(asked, ["(total)", *blank], whole, queries.totals(workspace, asked.before, asked.filters))


def _row(asked: Question, named: Sequence[str], totals: Totals, before: Totals | None) -> str:
    cells: list[Any] = [
        asked.days.first, asked.days.last, *(cell(name) for name in named), totals.calls, totals.attempts, totals.errors,
        usd_text(totals.cost_nano), usd_text(totals.assumed_nano), totals.input_tokens, totals.cache_read_tokens,
        totals.cache_write_tokens, totals.output_tokens, _or_blank(totals.mean_duration_ms), _or_blank(totals.mean_first_byte_ms),
    ]  # fmt: skip
    if asked.compares:
        cells.append("" if before is None else usd_text(before.cost_nano))
    return _line(cells)


def _or_blank(value: int | None) -> int | str:
    return "" if value is None else value


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()

"""A chart as SVG, its table twin and the explorer's rows as HTML. In Python and not in a template, because a page has a thousand small parts of it.

Everything that comes from elsewhere is escaped here: names, titles, tips and addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from billing.views import amounts


def columns(columns: Sequence[Mapping[str, Any]], base: int) -> SafeString:
    """The bars of each place in time, under what is pointed at or followed."""
    return _safe("".join(_column(column, base) for column in columns))


def _column(column: Mapping[str, Any], base: int) -> str:
    said = f'class="plot-column" data-title="{escape(column["title"])}" data-tip="{escape(column["tip"])}"'
    hit = f'<rect class="plot-hit" x="{column["x"]}" y="0" width="{column["width"]}" height="{base}"></rect>'
    place = f'x="{column["bar_x"]}" width="{column["bar_width"]}"'
    bars = "".join(
        f'<rect class="tone-{bar["tone"]}" {place} y="{bar["y"]}" height="{bar["height"]}"></rect>'
        for bar in column["bars"]
    )
    if column["url"]:
        return f'<a {said} href="{escape(column["url"])}" tabindex="-1">{hit}{bars}</a>'
    return f"<g {said}>{hit}{bars}</g>"


def lines(lines: Sequence[Mapping[str, Any]]) -> SafeString:
    return _safe("".join(_line(line) for line in lines))


def _line(line: Mapping[str, Any]) -> str:
    segments = "".join(
        f'<line x1="{one["x1"]}" y1="{one["y1"]}" x2="{one["x2"]}" y2="{one["y2"]}"></line>' for one in line["segments"]
    )
    dots = "".join(f'<circle cx="{dot["x"]}" cy="{dot["y"]}" r="2.5"></circle>' for dot in line.get("dots", ()))
    return f'<g class="plot-line tone-{line["tone"]}">{segments}{dots}</g>'


def twin_rows(rows: Sequence[Mapping[str, Any]]) -> SafeString:
    """The rows of the table beside a chart."""
    return _safe("".join(_twin_row(row) for row in rows))


def _twin_row(row: Mapping[str, Any]) -> str:
    title = escape(row["title"])
    if row["url"]:
        title = _safe(f'<a class="row-link" href="{escape(row["url"])}">{title}</a>')
    values = "".join(f'<td class="num">{escape(value)}</td>' for value in row["values"])
    return f'<tr><th scope="row" class="nowrap">{title}</th>{values}</tr>'


# --- The explorer's table ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Shown:
    """Which columns the table has."""

    adds_up: bool
    compares: bool
    is_cost: bool


_NO_CALLS: Final = '<span class="quiet" title="Only further attempts of calls that began elsewhere: each call is counted once.">–</span>'


def group_rows(rows: Sequence[Mapping[str, Any]], shown: Shown, calls_icon: SafeString) -> SafeString:
    return _safe("".join(_group_row(row, shown, calls_icon) for row in rows))


def _group_row(row: Mapping[str, Any], shown: Shown, calls_icon: SafeString) -> str:
    first, *others = (_cell(cell) for cell in row["cells"])
    swatch = f'<span class="swatch tone-{row["tone"]}" aria-hidden="true"></span>'
    parts = [
        '<tr class="is-rest">' if row.get("is_rest") else "<tr>",
        f'<th scope="row"><span class="d-inline-flex align-items-center gap-2">{swatch}{first}</span></th>',
        *(f"<td>{other}</td>" for other in others),
    ]
    title = f' title="{amounts.exact(row["exact_nano"])}"'
    parts.append(f'<td class="num strong"{title if shown.is_cost else ""}>{escape(row["value"])}</td>')
    if shown.adds_up:
        share = f'<span class="share-cell">{escape(row["share_text"])}{bar(row["share"], 10_000)}</span>'
        parts.append(f'<td class="num wide-only">{share}</td>')
    if shown.compares:
        changed = '<span class="quiet">–</span>'
        if row["change"]:
            changed = (
                f'<span class="wide-only quiet small">{escape(row["change"]["text"])}</span> {change(row["change"])}'
            )
        room = " wide-only" if others else ""  # a phone has no room for it beside two dimensions
        parts.append(
            f'<td class="num wide-only quiet">{escape(row["before"])}</td><td class="num{room}">{changed}</td>'
        )
    if not shown.is_cost:
        parts.append(f'<td class="num wide-only"{title}>{escape(amounts.show(row["cost_nano"]))}</td>')
    calls = f"{row['calls']:,}" if row["calls"] or not row["cost_nano"] else _NO_CALLS
    parts.append(f'<td class="num wide-only">{calls}</td><td class="actions">')
    if row["calls_url"]:
        label = f'title="Its calls" aria-label="Calls of {escape(row["cells"][0]["name"])}"'
        parts.append(
            f'<a class="btn btn-bare btn-sm btn-icon" href="{escape(row["calls_url"])}" {label}>{calls_icon}</a>'
        )
    parts.append("</td></tr>")
    return "".join(parts)


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["url"]:
        return f'<a class="row-link inert" href="{escape(cell["url"])}">{escape(cell["name"])}</a>'
    return f'<span class="quiet">{escape(cell["name"])}</span>'


def bar(part: int, whole: int, held: int = 0, tone: str = "", label: str = "", *, large: bool = False) -> SafeString:
    filled = min(100.0, 100 * part / whole) if whole > 0 else 0.0
    waiting = min(100.0 - filled, 100 * held / whole) if whole > 0 else 0.0
    kind = f"bar{f' is-{escape(tone)}' if tone else ''}{' bar-lg' if large else ''}"
    said = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    second = (
        f'<rect class="held" x="{filled:.2f}%" y="0" width="{waiting:.2f}%" height="100%"></rect>'
        if waiting > 0
        else ""
    )
    return _safe(
        f'<svg class="{kind}" {said} preserveAspectRatio="none"><rect x="0" y="0" width="{filled:.2f}%" height="100%"></rect>'
        f"{second}</svg>"
    )


def change(changed: Mapping[str, Any] | None) -> SafeString:
    if not changed or not changed["percent"]:
        return _safe("")
    before = escape(amounts.show(changed["before_nano"]))
    said = f'class="change {escape(changed["tone"])}" title="{escape(changed["text"])}, from {before}"'
    arrow = changed["arrow"]
    sign = (
        f'<span aria-hidden="true">{"↑" if arrow == "up" else "↓"}</span>'
        f'<span class="visually-hidden">{escape(arrow)}</span>'
        if arrow
        else ""
    )
    return _safe(f"<span {said}>{sign}{escape(changed['percent'])}</span>")


def _safe(made: str) -> SafeString:
    return mark_safe(made)  # noqa: S308 - every text in it went through escape

"""A chart as SVG and its table twin as HTML. In Python and not in a template, because there are a thousand small parts of it on a page.

Everything that comes from elsewhere is escaped here: names, titles, tips and addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe


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


def _safe(made: str) -> SafeString:
    return mark_safe(made)  # noqa: S308 - every text in it went through escape

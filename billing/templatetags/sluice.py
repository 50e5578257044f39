"""How values look: money, counts, times, icons, form fields, bars. Pure presentation; nothing here queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.conf import settings
from django.forms import BoundField, CheckboxInput, Select
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.domain import money
from billing.views import amounts, drawing
from billing.views.charts import Chart

register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    """Nano-dollars as a person reads them; a dash where there is nothing."""
    return "–" if nano is None else amounts.show(nano)


@register.filter
def usd_round(nano: int | None) -> str:
    """Nano-dollars without cents where there are hundreds of dollars: for the ends of an interval, which are no exact numbers."""
    return "–" if nano is None else amounts.shown(nano, _rounded)


def _rounded(nano: int) -> str:
    return money.show_usd(nano) if abs(nano) < 100 * money.NANO_PER_USD else f"${round(nano / money.NANO_PER_USD):,}"


@register.filter
def usd_exact(nano: int | None) -> str:
    """Nano-dollars to the last digit, for titles and price lines."""
    return "" if nano is None else amounts.exact(nano)


@register.filter
def usd_plain(nano: int | None) -> str:
    """Nano-dollars as a bare decimal, for charts and inputs."""
    return "" if nano is None else money.usd_text(nano)


@register.filter
def count(number: int | None) -> str:
    """12345 -> "12,345"."""
    return "–" if number is None else f"{number:,}"


@register.filter
def count_short(number: int | None) -> str:
    """1234567 -> "1.23M": for figures whose exact value is in the title."""
    if number is None:
        return "–"
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= 10 * size or (number >= size and size > 1_000):
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.3g}{unit}"
    return f"{number:,}"


@register.filter
def milliseconds(value: int | None) -> str:
    """1234 -> "1.23 s", 87 -> "87 ms"; a dash where it was not measured."""
    if value is None or value < 0:
        return "–"
    return f"{value} ms" if value < 1000 else f"{value / 1000:.2f} s"


@register.simple_tag
def when(moment: datetime | None, zone: str = "UTC", style: str = "short") -> SafeString | str:
    """A moment in the workspace's zone, exact (with the zone) on hover. Styles: short, day, long, ago.

    The short ones name a year that is not this one.
    """
    if moment is None:
        return "–"
    local = moment.astimezone(ZoneInfo(zone or "UTC"))
    exact = f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    day = f"{local.day} {local:%b}" + ("" if local.year == datetime.now(UTC).year else f" {local.year}")
    shown = exact if style == "long" else day if style == "day" else f"{day} {local:%H:%M}"
    live = SafeString(" data-ago") if style == "ago" else ""
    return format_html('<time datetime="{}" title="{}"{}>{}</time>', moment.isoformat(), exact, live, shown)


@register.simple_tag
@cache
def icon(name: str, kind: str = "") -> SafeString:
    """One icon of the sprite; decorative, hence hidden from screen readers."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        kind,
        static("vendor/tabler/icons.svg"),
        name,
    )


# Tags that stand in every row of a table are made here: an included template costs ten times as much. -----------------
@register.simple_tag
def bar(part: int, whole: int, held: int = 0, tone: str = "", label: str = "", large: bool = False) -> SafeString:
    """A bar of `part` (and `held` beside it) of `whole`. SVG attributes, because the CSP allows no inline style."""
    return drawing.bar(part, whole, held, tone, label, large=large)


@register.simple_tag
def change(changed: Mapping[str, Any] | None) -> SafeString | str:
    """How much more or less than before (`spend.change`): the percentage, an arrow, the amount on hover."""
    return drawing.change(changed)


@register.simple_tag
def group_rows(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]) -> SafeString:
    """The explorer's rows, of `spend.rows`."""
    shown = drawing.Shown(adds_up=asked["adds_up"], compares=asked["compares"], is_cost=asked["is_cost"])
    return drawing.group_rows(rows, shown, icon("list-details", "icon-sm"))


@register.filter
def plot_columns(chart: Chart) -> SafeString:
    return drawing.columns(chart.columns, chart.base)


@register.filter
def plot_lines(chart: Chart) -> SafeString:
    return drawing.lines(chart.lines)


@register.filter
def twin_rows(chart: Chart) -> SafeString:
    return drawing.twin_rows(chart.twin["rows"])


@register.inclusion_tag("parts/field.html")
def field(
    bound: BoundField, label: str = "", prefix: str = "", help_text: str = "", mark: bool = True, **attributes: str
) -> dict[str, Any]:
    """A form field with its label, help and errors beside it. Other attributes go to the control (`data_x` becomes `data-x`).

    `mark=False` leaves out the word "Optional", for fields that the page requires in another way.
    """
    widget = bound.field.widget
    control = "form-select" if isinstance(widget, Select) else "form-control"
    attrs: dict[str, Any] = {name.replace("_", "-"): value for name, value in attributes.items()}
    extra = f" {attrs.pop('class')}" if "class" in attrs else ""
    described = []
    if bound.errors:
        control += " is-invalid"
        attrs["aria-invalid"] = "true"
        described.append(f"{bound.id_for_label}_error")
    shown_help = help_text or bound.help_text
    if shown_help:
        described.append(f"{bound.id_for_label}_help")
    if described:
        attrs["aria-describedby"] = " ".join(described)
    is_check = isinstance(widget, CheckboxInput)
    attrs["class"] = "form-check-input" if is_check else control + extra
    return {
        "bound": bound,
        "control": bound.as_widget(attrs=attrs),
        "label": label or bound.label,
        "prefix": prefix,
        "help": shown_help,
        "is_check": is_check,
        "optional": mark and not bound.field.required and not is_check,
    }


@register.simple_tag
def inbox_url() -> str:
    """The development inbox, where there is one."""
    return str(settings.INBOX_URL)


@register.filter
def initial(text: str) -> str:
    """The letter on a tile."""
    return text.strip()[:1] or "?"

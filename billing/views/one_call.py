"""One call's page: when what happened, what it used, how each cent came about, which budgets it moved, and how sure all that is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from billing.domain import keys, money
from billing.domain.dimensions import Dimension
from billing.domain.events import Basis
from billing.ledger import queries
from billing.ledger.queries import LoggedCall
from billing.models import BudgetLine, Entry, EntryState
from billing.views import calls as call_views
from billing.views.naming import Names
from billing.views.question import title_of
from workspaces import narrowing
from workspaces.domain.names import plain
from workspaces.errors import NotThere
from workspaces.roles import Action
from workspaces.views import reads as workspace_reads
from workspaces.views.frame import page, url, workspace_of, workspace_page

BASIS: Final = {
    Basis.MEASURED: ("measured", "The provider said what was used; priced line by line."),
    Basis.COUNTED: ("counted", "The provider did not say what was used, so we counted it from what passed through."),
    Basis.ASSUMED: (
        "unconfirmed, at most",
        "Nobody could say what was used, so the worst case that was held is charged until it is known.",
    ),
}
_PRICE_HELP: Final = {
    "exact": "Every unit has a rate in the price book, and the provider said how many there were.",
    "estimated": "Something was counted by us, or a rate had to be assumed.",
    "partial": "Some part of the answer has no rate: the charge is at least this.",
    "unpriced": "Nobody knows a price for this: it is charged as held.",
}
_UNITS: Final = {
    "input_uncached": "Input tokens",
    "cache_read": "Cached input tokens",
    "cache_write": "Cache writes",
    "cache_write_5m": "Cache writes, 5 minutes",
    "cache_write_1h": "Cache writes, 1 hour",
    "output_text": "Output tokens",
    "output_reasoning": "Reasoning tokens",
}
_KINDS: Final = {
    EntryState.ADJUSTED: "The truth arrived after it was charged as held.",
    EntryState.RERATED: "Its price arrived later, or changed.",
}
_SHOWN_DIMENSIONS: Final = (
    Dimension.CUSTOMER, Dimension.FEATURE, Dimension.USER, Dimension.SESSION, Dimension.MEMBER, Dimension.AGENT, Dimension.DEPARTMENT,
    Dimension.ENVIRONMENT,
)  # fmt: skip


@workspace_page(Action.SEE_CALLS, narrows=True)
def call(request: HttpRequest, call_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    attempts = queries.attempts_of(workspace, call_id)
    if not attempts:
        raise NotThere("There is no such call in this workspace.")
    last = attempts[-1]
    names = Names(request)
    names.learn(Dimension.VIRTUAL_KEY, {one.charge.virtual_key for one in attempts})
    budgets = _budget_names(workspace.pk, attempts)
    context = {
        "call": call_views.listed(request, attempts, names.keys)[0]
        | {
            "call_id": str(call_id),
            "hold_nano": sum(attempt.charge.hold_nano for attempt in attempts),
            "first_byte_ms": last.told.first_byte_ms,
            "overhead_ms": _milliseconds(last.told.overhead_us),
            "basis_said": BASIS[Basis(last.basis)][0],
            "basis_help": BASIS[Basis(last.basis)][1],
        },
        "attempts": [_attempt(attempt, budgets) for attempt in attempts],
        "timeline": _timeline(attempts),
        "dimensions": _dimensions(request, last.charge, names),
        "facts": _facts(last, names),
        "calls_url": url(request, "calls"),
    }
    return page(request, "billing/call.html", "calls", context)


# --- When ---------------------------------------------------------------------------------------------------------------
def _timeline(attempts: list[LoggedCall]) -> dict[str, Any]:
    """Each attempt from its admission to its end, drawn to one scale; parts in percent of the whole call."""
    began = attempts[0].charge.at
    rows = []
    whole_ms = 1.0
    for one in attempts:
        start_ms = (one.charge.at - began).total_seconds() * 1000
        overhead_ms = max(0, one.told.overhead_us or 0) / 1000
        duration_ms = one.told.duration_ms or 0
        rows.append((one, start_ms, overhead_ms, one.told.first_byte_ms, duration_ms))
        whole_ms = max(whole_ms, start_ms + overhead_ms + duration_ms)

    def share(milliseconds: float) -> str:
        return f"{100 * min(milliseconds, whole_ms) / whole_ms:.3f}%"

    shown = []
    for one, start_ms, overhead_ms, first_byte_ms, duration_ms in rows:
        sent_ms = start_ms + overhead_ms
        waited_ms = min(first_byte_ms, duration_ms) if first_byte_ms is not None else duration_ms
        events = [
            {"at": one.charge.at, "said": "Admitted: its worst case was held on every budget", "after": _ms(start_ms)}
        ]
        if duration_ms:
            sent_to = workspace_reads.title_of(one.charge.provider)
            events.append({"at": None, "said": f"Sent to {sent_to}", "after": _ms(sent_ms)})
            if first_byte_ms is not None:
                events.append({"at": None, "said": "First byte of the answer", "after": _ms(sent_ms + first_byte_ms)})
            events.append({"at": None, "said": _end_said(one), "after": _ms(sent_ms + duration_ms)})
        if one.charge.state == EntryState.EXPIRED:
            said = "Nobody had come back by the deadline: charged at the hold"
            events.append({"at": one.charge.ended_at, "said": said, "after": ""})
        elif not duration_ms:
            events.append({"at": one.charge.ended_at, "said": _end_said(one), "after": ""})
        events += [
            {
                "at": line.ended_at,
                "said": "Corrected by the truth" if line.leg == 1 else "Corrected by a price",
                "after": "",
            }
            for line in one.corrections
        ]
        shown.append(
            {
                "number": one.charge.attempt,
                "model": plain(one.charge.model),
                "overhead_x": share(start_ms),
                "overhead_width": share(overhead_ms),
                "wait_x": share(sent_ms),
                "wait_width": share(waited_ms),
                "stream_x": share(sent_ms + waited_ms),
                "stream_width": share(max(0, duration_ms - waited_ms)),
                "has_bar": bool(duration_ms),
                "events": events,
            }
        )
    return {"rows": shown, "whole": _ms(whole_ms)}


def _end_said(one: LoggedCall) -> str:
    if one.charge.state == EntryState.EXPIRED:
        return "Done, as was learned later"
    if one.charge.state == EntryState.VOID:
        return "Ended without a charge: the hold was given back"
    return (
        "Connection closed by the application"
        if one.told.error == "client_closed"
        else "Done: the hold became the charge"
    )


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


# --- How much -----------------------------------------------------------------------------------------------------------
def _attempt(one: LoggedCall, budgets: dict[str, str]) -> dict[str, Any]:
    never_charged = one.charge.state == EntryState.VOID and not one.corrections
    told = one.told.unpacked()
    tone, label, said = call_views.state_of(one)
    return {
        "number": one.charge.attempt,
        "model": plain(one.charge.model),
        "provider": workspace_reads.title_of(one.charge.provider),
        "tone": tone,
        "state_label": label,
        "state_help": said,
        "cost_nano": one.cost_nano,
        "hold_nano": one.charge.hold_nano,
        "basis_help": "It was not charged." if never_charged else BASIS[Basis(one.basis)][1],
        "price_status": one.latest.price_status,
        "price_help": _PRICE_HELP.get(one.latest.price_status, ""),
        "lines": [_line(line) for line in (one.latest.unpacked().get("breakdown") or told.get("breakdown", ()))],
        "no_lines": "Nothing was used that has a price." if never_charged else "There are no price lines for this charge.",
        "usage": [
            {"unit": _unit(unit), "quantity": quantity}
            for unit, quantity in {**told.get("usage", {}), **told.get("fees", {})}.items()
        ],
        "ledger": [_ledger_line(line) for line in (one.charge, *one.corrections)],
        "budgets": _touched(one, budgets) if narrowing.department() is None else [],
    }  # fmt: skip


def _ledger_line(line: Entry) -> dict[str, Any]:
    charged = {EntryState.SETTLED: "Charged", EntryState.VOID: "Not charged", EntryState.EXPIRED: "Charged at the hold"}
    return {
        "number": line.leg,
        "title": charged.get(EntryState(line.state), "Correction"),
        "help": _KINDS.get(EntryState(line.state), ""),
        "at": line.ended_at,
        "cost_nano": line.cost_nano,
        "basis": BASIS[Basis(line.basis)][0],
        "price_status": line.price_status,
    }


def _budget_names(workspace_id: int, attempts: list[LoggedCall]) -> dict[str, str]:
    """Budget id -> its name, for those that the call moved; a deleted one has none any more."""
    ids = {
        counter.split(":")[1]
        for one in attempts
        for line in (one.charge, *one.corrections)
        for counter, _, _ in line.counters
        if counter.startswith("b:")
    }
    if not ids:
        return {}
    rows = BudgetLine.objects.filter(workspace_id=workspace_id, budget_id__in=ids)
    return {str(budget_id): plain(name) for budget_id, name in rows.values_list("budget_id", "name")}


def _touched(one: LoggedCall, names: dict[str, str]) -> list[dict[str, Any]]:
    """The counters that the attempt's lines moved, added up over its corrections."""
    moved: dict[str, tuple[str, int]] = {}
    for line in (one.charge, *one.corrections):
        for counter, unit, amount in line.counters:
            _, before = moved.get(counter, (unit, 0))
            moved[counter] = (unit, before + amount)
    rows = []
    for counter, (unit, amount) in moved.items():
        try:
            budget_id, _, digest = keys.budget_of(counter)
        except ValueError:
            continue
        rows.append(
            {
                "name": names.get(str(budget_id), "a budget that was deleted"),
                "is_each": bool(digest),
                "amount": money.show_usd(amount) if unit == "nano" else f"{amount:,} {unit}",
            }
        )
    return rows


def _milliseconds(microseconds: int | None) -> str:
    return "" if microseconds is None or microseconds < 0 else f"{microseconds / 1000:.2f}"


def _unit(unit: str) -> str:
    return _UNITS.get(unit, plain(unit.replace("_", " ").capitalize()))


def _line(line: dict[str, Any]) -> dict[str, str]:
    per_million = line.get("rate_per_m_usd")
    rate = (
        f"${per_million} per million"
        if per_million is not None
        else (f"${line['rate_usd']} each" if "rate_usd" in line else "–")
    )
    quantity = line.get("quantity", 0)
    return {
        "unit": _unit(str(line.get("unit", ""))),
        "quantity": f"{quantity:,}" if isinstance(quantity, int) else str(quantity),
        "rate": rate,
        "cost": _dollars(str(line.get("cost_usd", ""))),
    }


def _dollars(text: str) -> str:
    """A price line's exact decimal, at most to the nano-dollar."""
    try:
        return f"${money.usd_text(int(Decimal(text).scaleb(9).to_integral_value()))}"
    except (ArithmeticError, ValueError):
        return "–"


# --- What for -----------------------------------------------------------------------------------------------------------
def _dimensions(request: HttpRequest, entry: Entry, names: Names) -> list[dict[str, str]]:
    """Each with a link to all calls that share it."""
    where = url(request, "calls")
    found = [(name.value, getattr(entry, name.value)) for name in _SHOWN_DIMENSIONS if getattr(entry, name.value)]
    found += [(f"tag:{name}", str(value)) for name, value in sorted(entry.tags.items())]
    return [
        {"name": title_of(name), "value": names.of(name, value), "url": f"{where}?{call_views.query(**{name: value})}"}
        for name, value in found
    ]


def _facts(one: LoggedCall, names: Names) -> list[dict[str, Any]]:
    entry, line = one.charge, one.told
    rows = [
        ("Virtual key", names.of(Dimension.VIRTUAL_KEY, entry.virtual_key), False),
        ("Provider", workspace_reads.title_of(entry.provider), False),
        ("Model asked for", entry.model_requested or entry.model, True),
        ("Model that answered", line.model_served, True),
        ("Endpoint", entry.endpoint, True),
        ("Streamed", "yes" if entry.streamed else "no", False),
        ("Provider’s status", str(line.http_status) if line.http_status else "", False),
        ("Error", line.error, True),
        ("Provider’s request id", str(line.unpacked().get("provider_request_id", "")), True),
        ("Attempt id", str(entry.rid), True),
        ("Price book", entry.price_version, True),
        ("Flags", ", ".join(str(flag) for flag in line.flags), False),
    ]
    return [{"name": name, "value": plain(value), "mono": mono} for name, value, mono in rows if value]

"""The call log and one call's page: what it used, how each cent came about, and how sure that is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.http import urlencode

from billing.domain import money
from billing.domain.dimensions import Dimension
from billing.domain.events import Basis
from billing.ledger import queries
from billing.ledger.queries import LoggedCall
from billing.models import Entry, EntryState
from workspaces.errors import NotThere
from workspaces.models import Workspace
from workspaces.roles import Action
from workspaces.views import reads as workspace_reads
from workspaces.views.frame import page, url, workspace_of, workspace_page

A_PAGE = 50
_STATES = (("", "Every status"), ("ok", "Succeeded"), ("failed", "Failed"))
_FILTERED = {"model": Dimension.MODEL, "key": Dimension.VIRTUAL_KEY, "customer": Dimension.CUSTOMER}
_BASIS = {
    Basis.MEASURED: ("measured", "The provider said what was used; priced line by line."),
    Basis.COUNTED: ("counted", "The provider did not say what was used, so we counted it from what passed through."),
    Basis.ASSUMED: (
        "unconfirmed, at most",
        "Nobody could say what was used, so the worst case that was held is charged until it is known.",
    ),
}
_UNITS = {
    "input_uncached": "Input tokens",
    "cache_read": "Cached input tokens",
    "cache_write": "Cache writes",
    "cache_write_5m": "Cache writes, 5 minutes",
    "cache_write_1h": "Cache writes, 1 hour",
    "output_text": "Output tokens",
    "output_reasoning": "Reasoning tokens",
}


class Filters(forms.Form):
    model = forms.CharField(
        required=False,
        max_length=128,
        label="Model",
        widget=forms.TextInput(attrs={"class": "form-control", "placeholder": "Model"}),
    )
    key = forms.ChoiceField(required=False, label="Virtual key", widget=forms.Select(attrs={"class": "form-select"}))
    customer = forms.CharField(
        required=False,
        max_length=128,
        label="Customer",
        widget=forms.TextInput(attrs={"class": "form-control", "placeholder": "Customer"}),
    )
    state = forms.ChoiceField(
        required=False, choices=_STATES, label="Status", widget=forms.Select(attrs={"class": "form-select"})
    )

    def __init__(self, *arguments: Any, keys: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["key"].choices = [("", "Every key"), *keys]  # type: ignore[attr-defined]


def query(**filters: str) -> str:
    """The query string of the log with these filters."""
    return urlencode({name: value for name, value in filters.items() if value})


@workspace_page(Action.SEE_CALLS)
def calls(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    wanted_key = request.GET.get("key", "")
    names = {str(key.id): key.name for key in workspace_reads.keys_of(workspace)}
    if wanted_key and wanted_key not in names:  # a revoked key of a test call, or beyond those listed
        known = workspace_reads.key_names(workspace, {wanted_key})
        names |= {key: name for key, name in known.items() if name != workspace_reads.GONE}
    form = Filters(request.GET or None, keys=list(names.items()))
    given = form.cleaned_data if form.is_valid() else {}
    found = [] if form.errors else _log(workspace, given, request.GET.get("after", ""))
    shown = found[:A_PAGE]
    older = query(**given, after=shown[-1].cursor) if len(found) > A_PAGE else ""
    context = {
        "form": form,
        "calls": _listed(request, shown, names),
        "is_filtered": any(given.values()) or bool(form.errors),
        "calls_url": url(request, "calls"),
        "connect_url": url(request, "connect"),
        "older_url": f"{url(request, 'calls')}?{older}" if older else "",
    }
    return page(request, "billing/calls.html", "calls", context, status=400 if form.errors else 200)


def _log(workspace: Workspace, given: dict[str, str], after: str) -> list[LoggedCall]:
    """One attempt more than a page shows, so that the page knows whether there are older ones."""
    filters = {name.value: given[field] for field, name in _FILTERED.items() if given.get(field)}
    failed = {"ok": False, "failed": True}.get(given.get("state", ""))
    try:
        cursor = UUID(after) if after else None
        return queries.recent_calls(workspace, limit=A_PAGE + 1, after=cursor, filters=filters, failed=failed)
    except ValueError:  # a cursor that no page of ours wrote (CannotAnswer is one too)
        raise NotThere("There is no such page of the call log.") from None


@workspace_page(Action.SEE_CALLS)
def call(request: HttpRequest, call_id: UUID) -> HttpResponse:
    attempts = queries.attempts_of(workspace_of(request), call_id)
    if not attempts:
        raise NotThere("There is no such call in this workspace.")
    last = attempts[-1]
    names: dict[str, str] = {}
    context = {
        "call": _listed(request, attempts, names)[0]
        | {
            "call_id": str(call_id),
            "hold_nano": sum(attempt.charge.hold_nano for attempt in attempts),
            "first_byte_ms": last.latest.first_byte_ms,
            "overhead_ms": _milliseconds(last.charge.overhead_us),
            "basis_said": _BASIS[Basis(last.basis)][0],
        },
        "attempts": [_attempt(attempt) for attempt in attempts],
        "dimensions": _dimensions(last.charge),
        "facts": _facts(last, names),
        "calls_url": url(request, "calls"),
    }
    return page(request, "billing/call.html", "calls", context)


def recent(request: HttpRequest, limit: int, names: dict[str, str]) -> list[dict[str, Any]]:
    """The newest calls as rows for `parts/call_rows.html`. `names`: key id -> name, as far as known."""
    return _listed(request, queries.recent_calls(workspace_of(request), limit=limit), names)


def _listed(request: HttpRequest, found: list[LoggedCall], names: dict[str, str]) -> list[dict[str, Any]]:
    """Attempts -> one row a call, in the order they came in. Adds the names of keys it had to look up to `names`."""
    missing = {one.charge.virtual_key for one in found} - names.keys()
    if missing:
        names |= workspace_reads.key_names(workspace_of(request), missing)
    grouped: dict[UUID | None, list[LoggedCall]] = {}
    for one in found:
        grouped.setdefault(one.charge.call_id, []).append(one)
    return [_row(request, sorted(parts, key=lambda one: one.charge.attempt), names) for parts in grouped.values()]


def _row(request: HttpRequest, attempts: list[LoggedCall], names: dict[str, str]) -> dict[str, Any]:
    last = attempts[-1].charge
    tone, label, said = _state(attempts[-1])
    lines = [one.told for one in attempts]
    output = sum(line.output_tokens for line in lines)
    read = sum(line.input_tokens + line.cache_read_tokens + line.cache_write_tokens for line in lines)
    return {
        "url": url(request, "call", last.call_id),
        "at": attempts[0].charge.at,
        "model": last.model or "unknown",
        "provider": workspace_reads.title_of(last.provider),
        "key_name": names[last.virtual_key],
        "customer": last.customer,
        "tokens": read + output,
        "input_tokens": read,
        "output_tokens": output,
        "duration_ms": attempts[-1].latest.duration_ms,
        "cost_nano": sum(one.cost_nano for one in attempts),
        "is_assumed": any(one.basis == Basis.ASSUMED and one.cost_nano for one in attempts),
        "tone": tone,
        "state_label": label,
        "state_help": said,
    }


def _state(one: LoggedCall) -> tuple[str, str, str]:
    """(tone, label, help) of a call, from its last attempt."""
    line = one.latest
    if one.charge.state == EntryState.EXPIRED and one.correction is None:
        return "warn", "unconfirmed", "Nobody came back to say what it cost; it is at most this."
    if line.error == "client_closed":
        return "warn", "hung up", "The application closed the connection before the answer was complete."
    if line.http_status >= 400:
        return "bad", str(line.http_status), line.error.replace("_", " ") or "The provider answered with an error."
    if line.error:
        return "bad", "failed", line.error.replace("_", " ")
    if line.state == EntryState.VOID:
        return "", "not sent", "It was never sent to the provider and cost nothing."
    return "good", "ok", ""


def _attempt(one: LoggedCall) -> dict[str, Any]:
    never_sent = one.charge.state == EntryState.VOID
    return {
        "number": one.charge.attempt,
        "cost_nano": one.cost_nano,
        "basis_help": "It was not charged." if never_sent else _BASIS[Basis(one.basis)][1],
        "price_status": one.latest.price_status,
        "lines": [_line(line) for line in one.latest.unpacked().get("breakdown", ())],
        "no_lines": "Nothing was used that has a price." if never_sent else "There are no price lines for this charge.",
        "charged_nano": one.charge.cost_nano,
        "corrections": [
            {"cost_nano": line.cost_nano, "ended_at": line.ended_at, "why": _WHY_CORRECTED.get(line.state, "")}
            for line in one.corrections
        ],
    }


_WHY_CORRECTED: dict[str, str] = {
    EntryState.ADJUSTED: "The truth arrived after it was charged as held.",
    EntryState.RERATED: "Its price arrived later, or changed.",
}


def _milliseconds(microseconds: int | None) -> str:
    return "" if microseconds is None or microseconds < 0 else f"{microseconds / 1000:.2f}"


def _line(line: dict[str, Any]) -> dict[str, str]:
    unit = str(line.get("unit", ""))
    per_million = line.get("rate_per_m_usd")
    rate = (
        f"${per_million} per million"
        if per_million is not None
        else (f"${line['rate_usd']} each" if "rate_usd" in line else "–")
    )
    quantity = line.get("quantity", 0)
    return {
        "unit": _UNITS.get(unit, unit.replace("_", " ").capitalize()),
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


def _dimensions(entry: Entry) -> list[dict[str, str]]:
    named = ("customer", "feature", "user", "member", "agent", "department", "session", "environment")
    found = [{"name": name.capitalize(), "value": getattr(entry, name)} for name in named if getattr(entry, name)]
    return found + [{"name": f"Tag: {name}", "value": str(value)} for name, value in sorted(entry.tags.items())]


def _facts(one: LoggedCall, names: dict[str, str]) -> list[dict[str, Any]]:
    entry, line = one.charge, one.latest
    rows = [
        ("Virtual key", names[entry.virtual_key], False),
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
    return [{"name": name, "value": value, "mono": mono} for name, value, mono in rows if value]

"""The overview: how much, by what, and the calls as they come; before the first call, the four steps to it.

The page asks for its fragment (`overview_live`) every second and a half while somebody looks, every second before the first call.
The version in the address makes that cheap: when nothing was booked and no step was done since, the answer is 204 after one read by key.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from billing.domain.dimensions import OTHER, Dimension
from billing.ledger import queries
from billing.ledger.queries import Days, Granularity, Totals
from billing.views import calls as call_views
from billing.views import reads
from workspaces.roles import Action, may
from workspaces.views import reads as workspace_reads
from workspaces.views import test_call
from workspaces.views.frame import framed, membership_of, page, url, workspace_of, workspace_page
from workspaces.views.virtual_keys import snippet_tabs

LIVE_CALLS = 8
CHART_DAYS = 30
CHART_SERIES = 5
BREAKDOWN_ROWS = 6
MOST_KEYS = 200
_STARTING = "s"
_RUNNING = "r"


@workspace_page(Action.SEE_SPEND)
def overview(request: HttpRequest) -> HttpResponse:
    request.session["last_workspace"] = workspace_of(request).slug
    return page(request, "billing/overview.html", "overview", _context(request, was_starting=False))


@workspace_page(Action.SEE_SPEND)
def overview_live(request: HttpRequest) -> HttpResponse:
    seen = request.GET.get("seen", "")
    version = _version(request)
    if seen == version:
        return HttpResponse(status=204)
    context = _context(request, was_starting=seen.startswith(_STARTING))
    return render(request, "billing/overview_pulse.html", framed(request, "overview") | context)


def _version(request: HttpRequest) -> str:
    """What the fragment was made from: the stage, the books' mark, and before the first call the steps done."""
    workspace = workspace_of(request)
    mark = reads.mark(workspace.pk)
    if mark.has_calls:
        return f"{_RUNNING}{mark.seq}"
    return f"{_STARTING}{_done_before_calls(request)}"


def _done_before_calls(request: HttpRequest) -> int:
    """Which steps on the way to the first call are done: 1 a provider key, 2 a virtual key, 3 both."""
    has_credential = bool(workspace_reads.usable_credentials())
    has_key = workspace_reads.has_working_key(workspace_of(request))
    return has_credential + 2 * has_key


def _context(request: HttpRequest, *, was_starting: bool) -> dict[str, Any]:
    version = _version(request)
    pulse: dict[str, Any] = {"version": version, "url": f"{url(request, 'overview_live')}?seen={version}"}
    context: dict[str, Any] = {
        "pulse": pulse,
        "calls_url": url(request, "calls"),
        "keys_new_url": url(request, "key_new"),
        **test_call.offered(request),
    }
    pulse["can_call"] = context["can_call"]
    if version.startswith(_STARTING):
        pulse |= _onboarding(request, int(version[1:]))
        context["snippets"] = snippet_tabs("start")
    else:
        pulse |= _figures(request)
        pulse["celebrates"] = was_starting
    return context


def _onboarding(request: HttpRequest, done: int) -> dict[str, Any]:
    role = membership_of(request).role
    has_credential, has_key = bool(done & 1), bool(done & 2)
    steps = [
        _step("provider", "Add a provider key", "Pasted once, checked, sealed. No key at hand? Take the simulator, it needs none.",
              has_credential, may(role, Action.MANAGE_CREDENTIALS), url(request, "credential_new"), "Add a provider key"),
        _step("key", "Make a virtual key", "What your application holds instead of the provider’s key.",
              has_key, may(role, Action.MANAGE_KEYS), url(request, "key_new"), "Make a virtual key"),
        _step("call", "Make the first call", "From here with one click, or from your code with one changed line.",
              False, may(role, Action.SEND_TEST_CALL), url(request, "connect"), "Show the snippets"),
        _step("see", "See it here", "Within two seconds of the call: its tokens, its price, its key and its model.",
              False, False, "", ""),
    ]  # fmt: skip
    following = next(step for step in steps if not step["is_done"])
    following["is_next"] = True
    return {"steps": steps, "steps_done": sum(step["is_done"] for step in steps)}


def _step(name: str, title: str, text: str, is_done: bool, allowed: bool, where: str, button: str) -> dict[str, Any]:
    return {
        "name": name, "title": title, "text": text, "is_done": is_done, "is_next": False,
        "allowed": allowed, "url": where, "button": button,
    }  # fmt: skip


def _figures(request: HttpRequest) -> dict[str, Any]:
    workspace = workspace_of(request)
    month = queries.month_to_date(workspace, timezone.now())
    today = month.last
    last_month = Days((month.first - timedelta(days=1)).replace(day=1), month.first - timedelta(days=1))
    charted = Days(today - timedelta(days=CHART_DAYS - 1), today)
    read = Days(min(last_month.first, charted.first), today)
    by_day = {point.start: point.totals for point in queries.series(workspace, read, Granularity.DAY)}
    this_month = _added(by_day, month)
    by_model = _by_model(request, Days(min(month.first, charted.first), today))
    shows_calls = may(membership_of(request).role, Action.SEE_CALLS)
    names: dict[str, str] = {}
    return {
        "today": _plain(by_day.get(today, Totals())),
        "yesterday": _plain(by_day.get(today - timedelta(days=1), Totals())),
        "month": _plain(this_month),
        "last_month": _plain(_added(by_day, last_month)),
        "month_start": month.first,
        "chart": _chart(by_day, by_model, charted),
        "by_model": _models(request, by_model, month, this_month),
        "by_key": _keys(request, month, this_month, names),
        "calls": call_views.recent(request, LIVE_CALLS, names) if shows_calls else [],
    }


def _added(by_day: dict[Any, Totals], days: Days) -> Totals:
    return sum((totals for day, totals in by_day.items() if days.first <= day <= days.last), Totals())


def _plain(totals: Totals) -> dict[str, int]:
    return {
        "cost_nano": totals.cost_nano,
        "assumed_nano": totals.assumed_nano,
        "calls": totals.calls,
        "errors": totals.errors,
        "tokens": totals.tokens,
        "input_tokens": totals.tokens - totals.output_tokens,
        "output_tokens": totals.output_tokens,
    }


def _by_model(request: HttpRequest, days: Days) -> dict[str, dict[Any, Totals]]:
    """Model -> day -> totals, for the models that cost most, dearest first."""
    workspace = workspace_of(request)
    ranked = queries.by_value(workspace, days, Dimension.MODEL, limit=BREAKDOWN_ROWS)
    found: dict[str, dict[Any, Totals]] = {row.value: {} for row in ranked}
    for point in queries.series(workspace, days, Granularity.DAY, dimension=Dimension.MODEL, values=list(found)):
        found[point.value][point.start] = point.totals
    return found


def _chart(by_day: dict[Any, Totals], by_model: dict[str, dict[Any, Totals]], days: Days) -> dict[str, Any]:
    """Spend by day, stacked by the dearest models; the rest of each day is the last series."""
    named = list(by_model)[:CHART_SERIES]
    rows = []
    for day in _span(days):
        values = [by_model[name].get(day, Totals()).cost_nano for name in named]
        whole = by_day.get(day, Totals()).cost_nano
        rows.append({"date": day, "values": [*values, whole - sum(values)], "total": whole})
    names = ["Other" if name == OTHER else name for name in named]
    if any(row["values"][-1] for row in rows) or not names:  # type: ignore[index]
        names.append("Other")
    return {
        "series": [{"name": name, "colour": number} for number, name in enumerate(names, start=1)],
        "days": [row | {"values": row["values"][: len(names)]} for row in rows],  # type: ignore[index]
    }


def _span(days: Days) -> list[date]:
    return [days.first + timedelta(days=number) for number in range((days.last - days.first).days + 1)]


def _models(
    request: HttpRequest, by_model: dict[str, dict[Any, Totals]], month: Days, whole: Totals
) -> list[dict[str, Any]]:
    sums = {name: _added(by_day, month) for name, by_day in by_model.items()}
    rows = [
        (name, totals, f"{url(request, 'calls')}?{call_views.query(model=name)}")
        for name, totals in sums.items()
        if totals.attempts
    ]
    rows.sort(key=lambda row: (-row[1].cost_nano, row[0]))
    return _breakdown(rows, whole)


def _keys(request: HttpRequest, month: Days, whole: Totals, names: dict[str, str]) -> list[dict[str, Any]]:
    """By key. The many keys of test calls, each used once, are one row. Adds the keys' names to `names`."""
    found = queries.by_value(workspace_of(request), month, Dimension.VIRTUAL_KEY, limit=MOST_KEYS)
    names |= workspace_reads.key_names(workspace_of(request), {row.value for row in found})
    tests = [row.totals for row in found if names[row.value] == workspace_reads.TEST_CALL_KEY]
    rows = [
        (names[row.value], row.totals, f"{url(request, 'calls')}?{call_views.query(key=row.value)}")
        for row in found
        if names[row.value] != workspace_reads.TEST_CALL_KEY
    ]
    if tests:
        rows.append(("Test calls", sum(tests, Totals()), ""))
    rows.sort(key=lambda row: (-row[1].cost_nano, row[0]))
    return _breakdown(rows[:BREAKDOWN_ROWS], whole)


def _breakdown(rows: list[tuple[str, Totals, str]], whole: Totals) -> list[dict[str, Any]]:
    """Rows for `billing/breakdown.html`, with an "Other" row for what is beyond them."""
    shown = [
        {"name": name, "url": where, "whole_nano": whole.cost_nano, **_plain(totals)} for name, totals, where in rows
    ]
    rest = whole - sum((totals for _, totals, _ in rows), Totals())
    if rows and (rest.cost_nano > 0 or rest.calls > 0):
        shown.append({"name": "Other", "url": "", "whole_nano": whole.cost_nano, **_plain(rest)})
    return shown

"""The call log: searched, narrowed, page by page. One call's page is `one_call`."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import urlencode

from billing.domain.dimensions import MAX_VALUE_CHARS, Dimension
from billing.domain.events import Basis
from billing.ledger import queries
from billing.ledger.queries import Days, LoggedCall
from billing.models import EntryState
from billing.views import question, spend
from billing.views.naming import Names
from workspaces import narrowing
from workspaces.domain.names import plain
from workspaces.errors import NotThere
from workspaces.models import Workspace
from workspaces.roles import Action
from workspaces.views import reads as workspace_reads
from workspaces.views.frame import page, url, workspace_of, workspace_page

A_PAGE = 50
STATES = {"": "Every status", "ok": "Succeeded", "failed": "Failed"}
_CONTROLS = frozenset({"q", "state", "after", "filter", "value", "key"})


def query(**filters: str) -> str:
    """The query string of the log with these filters."""
    return urlencode({name: value for name, value in filters.items() if value})


@workspace_page(Action.SEE_CALLS, narrows=True)
def calls(request: HttpRequest) -> HttpResponse:
    workspace, names = workspace_of(request), Names(request)
    sought = request.GET.get("q", "").strip()[:200]
    if (found_id := _call_sought(request, sought)) is not None:
        return redirect(url(request, "call", found_id))
    narrowed, days, misread = question.read_narrowing(_pairs(request), _today(request), _CONTROLS)
    filters: dict[str, str] | None = narrowed
    problems = list(misread)
    own = narrowing.department()
    if own is not None and narrowed.pop(Dimension.DEPARTMENT.value, own) != own:
        problems.append("You see your own department’s calls only.")
    if sought:
        filters, said = _narrowed_by_search(workspace, narrowed, sought, _today(request))
        problems += said
    state = request.GET.get("state", "")
    if state not in STATES:
        problems.append(f"There is no status “{plain(state[:40])}”: every call is shown.")
        state = ""
    found = [] if filters is None else _log(workspace, filters, days, state, request.GET.get("after", ""))
    shown = found[:A_PAGE]
    kept = [*sorted((filters or {}).items()), *_range_pairs(days), *([("state", state)] if state else [])]
    context = {
        "calls": listed(request, shown, names.keys),
        "problems": problems,
        "is_filtered": bool(kept or sought),
        "sought": sought,
        "state": state,
        "states": [{"name": name, "title": title, "is_current": name == state} for name, title in STATES.items()],
        "range": {"first": days.first, "last": days.last, "said": spend.said(days)} if days else None,
        "chips": _chips(request, names, filters or {}, kept, days),
        "filterable": [{"name": name.value, "title": title} for name, title in question.TITLES.items()],
        "kept": kept,
        "filter_pairs": sorted((filters or {}).items()),
        "calls_url": url(request, "calls"),
        "connect_url": url(request, "connect"),
        "newest_url": f"{url(request, 'calls')}?{urlencode(kept)}" if request.GET.get("after") else "",
        "older_url": _older(request, kept, shown) if len(found) > A_PAGE else "",
    }
    return page(request, "billing/calls.html", "calls", context)


def _pairs(request: HttpRequest) -> list[tuple[str, str]]:
    """The address' pairs. The form's "add a filter" is two fields that become one pair; `key` is short for `virtual_key`."""
    pairs = [(str(name), str(value)) for name, values in request.GET.lists() for value in values if value]
    given = dict(pairs)
    if given.get("key"):
        pairs.append((Dimension.VIRTUAL_KEY, given["key"]))
    if given.get("filter") and given.get("value", "").strip():
        pairs.append((given["filter"], given["value"].strip()))
    return pairs


def _today(request: HttpRequest) -> date:
    return queries.today(workspace_of(request), timezone.now())


def _call_sought(request: HttpRequest, sought: str) -> UUID | None:
    """The call that a call's or an attempt's id names."""
    try:
        given = UUID(sought)
    except ValueError:
        return None
    return queries.call_of(workspace_of(request), given)


def _narrowed_by_search(
    workspace: Workspace, filters: dict[str, str], sought: str, today: date
) -> tuple[dict[str, str] | None, list[str]]:
    """A word that was searched for becomes the filter of the dimension that has such a value; None: nothing has it."""
    if "\x00" in sought or len(sought) > MAX_VALUE_CHARS:
        return None, ["A value has at most 128 characters, and none that cannot be shown."]
    known = queries.dimensions_with(workspace, sought, today)
    free = [name for name in known if name not in filters]
    if not free:
        return None, []
    said = (
        []
        if len(free) == 1
        else [f"Shown as {question.title_of(free[0]).lower()}; it is also a {question.title_of(free[1]).lower()}."]
    )
    return {**filters, free[0]: sought}, said


def _log(workspace: Workspace, filters: dict[str, str], days: Days | None, state: str, after: str) -> list[LoggedCall]:
    """One attempt more than a page shows, so that the page knows whether there are older ones."""
    failed = {"ok": False, "failed": True}.get(state)
    try:
        cursor = UUID(after) if after else None
        return queries.recent_calls(
            workspace, limit=A_PAGE + 1, after=cursor, filters=filters, failed=failed, days=days
        )
    except ValueError:  # a cursor that no page of ours wrote (CannotAnswer is one too)
        raise NotThere("There is no such page of the call log.") from None


def _range_pairs(days: Days | None) -> list[tuple[str, str]]:
    return [("from", days.first.isoformat()), ("to", days.last.isoformat())] if days else []


def _older(request: HttpRequest, kept: list[tuple[str, str]], shown: list[LoggedCall]) -> str:
    return f"{url(request, 'calls')}?{urlencode([*kept, ('after', shown[-1].cursor)])}"


def _chips(
    request: HttpRequest, names: Names, filters: dict[str, str], kept: list[tuple[str, str]], days: Days | None
) -> list[dict[str, str]]:
    """What the log is narrowed by, each with the address without it."""
    where = url(request, "calls")
    chips = []
    for name, value in sorted(filters.items()):
        names.learn(name, [value])
        without = [pair for pair in kept if pair[0] != name]
        chips.append(
            {
                "title": question.title_of(name),
                "value": names.of(name, value),
                "without_url": f"{where}?{urlencode(without)}",
            }
        )
    if days is not None:
        without = [pair for pair in kept if pair[0] not in ("from", "to")]
        chips.append({"title": "", "value": spend.said(days), "without_url": f"{where}?{urlencode(without)}"})
    return chips


def recent(request: HttpRequest, limit: int, names: dict[str, str]) -> list[dict[str, Any]]:
    """The newest calls as rows for `parts/call_rows.html`. `names`: key id -> name, as far as known."""
    return listed(request, queries.recent_calls(workspace_of(request), limit=limit), names)


def listed(request: HttpRequest, found: list[LoggedCall], names: dict[str, str]) -> list[dict[str, Any]]:
    """Attempts -> one row a call, in the order they came in. Adds the names of their keys to `names`."""
    names |= {one.charge.virtual_key: one.key_name or workspace_reads.GONE for one in found}
    grouped: dict[UUID | None, list[LoggedCall]] = {}
    for one in found:
        grouped.setdefault(one.charge.call_id, []).append(one)
    return [_row(request, sorted(parts, key=lambda one: one.charge.attempt), names) for parts in grouped.values()]


def _row(request: HttpRequest, attempts: list[LoggedCall], names: dict[str, str]) -> dict[str, Any]:
    last = attempts[-1].charge
    tone, label, said = state_of(attempts[-1])
    lines = [one.told for one in attempts]
    output = sum(line.output_tokens for line in lines)
    read = sum(line.input_tokens + line.cache_read_tokens + line.cache_write_tokens for line in lines)
    return {
        "url": url(request, "call", last.call_id),
        "at": attempts[0].charge.at,
        "model": plain(last.model) or "unknown",
        "provider": workspace_reads.title_of(last.provider),
        "key_name": plain(names[last.virtual_key]),
        "customer": plain(last.customer),
        "feature": plain(last.feature),
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


def state_of(one: LoggedCall) -> tuple[str, str, str]:
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

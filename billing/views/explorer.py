"""The cost explorer: any question about spend, its chart and table, saved and shared as an address, taken away as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing.ledger import queries
from billing.ledger.queries import CannotAnswer, Granularity
from billing.saved import actions as saved
from billing.views import csv_export, question, spend
from billing.views.metrics import METRICS
from billing.views.naming import Names
from billing.views.question import PRESETS, TITLES, Question, title_of
from workspaces import narrowing
from workspaces.domain.names import plain
from workspaces.errors import NotThere, Refused
from workspaces.models import Role
from workspaces.roles import Action, may
from workspaces.views.frame import actor, membership_of, page, url, workspace_of, workspace_page

MOST_TABLE_ROWS: Final = 50


@workspace_page(Action.SEE_SPEND, narrows=True)
def explorer(request: HttpRequest) -> HttpResponse:
    asked, view = _asked(request)
    names = Names(request)
    workspace = workspace_of(request)
    try:
        found = spend.answer(workspace, asked, names, rows=MOST_TABLE_ROWS)
    except CannotAnswer as error:  # what `question` lets through and the rollups cannot answer
        asked = Question(days=asked.days, preset=asked.preset, problems=(*asked.problems, f"{error}"))
        found = spend.answer(workspace, asked, names, rows=MOST_TABLE_ROWS)
    rows = spend.rows(request, asked, found, names)
    context = {
        "asked": _said(request, asked, names),
        "chart": spend.chart(request, asked, found, names, f"{asked.metric.title} by {title_of(asked.by).lower()}"),
        "rows": rows,
        "whole": _whole(asked, found),
        "columns": [title_of(name) for name in asked.dimensions],
        "controls": _controls(request, asked),
        "problems": asked.problems,
        "view": view,
        "views": _views(request),
        "export_url": f"{url(request, 'explorer_csv')}?{asked.query()}",
        "explorer_url": url(request, "explorer"),
        "save_url": url(request, "view_save"),
        "query": asked.query(),
        "calls_url": spend.calls_url(request, asked.days, asked.filters),
        "connect_url": url(request, "connect"),
    }
    return page(request, "billing/explorer.html", "explorer", context)


@workspace_page(Action.EXPORT)
def explorer_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The table of a question, every group of it, a piece at a time."""
    asked, _ = _asked(request)
    workspace = workspace_of(request)
    name = f"{workspace.slug}-{asked.by.replace(':', '-')}-{asked.days.first}-{asked.days.last}.csv"
    groups = queries.ranked(
        workspace, asked.days, asked.dimensions, filters=asked.filters, limit=csv_export.MOST_GROUPS,
        rank_by=asked.metric.rank_by,
    )  # fmt: skip
    lines: Iterator[str] = csv_export.lines(workspace, asked, groups, Names(request))
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{_file_name(name)}"'
    return response


def _file_name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name)


@workspace_page(Action.SAVE_VIEWS, methods=("POST",))
def view_save(request: HttpRequest) -> HttpResponse:
    asked, _ = _asked_of(request.POST.get("query", ""), _today(request))
    back = f"{url(request, 'explorer')}?{asked.query()}"
    try:
        view = saved.save_view(
            workspace=workspace_of(request), by=actor(request), membership=membership_of(request), name=request.POST.get("name", ""),
            query=asked.query(), shared=request.POST.get("shared") == "on",
        )  # fmt: skip
    except Refused as error:
        messages.error(request, f"The view was not saved. {error} {error.hint}".strip())
        return redirect(back)
    said = "Everybody in the workspace sees it." if view.is_shared else "Only you see it."
    messages.success(request, f"“{plain(view.name)}” is saved. {said}")
    return redirect(f"{url(request, 'explorer')}?view={view.pk}")


@workspace_page(Action.SAVE_VIEWS, methods=("POST",))
def view_delete(request: HttpRequest, view_id: UUID) -> HttpResponse:
    name = saved.delete_view(
        workspace=workspace_of(request), by=actor(request), membership=membership_of(request), view_id=view_id
    )
    messages.success(request, f"“{plain(name)}” is deleted.")
    return redirect(url(request, "explorer"))


# --- Reading the question ---------------------------------------------------------------------------------------------
def _asked(request: HttpRequest) -> tuple[Question, dict[str, Any] | None]:
    """The question of the address, and the saved view it came from."""
    view_id = request.GET.get("view", "")
    if view_id and not may(membership_of(request).role, Action.SAVE_VIEWS):
        raise NotThere("There is no such view.")
    if view_id:
        membership = membership_of(request)
        view = saved.find_view(membership, view_id)
        asked, _ = _asked_of(view.query, _today(request))
        is_own = view.owner_id == membership.user_id
        return asked, {
            "name": plain(view.name),
            "is_shared": view.is_shared,
            "owner": plain(view.owner_name),
            "is_own": is_own,
            "delete_url": url(request, "view_delete", view.pk) if is_own or membership.role in (Role.OWNER, Role.ADMIN) else "",
        }  # fmt: skip
    return question.read(_pairs(request), _today(request), is_narrowed=narrowing.department() is not None), None


def _asked_of(query: str, today: date) -> tuple[Question, None]:
    try:
        pairs = parse_qsl(query[: saved.MOST_CHARACTERS], keep_blank_values=True, max_num_fields=60)
    except ValueError:
        pairs = []
    return question.read(pairs, today), None


def _pairs(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """The address' pairs; the form's "add a filter" is two fields that become one pair."""
    name, value = request.GET.get("filter", ""), request.GET.get("value", "").strip()
    for given, values in request.GET.lists():
        if given in ("filter", "value"):
            continue
        for one in values:
            yield str(given), str(one)
    if name and value:
        yield name, value


def _today(request: HttpRequest) -> date:
    return queries.today(workspace_of(request), timezone.now())


# --- What stands around the answer ------------------------------------------------------------------------------------
def _said(request: HttpRequest, asked: Question, names: Names) -> dict[str, Any]:
    explorer_url = url(request, "explorer")
    for name, value in asked.filters.items():
        names.learn(name, [value])
    return {
        "range": spend.said(asked.days),
        "before": spend.said(asked.before) if asked.compares else "",
        "metric": asked.metric.title,
        "help": asked.metric.help,
        "adds_up": asked.metric.adds_up,
        "is_cost": asked.metric.name == "cost",
        "compares": asked.compares,
        "filters": [
            {
                "title": title_of(name),
                "value": names.of(name, value),
                "without_url": f"{explorer_url}?{asked.without_filter(name)}",
            }
            for name, value in asked.filters.items()
        ],
        "first": asked.days.first,
        "last": asked.days.last,
    }


def _whole(asked: Question, found: spend.Answer) -> dict[str, Any]:
    metric = asked.metric
    now, before = metric.of(found.whole), metric.of(found.whole_before)
    return {
        "value": metric.text(found.whole),
        "before": metric.text(found.whole_before) if asked.compares else "",
        "change": spend.metric_change(asked, now, before) if asked.compares else None,
        "calls": found.whole.calls,
        "cost_nano": found.whole.cost_nano,
        "assumed_nano": found.whole.assumed_nano,
        "unpriced_calls": found.whole.unpriced_calls,
        "is_empty": not found.whole.attempts,
    }


def _controls(request: HttpRequest, asked: Question) -> dict[str, Any]:
    """The selects of the form, the presets as links, and what the form must carry along."""
    explorer_url = url(request, "explorer")
    today = _today(request)
    tags = queries.known_tags(workspace_of(request), asked.days)
    dimensions = [(str(name), title) for name, title in TITLES.items()] + [(tag, title_of(tag)) for tag in tags]
    for name in (*asked.dimensions, *asked.filters):
        if name not in dict(dimensions):
            dimensions.append((name, title_of(name)))
    presets = [
        {
            "title": title,
            "url": f"{explorer_url}?{asked.query(preset=name, days=question.preset_days(name, today), asked_grain='')}",
            "is_current": name == asked.preset,
        }
        for name, title in PRESETS.items()
    ]
    return {
        "presets": presets,
        "compare_url": f"{explorer_url}?{asked.query(compares=not asked.compares)}",
        "preset_title": PRESETS.get(asked.preset, "Custom range"),
        "by": [{"name": name, "title": title, "is_current": name == asked.by} for name, title in dimensions],
        "then": [{"name": name, "title": title, "is_current": name == asked.then} for name, title in dimensions],
        "filterable": [{"name": name, "title": title} for name, title in dimensions if name not in asked.filters],
        "metrics": [{"name": one.name, "title": one.title, "is_current": one is asked.metric} for one in METRICS.values()],
        "grains": [{"name": one.value, "title": f"By {one.value}", "is_current": one == asked.asked_grain} for one in Granularity],
        "range_pairs": [pair for pair in asked.parameters() if pair[0] in ("range", "from", "to")],
        "other_pairs": [pair for pair in asked.parameters() if pair[0] not in ("range", "from", "to")],
        "filter_pairs": sorted(asked.filters.items()),
    }  # fmt: skip


def _views(request: HttpRequest) -> list[dict[str, Any]]:
    membership = membership_of(request)
    if not may(membership.role, Action.SAVE_VIEWS):  # a view of somebody else names what a lead does not see
        return []
    return [
        {
            "name": plain(view.name),
            "url": f"{url(request, 'explorer')}?{urlencode({'view': str(view.pk)})}",
            "owner": "" if view.owner_id == membership.user_id else plain(view.owner_name),
            "is_shared": view.is_shared,
        }
        for view in saved.visible_to(membership)
    ]

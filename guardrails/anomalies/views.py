"""The list of anomalies, one incident with its chart and levers, and how the workspace wants to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import urlencode

from billing.ledger.minutes import DIMENSIONS as MINUTE_DIMENSIONS
from billing.ledger.minutes import KEPT as MINUTES_KEPT
from billing.ledger.rollups import NO_HOURS, zone
from billing.views import charts
from billing.views.amounts import show
from billing.views.charts import Bucket, Chart
from guardrails.anomalies import actions, queries, reading, telling
from guardrails.anomalies.forms import WishesForm
from guardrails.anomalies.models import Feedback, Incident
from guardrails.domain.anomalies.kinds import Kind, Series
from workspaces.errors import NotThere, Refused
from workspaces.models import VirtualKey, Workspace
from workspaces.roles import Action, may
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page

A_PAGE: Final = 50
MOST_BARS: Final = 96
_ODD_TONE: Final = 2
_USUAL_TONE: Final = 1


# --- The list ---------------------------------------------------------------------------------------------------------
@workspace_page(Action.SEE_ANOMALIES)
def anomalies(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    state, kind = request.GET.get("state", ""), request.GET.get("kind", "")
    state = state if state in queries.STATES else "all"
    kind = kind if kind in set(Kind) else ""
    rows = queries.incidents(workspace, state=state, kind=kind)
    after = request.GET.get("after", "")
    if after:
        try:
            rows = rows.filter(id__lt=UUID(after))
        except ValueError:
            raise NotThere("There is no such page of anomalies.") from None
    found = list(rows.order_by("-id")[: A_PAGE + 1])
    given = {"state": state, "kind": kind}
    context = {
        "incidents": [_row(request, one) for one in sorted(found[:A_PAGE], key=lambda one: one.started_at, reverse=True)],
        "state": state, "kind": kind, "kinds": list(telling.LABELS.items()), "anomalies_url": url(request, "anomalies"),
        "older_url": f"?{urlencode({**given, 'after': str(found[A_PAGE - 1].id)})}" if len(found) > A_PAGE else "",
        "alerts_url": url(request, "alerts"), "settings_url": url(request, "anomaly_settings"), "is_filtered": bool(state != "all" or kind or after),
    }  # fmt: skip
    return page(request, "anomalies/anomalies.html", "anomalies", context)


def _row(request: HttpRequest, one: Incident) -> dict[str, Any]:
    workspace = workspace_of(request)
    return {
        "url": url(request, "anomaly", one.id), "label": telling.LABELS[one.kind], "driver": telling.driver(workspace, one),
        "measure": telling.measure(one), "started_at": one.started_at, "ended_at": one.ended_at, "last_seen_at": one.last_seen_at,
        "cost_nano": None if one.kind == Kind.ERROR_STORM else one.cost_nano, "calls": one.calls, "is_open": one.ended_at is None,
        "state": _state(one), "tone": _tone(one), "response": one.response_note, "feedback": one.feedback,
    }  # fmt: skip


def _state(one: Incident) -> str:
    if one.feedback == Feedback.EXPECTED:
        return "expected"
    return "going on" if one.ended_at is None else "over"


def _tone(one: Incident) -> str:
    if one.feedback == Feedback.EXPECTED or one.ended_at is not None:
        return "plain"
    return "bad" if one.kind in (Kind.LOOP, Kind.ERROR_STORM) else "warn"


# --- One --------------------------------------------------------------------------------------------------------------
@workspace_page(Action.SEE_ANOMALIES)
def anomaly(request: HttpRequest, incident_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    one = queries.incident(workspace, incident_id)
    role = membership_of(request).role
    key = VirtualKey.objects.filter(workspace=workspace, pk=one.key_id).first() if one.key_id else None
    may_pause = key is not None and key.revoked_at is None and key.paused_at is None and may(role, Action.MANAGE_KEYS)
    may_limit = bool(one.dimension) and may(role, Action.MANAGE_LIMITS)
    wishes = reading.wishes_of(workspace)
    context = {
        "incident": _row(request, one) | {
            "title": telling.title(workspace, one), "said": telling.sentences(workspace, one), "score": one.score,
            "shared": [telling.named(workspace, dimension, value) for dimension, value in one.facts.get("beside", [])],
            "feedback_by": one.feedback_by, "limit_until": one.limit_until, "key": key.name if key else "",
        },
        "chart": _chart(workspace, one),
        "calls_url": telling.links(workspace, one)["calls"] if may(role, Action.SEE_CALLS) else "",
        "key_url": url(request, "key", key.id) if key and may(role, Action.SEE_KEYS) else "",
        "pause_url": url(request, "anomaly_pause_key", one.id) if may_pause else "",
        "throttle_url": url(request, "anomaly_throttle", one.id) if may_limit and one.limit_id is None else "",
        "lift_url": url(request, "anomaly_lift_limit", one.id) if one.limit_id and may(role, Action.MANAGE_LIMITS) else "",
        "feedback_url": url(request, "anomaly_feedback", one.id) if may(role, Action.MANAGE_ANOMALIES) else "",
        "throttle_per_minute": wishes.throttle_per_minute, "throttle_minutes": wishes.throttle_minutes,
        "anomalies_url": url(request, "anomalies"), "alerts_url": url(request, "alerts"),
    }  # fmt: skip
    return page(request, "anomalies/anomaly.html", "anomalies", context)


def _chart(workspace: Workspace, one: Incident) -> Chart | None:
    """The series around the incident: by the minute while minutes are kept, else by the hour. Nothing where neither is kept of it."""
    now = timezone.now()
    end = one.ended_at or one.last_seen_at
    series = Series(one.seen_dimension, one.seen_value)
    if (
        one.by_minute
        and series.dimension in (*MINUTE_DIMENSIONS, "")
        and now - one.started_at < MINUTES_KEPT - timedelta(minutes=15)
    ):
        return _by_minute(workspace, one, series, min(end + timedelta(minutes=10), now))
    if series.dimension in NO_HOURS:
        beside = [Series(*pair) for pair in one.facts.get("beside", [])]
        series = next((other for other in beside if other.dimension not in NO_HOURS), Series())
    return _by_hour(workspace, one, series, min(end + timedelta(hours=12), now))


def _by_minute(workspace: Workspace, one: Incident, series: Series, until: datetime) -> Chart:
    start = max(one.started_at - timedelta(minutes=20), until - timedelta(minutes=MOST_BARS))
    storm = one.kind == Kind.ERROR_STORM
    known = {row.at: row.errors if storm else row.attempts for row in reading.minutes_of(workspace, series, start)}
    clock = zone(workspace.time_zone)
    first = start.replace(second=0, microsecond=0)
    times = [first + timedelta(minutes=past) for past in range(int((until - first).total_seconds() // 60) + 1)]
    values = [float(known.get(at, 0)) for at in times]
    name = f"{'Failed attempts' if storm else 'Calls'} a minute: {telling.named(workspace, series.dimension, series.value)}"
    odd = [one.started_at - timedelta(minutes=1) < at <= (one.ended_at or one.last_seen_at) for at in times]
    buckets = [Bucket(f"{at.astimezone(clock):%H:%M}", f"{at.astimezone(clock):%a %d %b, %H:%M}") for at in times]
    return _two_tones(name, buckets, values, odd, lambda value: f"{value:,.0f}")


def _by_hour(workspace: Workspace, one: Incident, series: Series, until: datetime) -> Chart:
    clock = zone(workspace.time_zone)
    last = reading.hour_of(until, clock)
    first = max(reading.hour_of(one.started_at, clock) - 24, last - MOST_BARS)
    (history,) = reading.histories(
        workspace, series.dimension, [series.value], reading.moment_of(first, clock)
    ).values()
    hours = range(first, last + 1)
    by_price = one.kind in (Kind.COST_PER_CALL, Kind.MODEL_MIX)
    cells = [history.at(hour) for hour in hours]
    values = [
        cell.cost_nano / cell.calls if by_price and cell.calls else 0.0 if by_price else float(cell.cost_nano)
        for cell in cells
    ]
    begin, end = (
        reading.hour_of(one.started_at, clock),
        reading.hour_of((one.ended_at or one.last_seen_at) - timedelta(seconds=1), clock),
    )
    levels: list[float | None] = []
    for hour in hours:
        level = history.price(hour) if by_price else history.cost(hour)
        levels.append(level.middle if level else None)
    name = f"{'Cost of a call' if by_price else 'Cost an hour'}: {telling.named(workspace, series.dimension, series.value)}"
    buckets = [_hour_bucket(reading.moment_of(hour, clock), clock) for hour in hours]
    return _two_tones(
        name, buckets, values, [begin <= hour <= end for hour in hours], lambda value: show(round(value)), levels
    )


def _hour_bucket(at: datetime, clock: ZoneInfo) -> Bucket:
    local = at.astimezone(clock)
    return Bucket(f"{local:%a %H:%M}", f"{local:%a %d %b, %H:%M}")


def _two_tones(
    name: str, buckets: list[Bucket], values: list[float], odd: list[bool], shown: Callable[[float], str],
    usual: list[float | None] | None = None,
) -> Chart:  # fmt: skip
    inside = [value if is_odd else None for value, is_odd in zip(values, odd, strict=True)]
    outside = [None if is_odd else value for value, is_odd in zip(values, odd, strict=True)]
    series = [charts.Series("Ordinary", outside, _USUAL_TONE), charts.Series("The incident", inside, _ODD_TONE)]
    most = max((value for value in inside if value is not None), default=0)
    summary = f"At most {shown(most)} during the incident."
    return charts.stacked(name, buckets, series, shown=shown, summary=summary, before=usual or (), before_name="Usual")


# --- Feedback and levers ----------------------------------------------------------------------------------------------
@workspace_page(Action.MANAGE_ANOMALIES, methods=("POST",))
def anomaly_feedback(request: HttpRequest, incident_id: UUID) -> HttpResponse:
    given, when = request.POST.get("feedback", ""), request.POST.get("when", actions.ANY_TIME)
    said = {
        Feedback.EXPECTED.value: "Noted. The next one like it is held against this one.", Feedback.CONFIRMED.value: "Noted.",
        Feedback.NONE.value: "Taken back.",
    }  # fmt: skip
    return _done(
        request, incident_id, said.get(given, ""),
        lambda: actions.give_feedback(
            workspace=workspace_of(request), by=actor(request), incident_id=incident_id, feedback=given, when=when
        ),
    )  # fmt: skip


@workspace_page(Action.MANAGE_KEYS, methods=("POST",))
def anomaly_pause_key(request: HttpRequest, incident_id: UUID) -> HttpResponse:
    return _done(
        request, incident_id, "The key is paused. Its next call is refused.",
        lambda: actions.pause_key(workspace=workspace_of(request), by=actor(request), incident_id=incident_id),
    )  # fmt: skip


@workspace_page(Action.MANAGE_LIMITS, methods=("POST",))
def anomaly_throttle(request: HttpRequest, incident_id: UUID) -> HttpResponse:
    given = {name: request.POST[name] for name in ("per_minute", "minutes") if request.POST.get(name)}
    return _done(
        request, incident_id, "It is slowed down from its next call on.",
        lambda: actions.throttle(workspace=workspace_of(request), by=actor(request), incident_id=incident_id, **given),
    )  # fmt: skip


@workspace_page(Action.MANAGE_LIMITS, methods=("POST",))
def anomaly_lift_limit(request: HttpRequest, incident_id: UUID) -> HttpResponse:
    return _done(
        request, incident_id, "Its calls pass again.",
        lambda: actions.lift_limit(workspace=workspace_of(request), by=actor(request), incident_id=incident_id),
    )  # fmt: skip


def _done(request: HttpRequest, incident_id: UUID, said: str, act: Callable[[], Incident]) -> HttpResponse:
    queries.incident(workspace_of(request), incident_id)
    try:
        act()
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        messages.success(request, said)
    return redirect(url(request, "anomaly", incident_id))


# --- Settings ---------------------------------------------------------------------------------------------------------
@workspace_page(Action.MANAGE_ANOMALIES, methods=("GET", "POST"))
def anomaly_settings(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    sent = request.method == "POST"
    form = WishesForm(request.POST if sent else None, initial=WishesForm.initial_of(reading.wishes_of(workspace)))
    if sent and form.is_valid():
        try:
            actions.set_wishes(workspace=workspace, by=actor(request), **form.wanted())
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "anomaly_settings"))
    context = {
        "form": form, "settings_url": url(request, "anomaly_settings"), "anomalies_url": url(request, "anomalies"),
        "alerts_url": url(request, "alerts"),
    }  # fmt: skip
    return page(request, "anomalies/settings.html", "anomalies", context, status=422 if form.errors else 200)


# --- Beside the overview ----------------------------------------------------------------------------------------------
MOST_ON_OVERVIEW: Final = 100
LATELY: Final = timedelta(days=7)


def on_overview(request: HttpRequest) -> Mapping[str, Any]:
    """What goes on now, or did in the last week, and the dearest of it."""
    workspace = workspace_of(request)
    rows = queries.incidents(workspace).exclude(feedback=Feedback.EXPECTED)
    since = datetime.now(UTC) - LATELY
    found = list(rows.filter(Q(ended_at=None) | Q(ended_at__gte=since)).order_by("-id")[:MOST_ON_OVERVIEW])
    going_on = [one for one in found if one.ended_at is None]
    told = going_on or found
    first = max(told, key=lambda one: one.cost_nano, default=None)
    return {
        "count": len(going_on), "lately": len(found) - len(going_on), "url": url(request, "anomalies"),
        "newest": telling.title(workspace, first) if first else "", "newest_url": url(request, "anomaly", first.id) if first else "",
        "cost_nano": sum(one.cost_nano for one in told),
    }  # fmt: skip

"""The alerts inbox, one alert, and what a member wants to hear."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from billing import outlook
from billing.domain.money import show_usd, usd_text
from guardrails.models import Budget
from guardrails.signals import actions, audience, mail, queries
from guardrails.signals.forms import PreferenceForm, SpendLineForm
from guardrails.signals.letters import Reader, about, letter_of
from guardrails.signals.models import DeliveryState, Kind, Notice, Preference, Severity
from guardrails.signals.outlooks import line as line_of
from workspaces.errors import NotThere, Refused
from workspaces.models import Workspace, WorkspaceState
from workspaces.roles import Action, may
from workspaces.views.frame import actor, framed, membership_of, page, refuse, url, workspace_of, workspace_page

A_PAGE = 50
LABELS: dict[str, str] = {
    Kind.THRESHOLD: "Threshold", Kind.THROTTLED: "Slowed", Kind.STOPPED: "Stopped", Kind.NORMAL: "Normal again",
    Kind.SPEND_ALERT: "Spend alert", Kind.DIGEST: "Week", Kind.TEST: "Test",
    Kind.UNKNOWN_USAGE: "Unknown usage",
}  # fmt: skip
TONES: dict[str, str] = {Severity.INFO: "info", Severity.WARNING: "warn", Severity.CRITICAL: "bad"}


# --- The inbox --------------------------------------------------------------------------------------------------------
@workspace_page(Action.SEE_BUDGETS)
def alerts(request: HttpRequest) -> HttpResponse:
    context = _inbox(request)
    newest = context["newest"]
    answer = page(request, "signals/alerts.html", "alerts", context)
    if newest and not context["is_archive"] and not context["is_older"]:
        actions.mark_seen(workspace=workspace_of(request), membership=membership_of(request), newest=newest)
    return answer


@workspace_page(Action.SEE_BUDGETS)
def alerts_live(request: HttpRequest) -> HttpResponse:
    """The list again when something came; nothing when what is shown is the newest."""
    newest = queries.notices(workspace_of(request)).order_by("-id").values_list("id", flat=True).first()
    if request.GET.get("seen") == str(newest or ""):
        return HttpResponse(status=204)
    return render(request, "signals/alert_list.html", framed(request, "alerts") | _inbox(request))


def _inbox(request: HttpRequest) -> dict[str, Any]:
    workspace = workspace_of(request)
    is_archive, kind = request.GET.get("state") == "archived", request.GET.get("kind", "")[:16]
    rows = queries.notices(workspace, archived=is_archive, kind=kind)
    after = request.GET.get("after", "")
    if after:
        try:
            rows = rows.filter(id__lt=UUID(after))
        except ValueError:
            raise NotThere("There is no such page of the inbox.") from None
    found = list(rows.order_by("-id")[: A_PAGE + 1])
    given = {name: value for name, value in (("state", "archived" if is_archive else ""), ("kind", kind)) if value}
    older = urlencode({**given, "after": str(found[A_PAGE - 1].id)}) if len(found) > A_PAGE else ""
    here = url(request, "alerts")
    newest = found[0].id if found else None
    return {
        "notices": [_row(request, one) for one in found[:A_PAGE]],
        "is_archive": is_archive,
        "is_older": bool(after),
        "newest": newest,
        "kind": kind,
        "kinds": [(one, LABELS.get(one, one.replace("_", " ").capitalize())) for one in queries.kinds(workspace)],
        "alerts_url": here,
        "archive_url": f"{here}?state=archived",
        "older_url": f"{here}?{older}" if older else "",
        "live_url": f"{url(request, 'alerts_live')}?{urlencode({'seen': str(newest or ''), **given})}",
        "archive_all_url": url(request, "alerts_archive_all"),
        "preferences_url": url(request, "alert_preferences"),
        "anomalies_url": url(request, "anomalies"),
        "endpoints_url": url(request, "endpoints"),
    }


def _row(request: HttpRequest, notice: Notice) -> dict[str, Any]:
    handles = may(membership_of(request).role, Action.MANAGE_ALERTS)
    return {
        "id": notice.id,
        "title": notice.title,
        "label": LABELS.get(notice.kind, notice.kind.replace("_", " ").capitalize()),
        "tone": "good" if notice.kind == Kind.NORMAL else TONES[notice.severity],
        "at": notice.at,
        "url": url(request, "alert", notice.id),
        "archived_at": notice.archived_at,
        "archived_by": notice.archived_by,
        "archive_url": url(request, "alert_archive", notice.id) if handles else "",
    }


@workspace_page(Action.SEE_BUDGETS)
def alert(request: HttpRequest, notice_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    notice = queries.notice(workspace, notice_id)
    letter = letter_of(notice, Reader(workspace, ZoneInfo(workspace.time_zone)))
    told = notice.deliveries.filter(state=DeliveryState.SENT).exclude(user_id=None).count()
    context = {
        "notice": _row(request, notice),
        "letter": letter,
        "told": told,
        "alerts_url": url(request, "alerts"),
        "is_open": notice.archived_at is None,
    }
    return page(request, "signals/alert.html", "alerts", context)


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def alert_archive(request: HttpRequest, notice_id: UUID) -> HttpResponse:
    back = request.POST.get("back") == "1"
    actions.archive(workspace=workspace_of(request), by=actor(request), notice_id=notice_id, back=back)
    return redirect(url(request, "alerts") + ("?state=archived" if back else ""))


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def alerts_archive_all(request: HttpRequest) -> HttpResponse:
    count = actions.archive_all(workspace=workspace_of(request), by=actor(request), up_to=request.POST.get("up_to", ""))
    messages.success(request, f"{count:,} alert{'' if count == 1 else 's'} archived.")
    return redirect(url(request, "alerts"))


# --- What I hear, and the spend line ----------------------------------------------------------------------------------
@workspace_page(Action.SEE_BUDGETS, methods=("GET", "POST"))
def alert_preferences(request: HttpRequest) -> HttpResponse:
    workspace, membership = workspace_of(request), membership_of(request)
    preference = audience.preference_of(workspace, membership)
    budgets = [(str(key), name) for key, name in Budget.objects.order_by("name").values_list("id", "name")]
    sent = request.method == "POST"
    form = PreferenceForm(request.POST if sent else None, budgets=budgets, initial=_initial(preference))
    if sent and form.is_valid():
        try:
            actions.set_preference(workspace=workspace, membership=membership, by=actor(request), **form.wanted())
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "alert_preferences"))
    return _preferences_page(request, form, None)


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def spend_line(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    form = SpendLineForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data["line"].strip().removeprefix("$").replace(",", "")
        try:
            actions.set_spend_line(workspace=workspace, by=actor(request), line_usd=given)
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "alert_preferences") + "#spend")
    return _preferences_page(request, None, form)


def _preferences_page(
    request: HttpRequest, form: PreferenceForm | None, line_form: SpendLineForm | None
) -> HttpResponse:
    workspace, membership = workspace_of(request), membership_of(request)
    budgets = [(str(key), name) for key, name in Budget.objects.order_by("name").values_list("id", "name")]
    seen = outlook.of_month(workspace, timezone.now())
    line_nano, whose, _ = line_of(workspace, seen)
    crossing = seen.crossing(line_nano).expected if line_nano else None
    context = {
        "form": form or PreferenceForm(budgets=budgets, initial=_initial(audience.preference_of(workspace, membership))),
        "line_form": line_form or SpendLineForm(initial={"line": usd_text(line_nano) if whose == "own" else ""}),
        "has_budgets": bool(budgets),
        "outlook": {
            "expected": about(seen.expected_nano), "low": about(seen.low_nano), "high": about(seen.high_nano),
            "maturity": seen.maturity.value, "line": show_usd(line_nano) if line_nano else "", "whose": whose, "crossing": crossing,
            "days": seen.history_days,
        },
        "verified": audience.verified_address(membership.user_id),
        "spend_line_url": url(request, "spend_line"),
        "preferences_url": url(request, "alert_preferences"),
        "alerts_url": url(request, "alerts"),
        "guardrails_url": url(request, "guardrails"),
        "endpoints_url": url(request, "endpoints"),
        "person_zone": membership.user.time_zone or workspace.time_zone,
    }  # fmt: skip
    wrong = bool((form and form.errors) or (line_form and line_form.errors))
    return page(request, "signals/preferences.html", "alerts", context, status=422 if wrong else 200)


def _initial(preference: Preference) -> dict[str, Any]:
    return {
        "mail": preference.mail,
        "which": "every" if preference.budgets is None else "some",
        "budgets": [str(one) for one in preference.budgets or ()],
        "weekly": preference.weekly,
        "quiet_from": _clock(preference.quiet_from),
        "quiet_to": _clock(preference.quiet_to),
        "wake_for_critical": preference.wake_for_critical,
    }


def _clock(minute: int | None) -> str:
    return "" if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"


# --- The link in every mail -------------------------------------------------------------------------------------------
@csrf_exempt  # RFC 8058: the mail program posts here without a session; the signed link is what proves it
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """A GET changes nothing (scanners follow links); the button, or the mail program's own POST, ends the mails."""
    read = mail.read_unsubscribe(token)
    workspace = Workspace.objects.filter(pk=read[0]).exclude(state=WorkspaceState.DELETING).first() if read else None
    if read is None or workspace is None:
        raise Http404("no such link")
    _, user_id, what = read
    done = request.method == "POST" and actions.unsubscribe(workspace=workspace, user_id=user_id, what=what)
    context = {"name": workspace.name, "what": what, "done": done, "slug": workspace.slug}
    return render(request, "signals/unsubscribe.html", context)

"""Virtual keys: the list, making one (its text is in that one answer and nowhere else), revoking; and the snippets to paste."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import urlencode

from workspaces import actions
from workspaces.errors import NotThere, Refused
from workspaces.forms import RotationForm, VirtualKeyForm
from workspaces.models import VirtualKey
from workspaces.roles import Action, may
from workspaces.views import reads, snippets, test_call
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page

HEADERS = (
    {"name": "Sluice-Customer", "text": "Which of your customers it was for."},
    {"name": "Sluice-Feature", "text": "Which feature of your product made it."},
    {"name": "Sluice-User", "text": "Which end user asked."},
    {"name": "Sluice-Agent", "text": "Which bot, worker or agent run."},
    {"name": "Sluice-Department", "text": "Which department pays."},
    {"name": "Sluice-Session", "text": "Which conversation or job it is part of."},
    {"name": "Sluice-Tags", "text": "Anything else: plan=pro,region=eu"},
)


@workspace_page(Action.SEE_KEYS)
def keys(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    may_manage = may(membership_of(request).role, Action.MANAGE_KEYS)
    now = timezone.now()
    rows = [_shown(request, key, now, may_manage) for key in reads.keys_of(workspace)]
    return page(request, "workspaces/keys.html", "keys", {"keys": rows, "new_url": url(request, "key_new")})


@workspace_page(Action.MANAGE_KEYS, methods=("GET", "POST"))
def key_new(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    form = VirtualKeyForm(request.POST or None, zone=workspace.time_zone, members=reads.members_of(workspace))
    if form.is_valid():
        try:
            minted = actions.create_virtual_key(workspace=workspace, by=actor(request), **form.wanted())
        except Refused as error:
            if error.field == "expires_at":
                error.field = "expires_on"
            refuse(form, error)
        else:
            return _made(request, minted.row, minted.text)
    context = {"form": form, "new_url": url(request, "key_new"), "keys_url": url(request, "keys")}
    return page(request, "workspaces/key_new.html", "keys", context, status=422 if form.errors else 200)


@workspace_page(Action.SEE_KEYS, methods=("GET", "POST"))
def key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """One key: what it is, and for those who may, its settings, its successor and its end."""
    workspace = workspace_of(request)
    found = reads.key_of(workspace, key_id)
    may_manage = may(membership_of(request).role, Action.MANAGE_KEYS)
    sent = request.method == "POST" and may_manage
    form = VirtualKeyForm(
        request.POST if sent else None, zone=workspace.time_zone, members=reads.members_of(workspace), key=found
    )
    if form.is_valid():
        try:
            actions.change_virtual_key(workspace=workspace, by=actor(request), key_id=key_id, **_changes(form, found))
        except Refused as error:
            if error.field == "expires_at":
                error.field = "expires_on"
            refuse(form, error)
        else:
            messages.success(request, "Saved. The next call with this key knows it.")
            return redirect(url(request, "key", key_id))
    shown = _shown(request, found, timezone.now(), may_manage)
    context = {
        "key": shown | _details(request, found),
        "form": form,
        "rotation": RotationForm(),
        "keys_url": url(request, "keys"),
    }
    return page(request, "workspaces/key.html", "keys", context, status=422 if form.errors else 200)


def _changes(form: VirtualKeyForm, key: VirtualKey) -> dict[str, Any]:
    """What the form asks for. The last day as it was shown leaves the moment of the end as it is."""
    wanted = form.wanted()
    if "expires_on" not in form.changed_data:
        wanted["expires_at"] = key.expires_at
    return wanted


@workspace_page(Action.MANAGE_KEYS, methods=("POST",))
def key_rotate(request: HttpRequest, key_id: UUID) -> HttpResponse:
    form = RotationForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose how long the old key works beside the new one.")
        return redirect(url(request, "key", key_id))
    grace = timedelta(hours=form.cleaned_data["grace_hours"])
    try:
        minted = actions.rotate_virtual_key(
            workspace=workspace_of(request), by=actor(request), key_id=key_id, grace=grace
        )
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
        return redirect(url(request, "key", key_id))
    return _made(request, minted.row, minted.text)


def _made(request: HttpRequest, key: VirtualKey, text: str) -> HttpResponse:
    context = {
        "key": {"name": key.name, "environment": key.environment},
        "secret": text,
        "snippets": snippet_tabs("made", key=text),
        "keys_url": url(request, "keys"),
        "overview_url": url(request, "overview"),
        **test_call.offered(request),
    }
    return page(request, "workspaces/key_made.html", "keys", context)


@workspace_page(Action.MANAGE_KEYS, methods=("GET", "POST"))
def key_revoke(request: HttpRequest, key_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    if request.method == "POST":
        key = actions.revoke_virtual_key(workspace=workspace, by=actor(request), key_id=key_id)
        messages.success(request, f"“{key.name}” is revoked. Its next call is refused.")
        return redirect(url(request, "keys"))
    found = reads.key_of(workspace, key_id)
    context = {"key": _shown(request, found, timezone.now(), True), "keys_url": url(request, "keys")}
    return page(request, "workspaces/key_revoke.html", "keys", context)


@workspace_page(Action.MANAGE_KEYS, methods=("POST",))
def key_pause(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Pause a key, or with `resume` let its calls through again."""
    act = actions.resume_virtual_key if request.POST.get("resume") == "1" else actions.pause_virtual_key
    try:
        key = act(workspace=workspace_of(request), by=actor(request), key_id=key_id)
    except Refused as error:
        if isinstance(error, NotThere):
            raise
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        said = "is paused. Its next call is refused." if key.paused_at else "works again."
        messages.success(request, f"“{key.name}” {said}")
    return redirect(url(request, "key", key_id))


@workspace_page(Action.SEE_KEYS)
def connect(request: HttpRequest) -> HttpResponse:
    context = {
        "base_url": gateway_url(),
        "snippets": snippet_tabs("connect"),
        "headers": HEADERS,
        "keys_new_url": url(request, "key_new"),
        **test_call.offered(request),
    }
    return page(request, "workspaces/connect.html", "connect", context)


def gateway_url() -> str:
    """The base URL that applications use."""
    return f"{settings.PUBLIC_URL}/v1"


def snippet_tabs(name: str, *, key: str = snippets.PLACEHOLDER) -> dict[str, Any]:
    """The tabs of ready-to-paste code, for the models that the workspace's credentials can reach."""
    return {
        "id": f"snippets-{name}",
        "entries": snippets.snippets(base_url=gateway_url(), key=key, model=test_call.suggested_model()),
    }


def _shown(request: HttpRequest, key: VirtualKey, now: datetime, may_manage: bool) -> dict[str, Any]:
    works = reads.is_working(key, now)
    owner = key.member.user.name or key.member.user.email if key.member else key.agent
    return {
        "id": str(key.id),
        "name": key.name,
        "masked": reads.masked(key),
        "environment": key.environment,
        "owner": owner or key.department,
        "created_at": key.created_at,
        "created_by": (key.created_by.name or key.created_by.email) if key.created_by else "",
        "last_used_at": key.last_used_at,
        "is_off": not works,
        "state": "works" if works else _why_not(key),
        "tone": "good" if works else "warn" if _why_not(key) == "paused" else "bad",
        "url": url(request, "key", key.id),
        "revoke_url": url(request, "key_revoke", key.id) if works and may_manage else "",
        "rotate_url": url(request, "key_rotate", key.id) if works and may_manage else "",
        "pause_url": url(request, "key_pause", key.id) if may_manage and (works or _why_not(key) == "paused") else "",
        "is_paused": key.paused_at is not None,
    }


def _why_not(key: VirtualKey) -> str:
    if key.revoked_at:
        return "revoked"
    ended = key.expires_at is not None and key.expires_at <= timezone.now()
    return "paused" if key.paused_at and not ended else "expired"


def _details(request: HttpRequest, key: VirtualKey) -> dict[str, Any]:
    return {
        "member": (key.member.user.name or key.member.user.email) if key.member else "",
        "agent": key.agent,
        "department": key.department,
        "may_override": ", ".join(key.may_override),
        "allowed_models": key.allowed_models,
        "output_limit": key.output_limit,
        "expires_at": key.expires_at,
        "calls_url": f"{url(request, 'calls')}?{urlencode({'virtual_key': str(key.id)})}",
        "limits_url": url(request, "guardrails"),
        "budget_url": f"{url(request, 'budget_new')}?{urlencode({'scope': 'virtual_key', 'key': str(key.id)})}",
    }

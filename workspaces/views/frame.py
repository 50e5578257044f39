"""The frame of every page under `/w/<slug>/`: who may open it, what stands around it, how a refusal reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from allauth.account.authentication import get_authentication_records
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from workspaces import display, narrowing, roles
from workspaces.audit import Actor
from workspaces.errors import NotAllowed, NotThere, Refused
from workspaces.models import Membership, Workspace
from workspaces.roles import Action
from workspaces.views import reads

View = Callable[..., HttpResponseBase]


class WorkspaceRequest(HttpRequest):
    """A request under `/w/<slug>/`, after `WorkspaceMiddleware`. For types only."""

    workspace: Workspace
    membership: Membership


def workspace_page(
    action: Action, *, methods: tuple[str, ...] = ("GET",), confirmed_by: str = "", narrows: bool = False
) -> Callable[[View], View]:
    """A page that needs `action` of the role table. Leaves `needs` and `methods` on the view, which the walks over all routes read.

    `confirmed_by` names the page to come back to when a POST needs a fresh proof of who is acting (SECURITY.md S19): what was posted is not
    kept meanwhile, because it may hold a secret. `narrows`: all it shows is narrowed to a lead's department; other pages are closed to leads.
    Pages are never cached: they show money, and some show a secret once.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        @never_cache
        @require_http_methods([*methods, "HEAD"] if "GET" in methods else list(methods))
        def checked(request: WorkspaceRequest, slug: str, **kwargs: Any) -> HttpResponseBase:
            if not roles.may(request.membership.role, action, narrows=narrows):
                raise PermissionDenied
            if confirmed_by and request.method == "POST" and not _proved_lately(request):
                messages.info(request, "Confirm that it is you, then do it once more.")
                return redirect(
                    f"{reverse('account_reauthenticate')}?{urlencode({'next': url(request, confirmed_by)})}"
                )
            try:
                with narrowing.narrowed_to(request.membership), display.shown_as(request.workspace):
                    return view(request, **kwargs)
            except NotThere as error:
                raise Http404(str(error)) from None
            except NotAllowed as error:
                return render(request, "403.html", {"refused": str(error)}, status=403)

        checked.needs, checked.methods, checked.narrows = action, methods, narrows  # type: ignore[attr-defined]
        return checked

    return decorate


PROOF_LASTS_S = 15 * 60


def _proved_lately(request: HttpRequest) -> bool:
    """Whether the person signed in, or confirmed that it is them, a short while ago."""
    records = get_authentication_records(request, request.user)
    return any(time.time() - float(record.get("at", 0)) < PROOF_LASTS_S for record in records)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    label: str
    icon: str
    action: Action


_GROUPS: tuple[tuple[str, tuple[_Entry, ...]], ...] = (
    ("", (
        _Entry("overview", "Overview", "layout-dashboard", Action.SEE_SPEND),
        _Entry("explorer", "Cost explorer", "chart-bar", Action.SEE_SPEND),
        _Entry("calls", "Calls", "list-details", Action.SEE_CALLS),
        _Entry("anomalies", "Anomalies", "activity", Action.SEE_ANOMALIES),
        _Entry("waste", "Waste", "trash", Action.SEE_SPEND),
        _Entry("guardrails", "Guardrails", "shield-check", Action.SEE_BUDGETS),
        _Entry("alerts", "Alerts", "bell", Action.SEE_BUDGETS),
    )),
    ("Connect", (
        _Entry("connect", "Your application", "code", Action.SEE_KEYS),
        _Entry("keys", "Virtual keys", "key", Action.SEE_KEYS),
        _Entry("vault", "Vault", "lock", Action.SEE_CREDENTIALS),
    )),
    ("Workspace", (
        _Entry("members", "Members", "users", Action.SEE_PEOPLE),
        _Entry("directory", "Agents and departments", "robot", Action.SEE_PEOPLE),
        _Entry("audit", "Audit log", "book", Action.SEE_AUDIT),
        _Entry("tokens", "API tokens", "terminal-2", Action.MANAGE_TOKENS),
        _Entry("settings", "Settings", "settings", Action.SEE_WORKSPACE),
    )),
)  # fmt: skip


NARROWED = frozenset({"overview", "explorer", "calls", "members"})
"""Entries of pages that narrow what they show to a lead's department."""
BADGES: dict[str, Callable[[HttpRequest], int]] = {}
"""Name of an entry in the sidebar -> how many things of it wait to be seen. Filled at start-up by the apps that know."""


def page(
    request: HttpRequest, template: str, active: str, context: dict[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    """Render a page inside the frame. `active` is the name of its entry in the sidebar."""
    return render(request, template, framed(request, active) | (context or {}), status=status)


def framed(request: HttpRequest, active: str) -> dict[str, Any]:
    """What every page and fragment may use: `shell`, `may` (action -> bool), `zone`."""
    workspace, membership = workspace_of(request), membership_of(request)
    may = {action.value: roles.may(membership.role, action, narrows=True) for action in Action}
    return {
        "shell": {
            "active": active,
            "workspace": {"name": workspace.name, "slug": workspace.slug, "state": workspace.state},
            "home_url": reverse("overview", args=[workspace.slug]),
            "workspaces": _others(request, workspace),
            "groups": _groups(request, workspace, membership),
            "person": request.user.name or request.user.email,  # type: ignore[union-attr]
            "role": membership.get_role_display(),
            "inbox_url": settings.INBOX_URL,
            "display": _display(workspace),
        },
        "may": may,
        "zone": workspace.time_zone,
        "zone_said": workspace.time_zone.replace("_", " "),
    }


def _display(workspace: Workspace) -> dict[str, Any] | None:
    """What a page says of amounts that it converts."""
    shown = display.display_of(workspace)
    if shown is None:
        return None
    return {
        "currency": shown.currency,
        "rate": f"{shown.rate.normalize():f}",
        "at": workspace.display_rate_at,
        "settings_url": reverse("settings", args=[workspace.slug]),
    }


def _others(request: HttpRequest, workspace: Workspace) -> list[dict[str, Any]]:
    memberships = getattr(request, "memberships", None) or reads.memberships_of(request.user)
    return [
        {
            "name": one.workspace.name,
            "url": reverse("overview", args=[one.workspace.slug]),
            "is_current": one.workspace_id == workspace.pk,
        }
        for one in memberships
    ]


def _groups(request: HttpRequest, workspace: Workspace, membership: Membership) -> list[dict[str, Any]]:
    groups = []
    for title, entries in _GROUPS:
        shown = [
            {
                "name": e.name, "label": e.label, "icon": e.icon, "url": reverse(e.name, args=[workspace.slug]),
                "badge": BADGES[e.name](request) if e.name in BADGES else 0,
            }
            for e in entries
            if roles.may(membership.role, e.action, narrows=e.name in NARROWED)
        ]  # fmt: skip
        if shown:
            groups.append({"title": title, "entries": shown})
    return groups


def workspace_of(request: HttpRequest) -> Workspace:
    workspace: Workspace = request.workspace  # type: ignore[attr-defined]
    return workspace


def membership_of(request: HttpRequest) -> Membership:
    membership: Membership = request.membership  # type: ignore[attr-defined]
    return membership


def url(request: HttpRequest, name: str, *args: Any) -> str:
    """The address of a page of the request's workspace."""
    return reverse(name, args=[workspace_of(request).slug, *args])


def refuse(form: BaseForm, error: Refused) -> None:
    """Put a refusal of an action where it belongs: beside its field, or above the form."""
    form.add_error(error.field if error.field in form.fields else None, f"{error} {error.hint}".strip())


def actor(request: HttpRequest) -> Actor:
    """Who acts, for the audit log."""
    return Actor.of(request)

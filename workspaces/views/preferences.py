"""A workspace's settings: its name and time zone, its addresses, its end."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from workspaces import actions, roles
from workspaces.errors import Refused
from workspaces.forms import DeleteWorkspaceForm, DisplayForm, SettingsForm
from workspaces.roles import Action
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page
from workspaces.views.virtual_keys import gateway_url


@workspace_page(Action.SEE_WORKSPACE, methods=("GET", "POST"))
def preferences(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    sent = request.method == "POST" and roles.may(membership_of(request).role, Action.RENAME_WORKSPACE)
    form = SettingsForm(
        request.POST if sent else None, initial={"name": workspace.name, "time_zone": workspace.time_zone}
    )
    if form.is_valid():
        try:
            actions.change_workspace(
                workspace=workspace,
                by=actor(request),
                name=form.cleaned_data["name"],
                time_zone=form.cleaned_data["time_zone"],
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "settings"))
    return _page(request, form, DeleteWorkspaceForm(workspace=workspace))


@workspace_page(Action.DELETE_WORKSPACE, methods=("POST",), confirmed_by="settings")
def workspace_delete(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    name = workspace.name
    form = DeleteWorkspaceForm(request.POST, workspace=workspace)
    if form.is_valid():
        try:
            actions.delete_workspace(workspace=workspace, by=actor(request), typed_slug=form.cleaned_data["typed_slug"])
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"{name} is deleted.")
            return redirect("home")
    initial = {"name": workspace.name, "time_zone": workspace.time_zone}
    return _page(request, SettingsForm(initial=initial), form)


@workspace_page(Action.RENAME_WORKSPACE, methods=("POST",))
def workspace_display(request: HttpRequest) -> HttpResponse:
    workspace = workspace_of(request)
    form = DisplayForm(request.POST)
    if form.is_valid():
        try:
            actions.change_display(
                workspace=workspace,
                by=actor(request),
                currency=form.cleaned_data["currency"],
                rate=form.cleaned_data["rate"],
                calls_shown_days=form.cleaned_data["calls_shown_days"],
                now=timezone.now(),
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "settings"))
    initial = {"name": workspace.name, "time_zone": workspace.time_zone}
    return _page(request, SettingsForm(initial=initial), DeleteWorkspaceForm(workspace=workspace), form)


def _page(
    request: HttpRequest, form: SettingsForm, delete_form: DeleteWorkspaceForm, display_form: DisplayForm | None = None
) -> HttpResponse:
    workspace = workspace_of(request)
    rate = workspace.display_rate
    shown = {
        "currency": workspace.display_currency,
        "rate": "" if rate is None else f"{rate.normalize():f}",
        "calls_shown_days": workspace.calls_shown_days or "",
    }
    display_form = display_form or DisplayForm(initial=shown)
    context = {
        "form": form,
        "display_form": display_form,
        "display_url": url(request, "workspace_display"),
        "shown": shown,
        "delete_form": delete_form,
        "settings_url": url(request, "settings"),
        "fingerprints": workspace.fingerprints,
        "fingerprints_url": url(request, "waste_fingerprints"),
        "hear_url": url(request, "alert_preferences"),
        "delete_url": url(request, "workspace_delete"),
        "workspace_address": f"{settings.PUBLIC_URL}/w/{workspace.slug}/",
        "base_url": gateway_url(),
        "api_address": f"{settings.PUBLIC_URL}/api/v1/workspaces/{workspace.slug}/",
        "plan": workspace.get_plan_display(),
    }
    wrong = bool(form.errors or delete_form.errors or display_form.errors)
    return page(request, "workspaces/settings.html", "settings", context, status=422 if wrong else 200)

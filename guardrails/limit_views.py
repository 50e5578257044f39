"""Rate limits in the browser: made, changed, deleted."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from guardrails import actions, page_parts, queries
from guardrails.forms import NAMED_SCOPES, RateLimitForm, RateLimitSettingsForm, beside
from workspaces.errors import NotThere, Refused
from workspaces.roles import Action
from workspaces.views.frame import actor, page, refuse, url, workspace_of, workspace_page


@workspace_page(Action.MANAGE_LIMITS, methods=("GET", "POST"))
def limit_new(request: HttpRequest) -> HttpResponse:
    form = RateLimitForm(request.POST or None, keys=page_parts.key_choices(request))
    if form.is_valid():
        given = form.cleaned_data
        try:
            actions.create_rate_limit(
                workspace=workspace_of(request),
                by=actor(request),
                metric=given["metric"],
                limit=given["limit"],
                **form.on(),  # type: ignore[arg-type]
            )
        except Refused as error:
            refuse(form, beside(error, form))
        else:
            messages.success(request, "The limit holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "named_scopes": NAMED_SCOPES,
        "action_url": url(request, "limit_new"),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/limit_new.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_LIMITS, methods=("GET", "POST"))
def limit_edit(request: HttpRequest, limit_id: UUID) -> HttpResponse:
    workspace = workspace_of(request)
    row = next((one for one in queries.rate_limits(workspace) if one.pk == limit_id), None)
    if row is None:
        raise NotThere("There is no such rate limit in this workspace.")
    form = RateLimitSettingsForm(request.POST or None, initial={"limit": row.limit})
    if form.is_valid():
        try:
            actions.update_rate_limit(
                workspace=workspace, by=actor(request), limit_id=limit_id, limit=form.cleaned_data["limit"]
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved. It holds from the next call on.")
            return redirect(url(request, "guardrails"))
    context = {
        "form": form,
        "limit": page_parts.limit(request, row, dict(page_parts.key_choices(request))),
        "action_url": url(request, "limit_edit", limit_id),
        "delete_url": url(request, "limit_delete", limit_id),
        "back_url": url(request, "guardrails"),
    }
    return page(request, "guardrails/limit_edit.html", "guardrails", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_LIMITS, methods=("POST",))
def limit_delete(request: HttpRequest, limit_id: UUID) -> HttpResponse:
    actions.delete_rate_limit(workspace=workspace_of(request), by=actor(request), limit_id=limit_id)
    messages.success(request, "The limit is gone.")
    return redirect(url(request, "guardrails"))

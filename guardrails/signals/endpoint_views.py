"""Webhooks and Slack in the browser: made, tested, changed, and what was delivered."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from guardrails.signals import actions, queries, tasks
from guardrails.signals.forms import EndpointChangeForm, EndpointForm
from guardrails.signals.models import Delivery, DeliveryState, Endpoint, EndpointKind
from workspaces.errors import NotThere, Refused
from workspaces.roles import Action
from workspaces.views.frame import actor, page, refuse, url, workspace_of, workspace_page

A_PAGE = 50
_TONES = {
    DeliveryState.WAITING: "warn", DeliveryState.SENT: "good", DeliveryState.FAILED: "bad", DeliveryState.SKIPPED: "plain",
    DeliveryState.UNCERTAIN: "warn",
}  # fmt: skip


@workspace_page(Action.MANAGE_ALERTS, methods=("GET", "POST"))
def endpoints(request: HttpRequest) -> HttpResponse:
    form = EndpointForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = actions.create_endpoint(workspace=workspace_of(request), by=actor(request), **form.cleaned_data)
        except Refused as error:
            refuse(form, error)
        else:
            if made.text:
                return _page_of(request, made.row.pk, secret=made.text)
            messages.success(request, "Added. Send a test to see it arrive.")
            return redirect(url(request, "endpoint", made.row.pk))
    context = {
        "endpoints": [_row(request, one) for one in queries.endpoints(workspace_of(request)).order_by("created_at")],
        "form": form,
        "endpoints_url": url(request, "endpoints"),
        "alerts_url": url(request, "alerts"),
    }
    return page(request, "signals/endpoints.html", "alerts", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_ALERTS, methods=("GET", "POST"))
def endpoint(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
    if request.method != "POST":
        return _page_of(request, endpoint_id)
    queries.endpoint(workspace_of(request), endpoint_id)
    form = EndpointChangeForm(request.POST)
    if form.is_valid():
        changes: dict[str, Any] = {"name": form.cleaned_data["name"]}
        if form.cleaned_data["url"]:
            changes["url"] = form.cleaned_data["url"]
        try:
            actions.update_endpoint(
                workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id, **changes
            )
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(url(request, "endpoint", endpoint_id))
    return _page_of(request, endpoint_id, form=form)


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def endpoint_pause(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
    paused = request.POST.get("paused") == "1"
    actions.update_endpoint(workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id, paused=paused)
    return redirect(url(request, "endpoint", endpoint_id))


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def endpoint_test(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
    try:
        actions.test_endpoint(workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id)
    except NotThere:
        raise
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        tasks.wake(tasks.post)
        messages.success(request, "A test is on its way. Its answer appears below in a moment.")
    return redirect(url(request, "endpoint", endpoint_id))


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def endpoint_secret(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
    try:
        made = actions.rotate_secret(workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id)
    except NotThere:
        raise
    except Refused as error:
        messages.error(request, str(error))
        return redirect(url(request, "endpoint", endpoint_id))
    return _page_of(request, endpoint_id, secret=made.text)


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def endpoint_delete(request: HttpRequest, endpoint_id: UUID) -> HttpResponse:
    actions.delete_endpoint(workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id)
    messages.success(request, "Deleted. Nothing is posted there any more.")
    return redirect(url(request, "endpoints"))


@workspace_page(Action.MANAGE_ALERTS, methods=("POST",))
def delivery_replay(request: HttpRequest, endpoint_id: UUID, delivery_id: int) -> HttpResponse:
    try:
        actions.replay(
            workspace=workspace_of(request), by=actor(request), endpoint_id=endpoint_id, delivery_id=delivery_id
        )
    except NotThere:
        raise
    except Refused as error:
        messages.error(request, f"{error} {error.hint}".strip())
    else:
        tasks.wake(tasks.post)
        messages.success(request, "It is on its way once more.")
    return redirect(url(request, "endpoint", endpoint_id))


def _page_of(
    request: HttpRequest, endpoint_id: UUID, *, secret: str = "", form: EndpointChangeForm | None = None
) -> HttpResponse:
    workspace = workspace_of(request)
    row = queries.endpoint(workspace, endpoint_id)
    log = list(queries.deliveries(workspace, row)[:A_PAGE])
    context = {
        "endpoint": _row(request, row),
        "secret": secret,
        "form": form or EndpointChangeForm(initial={"name": row.name}),
        "deliveries": [_delivery(request, row, one) for one in log],
        "endpoints_url": url(request, "endpoints"),
        "alerts_url": url(request, "alerts"),
    }
    wrong = bool(form and form.errors)
    return page(request, "signals/endpoint.html", "alerts", context, status=422 if wrong else 200)


def _row(request: HttpRequest, row: Endpoint) -> dict[str, Any]:
    state, tone = (
        ("paused", "plain") if row.paused_at else ("failing", "bad") if row.failing_since else ("working", "good")
    )
    return {
        "name": row.name, "kind": row.get_kind_display(), "is_webhook": row.kind == EndpointKind.WEBHOOK, "shown_url": row.url,
        "state": state, "tone": tone, "paused_at": row.paused_at, "paused_why": row.paused_why, "failing_since": row.failing_since,
        "waiting": row.waiting, "last_sent_at": row.last_sent_at,  # type: ignore[attr-defined]
        "url": url(request, "endpoint", row.pk), "test_url": url(request, "endpoint_test", row.pk),
        "secret_url": url(request, "endpoint_secret", row.pk), "pause_url": url(request, "endpoint_pause", row.pk),
        "delete_url": url(request, "endpoint_delete", row.pk),
    }  # fmt: skip


def _delivery(request: HttpRequest, endpoint: Endpoint, row: Delivery) -> dict[str, Any]:
    state = DeliveryState(row.state)
    return {
        "title": row.notice.title if row.notice else "",
        "state": "trying again" if state is DeliveryState.WAITING and row.tries else state.label.lower(),
        "tone": _TONES.get(state, "plain"),
        "at": row.ended_at or row.made_at,
        "due_at": row.due_at if state is DeliveryState.WAITING and row.tries else None,
        "tries": row.tries,
        "status": row.status,
        "answer": row.answer,
        "replay_url": url(request, "delivery_replay", endpoint.pk, row.pk)
        if state is not DeliveryState.WAITING
        else "",
    }

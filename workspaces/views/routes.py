"""Where calls go, on pages: aliases of models, and what is done when an attempt fails. The same actions as the REST API's."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workspaces import actions
from workspaces.errors import NotThere, Refused
from workspaces.roles import Action
from workspaces.route_forms import AliasForm, RulesForm, as_typed
from workspaces.routes.models import Alias
from workspaces.views import reads
from workspaces.views.frame import actor, page, refuse, url, workspace_of, workspace_page

HOME = "vault"
"""Aliases stand on the page of the credentials that they lead to."""


@workspace_page(Action.MANAGE_ROUTES, methods=("GET", "POST"))
def alias_new(request: HttpRequest) -> HttpResponse:
    form = AliasForm(request.POST or None, credentials=reads.credentials())
    if form.is_valid():
        try:
            row = actions.create_alias(workspace=workspace_of(request), by=actor(request), **form.wanted())
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"“{row.name}” can be asked for from the next call on.")
            return redirect(url(request, HOME))
    return _page(request, form, None)


@workspace_page(Action.MANAGE_ROUTES, methods=("GET", "POST"))
def alias_edit(request: HttpRequest, alias_id: UUID) -> HttpResponse:
    row = _found(alias_id)
    credentials = reads.credentials()
    form = AliasForm(request.POST or None, initial=as_typed(row, credentials), credentials=credentials)
    if form.is_valid():
        try:
            actions.change_alias(workspace=workspace_of(request), by=actor(request), alias_id=alias_id, **form.wanted())
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "The next call goes the new way.")
            return redirect(url(request, HOME))
    return _page(request, form, row)


@workspace_page(Action.MANAGE_ROUTES, methods=("GET", "POST"))
def alias_delete(request: HttpRequest, alias_id: UUID) -> HttpResponse:
    row = _found(alias_id)
    if request.method == "POST":
        actions.delete_alias(workspace=workspace_of(request), by=actor(request), alias_id=alias_id)
        messages.success(request, f"The alias “{row.name}” is deleted.")
        return redirect(url(request, HOME))
    context = {"name": row.name, "delete_url": url(request, "alias_delete", alias_id), "vault_url": url(request, HOME)}
    return page(request, "workspaces/alias_delete.html", HOME, context)


@workspace_page(Action.MANAGE_ROUTES, methods=("GET", "POST"))
def fallbacks(request: HttpRequest) -> HttpResponse:
    rules = actions.hop_rules()
    form = RulesForm(request.POST or None, initial={name: getattr(rules, name) for name in RulesForm.base_fields})
    if form.is_valid():
        try:
            actions.change_hop_rules(workspace=workspace_of(request), by=actor(request), **form.cleaned_data)
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, "The next failed attempt is dealt with like that.")
            return redirect(url(request, HOME))
    context = {"form": form, "save_url": url(request, "fallbacks"), "vault_url": url(request, HOME)}
    return page(request, "workspaces/fallbacks.html", HOME, context, status=422 if form.errors else 200)


def _page(request: HttpRequest, form: AliasForm, row: Alias | None) -> HttpResponse:
    context = {
        "form": form,
        "name": row.name if row is not None else "",
        "save_url": url(request, "alias_new") if row is None else url(request, "alias_edit", row.id),
        "vault_url": url(request, HOME),
    }
    return page(request, "workspaces/alias.html", HOME, context, status=422 if form.errors else 200)


def _found(alias_id: UUID) -> Alias:
    row = Alias.objects.filter(pk=alias_id).first()
    if row is None:
        raise NotThere("There is no such alias in this workspace.")
    return row

"""One's own tokens of the REST API in this workspace: made and shown once, listed, revoked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from workspaces import actions, roles
from workspaces.errors import Refused
from workspaces.forms import ApiTokenForm
from workspaces.models import ApiToken
from workspaces.roles import Action
from workspaces.views import reads
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page


@workspace_page(Action.MANAGE_TOKENS, methods=("GET", "POST"), confirmed_by="tokens")
def tokens(request: HttpRequest) -> HttpResponse:
    form = ApiTokenForm(request.POST or None, scopes=_scopes(request))
    secret = ""
    if form.is_valid():
        try:
            secret = actions.create_api_token(
                workspace=workspace_of(request),
                by=actor(request),
                membership=membership_of(request),
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
            ).text
        except Refused as error:
            refuse(form, error)
        else:
            form = ApiTokenForm(scopes=_scopes(request))
    context = {
        "form": form,
        "secret": secret,
        "tokens": [_shown(request, token) for token in reads.tokens_of(membership_of(request))],
        "tokens_url": url(request, "tokens"),
    }
    return page(request, "workspaces/tokens.html", "tokens", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_TOKENS, methods=("POST",))
def token_revoke(request: HttpRequest, token_id: UUID) -> HttpResponse:
    actions.revoke_api_token(workspace=workspace_of(request), by=actor(request), token_id=token_id)
    messages.success(request, "The token is revoked. Its next request is refused.")
    return redirect(url(request, "tokens"))


_SAID = {
    roles.Scope.READ: "read: spend, calls, keys and budgets",
    roles.Scope.KEYS: "keys: make and revoke virtual keys",
    roles.Scope.CREDENTIALS: "credentials: put provider keys into the vault",
    roles.Scope.BUDGETS: "budgets: change budgets and limits",
    roles.Scope.PEOPLE: "people: invite and remove members",
    roles.Scope.WORKSPACE: "workspace: rename it, make tokens",
    roles.Scope.REPORT: "report: report outcomes",
}


def _scopes(request: HttpRequest) -> list[tuple[str, str]]:
    """Those that the member's role has a use for."""
    mine = roles.scopes_of(membership_of(request).role)
    return [(scope.value, _SAID[scope]) for scope in roles.Scope if scope in mine]


def _shown(request: HttpRequest, token: ApiToken) -> dict[str, Any]:
    works = token.revoked_at is None and (token.expires_at is None or token.expires_at > timezone.now())
    return {
        "name": token.name,
        "masked": f"slt_{token.locator[:4]}…{token.last_four}",
        "scopes": ", ".join(token.scopes),
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
        "is_off": not works,
        "state": "works" if works else ("revoked" if token.revoked_at else "expired"),
        "tone": "good" if works else "bad",
        "revoke_url": url(request, "token_revoke", token.id) if works else "",
    }

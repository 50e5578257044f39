"""The vault's page: provider keys go in, and only their last four characters come out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workspaces import actions
from workspaces.domain.providers import PROVIDERS
from workspaces.errors import NotThere, Refused
from workspaces.forms import SETTINGS, CredentialForm, SecretForm
from workspaces.roles import Action, may
from workspaces.vault.models import CredentialState, ProviderCredential
from workspaces.views import reads
from workspaces.views.frame import actor, membership_of, page, refuse, url, workspace_of, workspace_page

# The order people look for them in; the others follow.
_FIRST = ("openai", "anthropic", "gemini", "simulator", "openai_compatible")
_NOTES = {
    "simulator": "No key, no bill. To try things out.",
    "openai_compatible": "vLLM, LiteLLM, your own: any base URL.",
    "ollama": "Models on your own machine.",
}


_DERIVED = ("simulator", "bedrock", "vertex")
"""Their address is known, or follows from the settings; one of their own (a private endpoint) is for the REST API."""


@workspace_page(Action.SEE_CREDENTIALS)
def vault(request: HttpRequest) -> HttpResponse:
    touched = reads.last_touched(workspace_of(request), "credential.") if _sees_audit(request) else {}
    rows = [
        _shown(request, credential) | {"touched": touched.get(str(credential.pk))} for credential in reads.credentials()
    ]
    aliases = [
        alias
        | {"edit_url": url(request, "alias_edit", alias["id"]), "delete_url": url(request, "alias_delete", alias["id"])}
        for alias in reads.aliases()
    ]
    context = {
        "credentials": rows,
        "audit_url": f"{url(request, 'audit')}?q=credential.",
        "aliases": aliases,
        "new_url": url(request, "credential_new"),
        "alias_new_url": url(request, "alias_new"),
        "fallbacks_url": url(request, "fallbacks"),
    }
    return page(request, "workspaces/vault.html", "vault", context)


def _sees_audit(request: HttpRequest) -> bool:
    return may(membership_of(request).role, Action.SEE_AUDIT)


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("GET", "POST"))
def credential_new(request: HttpRequest) -> HttpResponse:
    form = CredentialForm(request.POST or None, initial={"provider": request.GET.get("provider", "")})
    if form.is_valid():
        given = form.cleaned_data
        own_address = given["provider"] in _with_base_url()
        try:
            credential = actions.add_credential(
                workspace=workspace_of(request),
                by=actor(request),
                provider=given["provider"],
                secret=given["secret"],
                name=given["name"],
                base_url=given["base_url"] if own_address else "",
                environment=given["environment"],
                access_settings=form.settings_of(given["provider"]),
            )
        except Refused as error:
            refuse(form, error)
        else:
            _tell(request, credential)
            return redirect(url(request, "vault"))
    chosen = form["provider"].value() or "openai"
    context = {
        "form": form,
        "providers": [_offered(name, chosen) for name in _names()],
        "with_key": " ".join(name for name in PROVIDERS if name != "simulator"),
        "with_base_url": " ".join(_with_base_url()),
        "asked": [
            {
                "field": form[name],
                "by": " ".join(who for who, access in PROVIDERS.items() if setting in access.settings),
            }
            for name, setting in SETTINGS.items()
        ],
        "new_url": url(request, "credential_new"),
        "vault_url": url(request, "vault"),
    }
    return page(request, "workspaces/credential_new.html", "vault", context, status=422 if form.errors else 200)


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("POST",))
def credential_check(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    credential = actions.verify_credential(
        workspace=workspace_of(request), by=actor(request), credential_id=credential_id
    )
    _tell(request, credential)
    return redirect(url(request, "vault"))


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("POST",))
def credential_disable(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    credential = actions.disable_credential(
        workspace=workspace_of(request), by=actor(request), credential_id=credential_id
    )
    messages.success(
        request, f"{reads.title_of(credential.provider)} “{credential.name}” is disabled. No call uses it from now on."
    )
    return redirect(url(request, "vault"))


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("POST",))
def credential_enable(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    credential = actions.enable_credential(
        workspace=workspace_of(request), by=actor(request), credential_id=credential_id
    )
    messages.success(request, f"{reads.title_of(credential.provider)} “{credential.name}” is in use again.")
    return redirect(url(request, "vault"))


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("GET", "POST"), confirmed_by="vault")
def credential_delete(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    if request.method == "POST":
        actions.delete_credential(workspace=workspace_of(request), by=actor(request), credential_id=credential_id)
        messages.success(request, "The key is destroyed.")
        return redirect(url(request, "vault"))
    found = [one for one in reads.credentials() if one.id == credential_id]
    if not found:
        raise NotThere("There is no such credential in this workspace.")
    context = {"credential": _shown(request, found[0]), "vault_url": url(request, "vault")}
    return page(request, "workspaces/credential_delete.html", "vault", context)


@workspace_page(Action.MANAGE_CREDENTIALS, methods=("GET", "POST"), confirmed_by="vault")
def credential_rotate(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    """Another key in the place of one: the same name and environment, so nothing that points at it has to change."""
    found = [one for one in reads.credentials() if one.id == credential_id]
    if not found:
        raise NotThere("There is no such credential in this workspace.")
    form = SecretForm(request.POST or None)
    if form.is_valid():
        try:
            credential = actions.rotate_credential(
                workspace=workspace_of(request),
                by=actor(request),
                credential_id=credential_id,
                secret=form.cleaned_data["secret"],
            )
        except Refused as error:
            refuse(form, error)
        else:
            _tell(request, credential)
            return redirect(url(request, "vault"))
    context = {"credential": _shown(request, found[0]), "form": form, "vault_url": url(request, "vault")}
    return page(request, "workspaces/credential_rotate.html", "vault", context, status=422 if form.errors else 200)


def _tell(request: HttpRequest, credential: ProviderCredential) -> None:
    title = reads.title_of(credential.provider)
    if credential.state == CredentialState.VERIFIED:
        messages.success(request, f"{title} accepted the key. It is sealed.")
    elif credential.state == CredentialState.REJECTED:
        messages.error(
            request, f"{credential.check_message} It is kept; calls use it only where no other credential is left."
        )
    else:
        messages.warning(
            request, credential.check_message or f"The key for {title} is sealed; it could not be checked."
        )


def _names() -> list[str]:
    """The providers that this installation offers."""
    absent: set[str] = set()
    if not settings.SIMULATOR_URL:
        absent.add("simulator")
    if not settings.ALLOW_PRIVATE_UPSTREAMS:
        absent.add("ollama")
    ordered = [*_FIRST, *(name for name in PROVIDERS if name not in _FIRST)]
    return [name for name in ordered if name not in absent]


def _with_base_url() -> list[str]:
    """The providers whose address a person gives, or may give instead of the one that the settings say."""
    return [
        name
        for name, access in PROVIDERS.items()
        if name == "ollama" or (not access.base_url and access.name not in _DERIVED)
    ]


def _offered(name: str, chosen: str) -> dict[str, Any]:
    access = PROVIDERS[name]
    hint = f"Keys start with {access.key_hint}" if access.key_hint else access.key_help or "Paste its API key."
    return {"name": name, "title": access.title, "note": _NOTES.get(name, hint), "is_chosen": name == chosen}


_TONES = {CredentialState.VERIFIED: "good", CredentialState.REJECTED: "bad", CredentialState.UNVERIFIED: "warn"}


def _shown(request: HttpRequest, credential: ProviderCredential) -> dict[str, Any]:
    is_off = credential.disabled_at is not None
    has_secret = credential.data_key_id is not None
    return {
        "id": str(credential.id),
        "provider": reads.title_of(credential.provider),
        "name": credential.name,
        "base_url": credential.base_url or actions.base_url_of(credential)
        if credential.settings
        else credential.base_url,
        "masked": f"••••••••{credential.last_four}" if has_secret else "no key needed",
        "environment": credential.environment,
        "state": "disabled" if is_off else credential.state,
        "tone": "" if is_off else _TONES[CredentialState(credential.state)],
        "message": "" if is_off else credential.check_message,
        "checked_at": credential.checked_at,
        "is_off": is_off,
        "check_url": url(request, "credential_check", credential.id),
        "rotate_url": url(request, "credential_rotate", credential.id) if has_secret else "",
        "disable_url": url(request, "credential_disable", credential.id),
        "enable_url": url(request, "credential_enable", credential.id),
        "delete_url": url(request, "credential_delete", credential.id),
    }

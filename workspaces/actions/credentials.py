"""Provider credentials: sealed on the way in, checked with a cheap call to the provider, never shown again.

The check is a network call, so it happens between two transactions: the credential is saved unverified first, and an answer that comes back
after the key was replaced is thrown away.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from workspaces import audit, outbound, policy_signal, tenancy
from workspaces.actions.base import changing, identity, words
from workspaces.actions.credential_use import settings_of
from workspaces.audit import Actor
from workspaces.domain import addresses
from workspaces.domain.providers import PROVIDERS, Access
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Workspace
from workspaces.vault import door
from workspaces.vault.models import CredentialState, ProviderCredential

CHECK_TIMEOUT_S = 5.0
LONGEST_SECRET = 4096
MOST_CREDENTIALS = 200


def add_credential(
    *,
    workspace: Workspace,
    by: Actor,
    provider: str,
    secret: str,
    name: str = "default",
    base_url: str = "",
    environment: str = "",
    priority: int = 0,
    weight: int = 1,
    timeouts: dict[str, float] | None = None,
    verify: bool = True,
) -> ProviderCredential:
    """Seal a provider key into the vault and, unless told otherwise, check it with the provider (at most 5 s).

    A key that the provider refuses is kept, marked `rejected`, with a message for people: they may fix it on the provider's side.
    """
    access = _access(provider)
    secret = _checked_secret(access, secret)
    base_url = _checked_base_url(access, base_url)
    use = settings_of(name=name, environment=environment, priority=priority, weight=weight, timeouts=timeouts)
    credential = ProviderCredential(provider=provider, base_url=base_url, **use)
    with changing(workspace):
        if ProviderCredential.objects.count() >= MOST_CREDENTIALS:
            raise Invalid(f"A workspace has at most {MOST_CREDENTIALS} credentials. Delete some first.")
        _put_secret(workspace, credential, secret)
        try:
            with transaction.atomic():
                credential.save(force_insert=True)
        except IntegrityError:
            raise Taken("There is a credential of this provider with this name.", field="name") from None
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="credential.add", target=str(credential.id),
            after={"provider": provider, "name": credential.name, "base_url": base_url, "last_four": credential.last_four},
        )  # fmt: skip
    if verify:
        return verify_credential(workspace=workspace, by=by, credential_id=credential.id)
    return credential


def rotate_credential(
    *,
    workspace: Workspace,
    by: Actor,
    credential_id: UUID | str,
    secret: str,
    base_url: str | None = None,
    verify: bool = True,
) -> ProviderCredential:
    """Replace the provider key; calls use the new one from the next one on.

    The base URL changes only together with the key: whoever could move it alone could have the old key sent to a place of their own.
    """
    with changing(workspace):
        credential = _found(credential_id, lock=True)
        access = _access(credential.provider)
        secret = _checked_secret(access, secret)
        before = {"last_four": credential.last_four, "base_url": credential.base_url}
        if base_url is not None:
            credential.base_url = _checked_base_url(access, base_url)
        _put_secret(workspace, credential, secret)
        credential.state, credential.checked_at, credential.check_message = CredentialState.UNVERIFIED, None, ""
        credential.save()
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="credential.rotate", target=str(credential.id),
            before=before, after={"last_four": credential.last_four, "base_url": credential.base_url},
        )  # fmt: skip
    if verify:
        return verify_credential(workspace=workspace, by=by, credential_id=credential.id)
    return credential


def verify_credential(*, workspace: Workspace, by: Actor, credential_id: UUID | str) -> ProviderCredential:
    """Ask the provider whether the key works, and keep the answer. Never raises for what the provider does."""
    with tenancy.entered(workspace):
        credential = _found(credential_id)
        asked = (bytes(credential.sealed or b""), credential.data_key_id)
        secret = door.open_secret(workspace, credential)
    state, message = _ask(credential, secret)
    with changing(workspace):
        credential = _found(credential_id, lock=True)
        if (bytes(credential.sealed or b""), credential.data_key_id) != asked:
            return credential  # replaced meanwhile: the answer was about another key
        was_rejected = credential.state == CredentialState.REJECTED
        credential.state, credential.check_message, credential.checked_at = state, message, timezone.now()
        credential.save(update_fields=["state", "check_message", "checked_at"])
        audit.record(
            workspace=workspace, by=by, action="credential.verify", target=str(credential.id), after={"state": state.value, "message": message}
        )  # fmt: skip
        if was_rejected != (state == CredentialState.REJECTED):
            policy_signal.bump(workspace)  # a rejected credential is used last
    return credential


def disable_credential(*, workspace: Workspace, by: Actor, credential_id: UUID | str) -> ProviderCredential:
    return _switch(workspace, by, credential_id, on=False)


def enable_credential(*, workspace: Workspace, by: Actor, credential_id: UUID | str) -> ProviderCredential:
    return _switch(workspace, by, credential_id, on=True)


def delete_credential(*, workspace: Workspace, by: Actor, credential_id: UUID | str) -> None:
    """Delete the credential and destroy the data key that sealed it; the other secrets move to a fresh one."""
    with changing(workspace):
        credential = _found(credential_id, lock=True)
        sealed = credential.sealed is not None
        audit.record(
            workspace=workspace, by=by, action="credential.delete", target=str(credential.id),
            before={"provider": credential.provider, "name": credential.name, "last_four": credential.last_four},
        )  # fmt: skip
        credential.delete()
        if sealed:
            door.renew_data_key(workspace)
        policy_signal.bump(workspace)


def base_url_of(credential: ProviderCredential) -> str:
    """Where a credential's provider is: its own base URL, the provider's, or the simulator's of this installation."""
    if credential.base_url:
        return credential.base_url
    if credential.provider == "simulator":
        return settings.SIMULATOR_URL
    return PROVIDERS[credential.provider].base_url


def _switch(workspace: Workspace, by: Actor, credential_id: UUID | str, *, on: bool) -> ProviderCredential:
    with changing(workspace):
        credential = _found(credential_id, lock=True)
        if (credential.disabled_at is None) != on:
            credential.disabled_at = None if on else timezone.now()
            credential.save(update_fields=["disabled_at"])
            policy_signal.bump(workspace)
            action = "credential.enable" if on else "credential.disable"
            audit.record(workspace=workspace, by=by, action=action, target=str(credential.id))
        return credential


def _ask(credential: ProviderCredential, secret: str) -> tuple[CredentialState, str]:
    """The provider's answer as a state and a sentence. Nothing of the provider's own text: it may repeat the key (SECURITY.md S57)."""
    access = PROVIDERS[credential.provider]
    if not access.check_path:
        return CredentialState.UNVERIFIED, f"{access.title} offers no way to check a key without a paid call."
    try:
        answer = outbound.get(
            base_url_of(credential), access.check_path, headers=access.headers(secret), timeout_s=CHECK_TIMEOUT_S
        )
    except outbound.OutboundFailed as failure:
        return CredentialState.UNVERIFIED, f"Could not be checked: {failure}"[:200]
    if answer.status == 200:
        return CredentialState.VERIFIED, ""
    if answer.status in (401, 403):
        return CredentialState.REJECTED, f"{access.title} refused this key (HTTP {answer.status})."
    if 300 <= answer.status < 400:
        return (
            CredentialState.UNVERIFIED,
            f"Answered with a redirect (HTTP {answer.status}), which is not followed. Check the base URL.",
        )
    return CredentialState.UNVERIFIED, f"Could not be checked: {access.title} answered HTTP {answer.status}."


def _access(provider: str) -> Access:
    access = PROVIDERS.get(provider)
    if access is None or (provider == "simulator" and not settings.SIMULATOR_URL):
        known = ", ".join(name for name in PROVIDERS if name != "simulator" or settings.SIMULATOR_URL)
        raise Invalid(f"Choose one of: {known}.", field="provider")
    return access


def _checked_secret(access: Access, secret: str) -> str:
    """The key as pasted, without the white space around it. It becomes a header, so it is one printable ASCII word."""
    if not isinstance(secret, str):
        raise Invalid("Paste the provider's key here.", field="secret")
    secret = secret.strip()
    if not secret and not access.key_optional:
        raise Invalid("Paste the provider's key here.", field="secret")
    if len(secret) > LONGEST_SECRET or not all("!" <= sign <= "~" for sign in secret):
        raise Invalid("This does not look like a key: it has spaces, line breaks or foreign letters.", field="secret")
    if secret.startswith(("slk_", "slt_")):
        raise Invalid("This is a key of Sluice. Paste the provider's own key here.", field="secret")
    return secret


def _checked_base_url(access: Access, base_url: str) -> str:
    base_url = words(base_url, field="base_url", longest=addresses.LONGEST_URL, required=False).rstrip("/")
    if not base_url:
        if not access.base_url and access.name != "simulator":
            raise Invalid(f"{access.title} needs a base URL, like https://api.example.com/v1.", field="base_url")
        return ""
    try:
        addresses.parse_base_url(base_url, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    except addresses.BadBaseUrl as error:
        raise Invalid(str(error), field="base_url") from None
    return base_url


def _put_secret(workspace: Workspace, credential: ProviderCredential, secret: str) -> None:
    """Seal; and keep the last four characters only where at least 20 stay hidden (SECURITY.md S6)."""
    credential.last_four = secret[-4:] if len(secret) >= 24 else ""
    if secret:
        door.seal(workspace, credential, secret)
    else:
        credential.sealed, credential.data_key = None, None


def _found(credential_id: UUID | str, *, lock: bool = False) -> ProviderCredential:
    rows = (
        ProviderCredential.objects.select_for_update()
        if lock
        else ProviderCredential.objects.select_related("data_key")
    )
    credential = rows.filter(pk=identity(credential_id)).first()
    if credential is None:
        raise NotThere("There is no such credential in this workspace.")
    return credential

"""Provider credentials: sealed on the way in, checked with a cheap call to the provider, never shown again.

The check is a network call, so it happens between two transactions: the credential is saved unverified first, and an answer that comes back
after the key was replaced is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from workspaces import audit, policy_signal, tenancy
from workspaces.actions import credential_checks
from workspaces.actions.base import changing, identity, words
from workspaces.actions.credential_use import settings_of
from workspaces.audit import Actor
from workspaces.domain import addresses, google_keys, sigv4
from workspaces.domain.providers import PROVIDERS, Access, Auth, BadSetting
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Workspace
from workspaces.vault import door
from workspaces.vault.models import CredentialState, ProviderCredential

LONGEST_SECRET = 4096
LONGEST_DOCUMENT = 8192
"""Of a service account's JSON, or an AWS session."""
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
    access_settings: Mapping[str, object] | None = None,
    priority: int = 0,
    weight: int = 1,
    timeouts: dict[str, float] | None = None,
    verify: bool = True,
) -> ProviderCredential:
    """Seal a provider key into the vault and, unless told otherwise, check it with the provider (at most 5 s).

    `access_settings`: what the provider needs beside the key (`Access.settings`): region, resource, project. Kept in the clear.

    A key that the provider refuses is kept, marked `rejected`, with a message for people: they may fix it on the provider's side.
    """
    access = _access(provider)
    secret = _checked_secret(access, secret)
    chosen = _checked_settings(access, access_settings or {}, secret)
    base_url = _checked_base_url(access, base_url, chosen)
    use = settings_of(name=name, environment=environment, priority=priority, weight=weight, timeouts=timeouts)
    credential = ProviderCredential(provider=provider, base_url=base_url, settings=chosen, **use)
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
            after={
                "provider": provider, "name": credential.name, "base_url": base_url, "settings": chosen, "last_four": credential.last_four,
            },
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
    access_settings: Mapping[str, object] | None = None,
    verify: bool = True,
) -> ProviderCredential:
    """Replace the provider key; calls use the new one from the next one on.

    The base URL and the settings change only together with the key: whoever could move them alone could have the old key sent to a place of
    their own.
    """
    with changing(workspace):
        credential = _found(credential_id, lock=True)
        access = _access(credential.provider)
        secret = _checked_secret(access, secret)
        before = _where(credential)
        chosen = _checked_settings(access, credential.settings if access_settings is None else access_settings, secret)
        credential.base_url = _checked_base_url(access, credential.base_url if base_url is None else base_url, chosen)
        credential.settings = chosen
        _put_secret(workspace, credential, secret)
        credential.state, credential.checked_at, credential.check_message = CredentialState.UNVERIFIED, None, ""
        credential.save()
        policy_signal.bump(workspace)
        audit.record(
            workspace=workspace, by=by, action="credential.rotate", target=str(credential.id),
            before=before, after=_where(credential),
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
    state, message = credential_checks.ask(credential, secret, base_url_of(credential))
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
    """Where a credential's provider is: its own base URL, what its settings say, the provider's, or the simulator's of this installation."""
    own = credential.base_url or (settings.SIMULATOR_URL if credential.provider == "simulator" else "")
    return PROVIDERS[credential.provider].address(credential.settings, own)


def _where(credential: ProviderCredential) -> dict[str, object]:
    """What the audit log keeps of a credential's key and address."""
    return {"last_four": credential.last_four, "base_url": credential.base_url, "settings": credential.settings}


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


def _access(provider: str) -> Access:
    access = PROVIDERS.get(provider)
    if access is None or (provider == "simulator" and not settings.SIMULATOR_URL):
        known = ", ".join(name for name in PROVIDERS if name != "simulator" or settings.SIMULATOR_URL)
        raise Invalid(f"Choose one of: {known}.", field="provider")
    return access


def _checked_secret(access: Access, secret: str) -> str:
    """The key as pasted, without the white space around it. It becomes a header, so it is one printable ASCII word; a service account's
    JSON is kept as one line of what is used of it."""
    if not isinstance(secret, str):
        raise Invalid("Paste the provider's key here.", field="secret")
    secret = secret.strip()
    if not secret and not access.key_optional:
        raise Invalid("Paste the provider's key here.", field="secret")
    try:
        if access.auth is Auth.GOOGLE:
            secret = google_keys.compact(secret, own_token_url=settings.ALLOW_PRIVATE_UPSTREAMS)
        elif access.auth is Auth.AWS:
            sigv4.parse(secret)
    except (google_keys.BadKey, sigv4.BadKey) as error:
        raise Invalid(str(error), field="secret") from None
    lowest = " " if access.auth is Auth.GOOGLE else "!"
    longest = LONGEST_SECRET if access.auth is Auth.HEADER else LONGEST_DOCUMENT
    if len(secret) > longest or not all(lowest <= sign <= "~" for sign in secret):
        raise Invalid("This does not look like a key: it has spaces, line breaks or foreign letters.", field="secret")
    if secret.startswith(("slk_", "slt_")):
        raise Invalid("This is a key of Sluice. Paste the provider's own key here.", field="secret")
    return secret


def _checked_settings(access: Access, given: Mapping[str, object], secret: str) -> dict[str, str]:
    """The settings to keep. A project that nobody named is the service account's own."""
    if not isinstance(given, Mapping):
        raise Invalid("The settings must be an object.", field="settings")
    if access.auth is Auth.GOOGLE and not given.get("project"):
        given = {**given, "project": google_keys.parse(secret).project}
    try:
        chosen = access.checked_settings(given)
    except BadSetting as error:
        raise Invalid(str(error), field=error.name) from None
    if access.auth is Auth.GOOGLE and not chosen.get("project"):
        raise Invalid("The service account's JSON names no project. Write its id here.", field="project")
    return chosen


def _checked_base_url(access: Access, base_url: str, chosen: Mapping[str, str]) -> str:
    """The credential's own base URL, or empty where the provider's or the settings' holds. Either may be contacted."""
    base_url = words(base_url, field="base_url", longest=addresses.LONGEST_URL, required=False).rstrip("/")
    address = access.address(chosen, base_url)
    if not address:
        if access.name == "simulator":
            return ""
        if access.settings:
            first = access.settings[0]
            raise Invalid(f"{first.title} is missing. {first.hint}", field=first.name)
        raise Invalid(f"{access.title} needs a base URL, like https://api.example.com/v1.", field="base_url")
    if base_url or access.settings:
        try:
            addresses.parse_base_url(address, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
        except addresses.BadBaseUrl as error:
            raise Invalid(str(error), field="base_url") from None
    return base_url


def _put_secret(workspace: Workspace, credential: ProviderCredential, secret: str) -> None:
    """Seal; and keep the last four characters only where at least 20 stay hidden (SECURITY.md S6)."""
    credential.last_four = _last_four(PROVIDERS[credential.provider], secret)
    if secret:
        door.seal(workspace, credential, secret)
    else:
        credential.sealed, credential.data_key = None, None


def _last_four(access: Access, secret: str) -> str:
    """What a person tells two keys apart by: of a key with a name of its own (which is no secret), the end of that name."""
    if access.auth is Auth.GOOGLE:
        return google_keys.parse(secret).key_id[-4:]
    pair = sigv4.parse(secret) if access.auth is Auth.AWS else None
    if pair is not None:
        return pair.access_key_id[-4:]
    return secret[-4:] if len(secret) >= 24 else ""


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

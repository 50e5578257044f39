"""Sealing and opening provider keys and a workspace's other secrets: the only door (STYLE.md, habit 5). Why it is right: `workspaces.domain.sealing`.

master key (environment) --wraps--> data key (one a workspace, `DataKey`) --seals--> provider key (`ProviderCredential.sealed`)

* A data key is bound to its workspace, its own id and the master key's fingerprint; a sealed secret to its workspace, credential,
  provider and data key. A row copied elsewhere, or a restored old row under a newer key, does not open.
* Opening accepts two master keys, `SLUICE_MASTER_KEY` and `SLUICE_MASTER_KEY_PREVIOUS`; wrapping uses the first. Rotation under
  traffic: put the new key in PREVIOUS everywhere, then swap the two, run `manage.py rotate_master_key`, then remove the old one. No
  step closes a secret to a running process.
* Deleting a credential destroys the data key that sealed it (the others are sealed anew under a fresh one); deleting a workspace
  destroys its data key. What a later leak of the sealed bytes shows is noise.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from uuid import UUID

from django.conf import settings

from workspaces import audit, tenancy
from workspaces.domain import sealing
from workspaces.errors import Refused
from workspaces.models import Workspace
from workspaces.vault.models import DataKey, ProviderCredential, SealedNote

log = logging.getLogger(__name__)


class VaultError(Refused):
    """A secret cannot be sealed or opened. Never carries key material."""


class VaultUnavailable(VaultError):
    """The master key is missing, malformed or not the one that wrapped: an operator's problem, which passes when it is put right."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "vault_unavailable"


class SecretUnreadable(VaultError):
    """This secret was damaged, moved or destroyed. It does not pass: the key must be pasted again."""

    status = HTTPStatus.CONFLICT
    code = "secret_unreadable"


@dataclass(frozen=True, slots=True)
class MasterKeys:
    primary_id: str
    by_id: dict[str, bytes] = field(repr=False)


def master_keys() -> MasterKeys:
    """The keys of the environment. Raises VaultUnavailable when the first is missing or one is malformed."""
    return _master_keys(settings.MASTER_KEY, settings.MASTER_KEY_PREVIOUS)


@lru_cache(maxsize=8)
def _master_keys(primary: str, previous: str) -> MasterKeys:
    first = _decoded("SLUICE_MASTER_KEY", primary)
    by_id = {sealing.key_id(first): first}
    if previous:
        second = _decoded("SLUICE_MASTER_KEY_PREVIOUS", previous)
        by_id.setdefault(sealing.key_id(second), second)
    return MasterKeys(sealing.key_id(first), by_id)


def _decoded(name: str, value: str) -> bytes:
    try:
        key = base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != sealing.KEY_BYTES or len(set(key)) < 8:
        raise VaultUnavailable(
            f"{name} is missing or malformed.", hint="Write 32 random bytes in base64: openssl rand -base64 32"
        )
    return key


def seal(workspace: Workspace, credential: ProviderCredential, secret: str) -> None:
    """Seal `secret` into the credential's fields (the caller saves the row, in the same transaction)."""
    with tenancy.entered(workspace):
        data_key = DataKey.objects.select_for_update().order_by("-created_at", "-id").first() or _new_data_key(
            workspace
        )
        _seal_with(workspace, data_key, credential, secret)


def open_secret(workspace: Workspace, credential: ProviderCredential) -> str:
    """The provider key of a credential; empty where the provider needs none. Raises VaultUnavailable or SecretUnreadable.

    A secret that does not open is in the audit log: somebody moved or changed it.
    """
    if credential.sealed is None:
        return ""
    with tenancy.entered(workspace):
        try:
            return _open(workspace, credential)
        except (sealing.Unreadable, DataKey.DoesNotExist):
            pass
        # Perhaps it was sealed anew, and its old data key destroyed, since the row was read.
        fresh = ProviderCredential.objects.select_related("data_key").filter(pk=credential.pk).first()
        try:
            if fresh is not None and fresh.data_key_id != credential.data_key_id:
                return _open(workspace, fresh)
        except sealing.Unreadable:
            pass
        log.error("credential %s of workspace %s does not open", credential.id, workspace.id)
        audit.record(workspace=workspace, by=audit.SYSTEM, action="credential.unreadable", target=str(credential.id))
        raise SecretUnreadable("This provider key cannot be read.", hint="Paste the key again.")


def _open(workspace: Workspace, credential: ProviderCredential) -> str:
    if credential.sealed is None:
        return ""
    if credential.data_key is None:
        raise sealing.Unreadable
    key = _unwrap(workspace, credential.data_key)
    associated = _secret_bound(workspace, credential.data_key, credential)
    return sealing.open_sealed(key, bytes(credential.sealed), associated=associated).decode()


def seal_note(workspace: Workspace, note_id: UUID, purpose: str, secret: str) -> None:
    """Keep a secret for something of the workspace, or keep another one for it."""
    with tenancy.entered(workspace):
        data_key = DataKey.objects.select_for_update().order_by("-created_at", "-id").first() or _new_data_key(
            workspace
        )
        note = SealedNote(id=note_id, purpose=purpose)
        _seal_note_with(workspace, data_key, note, secret)
        note.save()


def open_note(workspace: Workspace, note_id: UUID, purpose: str) -> str:
    """Raises VaultUnavailable or SecretUnreadable."""
    with tenancy.entered(workspace):
        note = SealedNote.objects.select_related("data_key").filter(pk=note_id, purpose=purpose).first()
        try:
            if note is not None:
                return _open_note(workspace, note)
        except sealing.Unreadable:
            log.error("%s %s of workspace %s does not open", purpose, note_id, workspace.id)
            audit.record(workspace=workspace, by=audit.SYSTEM, action="secret.unreadable", target=str(note_id))
        raise SecretUnreadable("This secret cannot be read.", hint="Make a new one.")


def forget_note(workspace: Workspace, note_id: UUID) -> None:
    with tenancy.entered(workspace):
        SealedNote.objects.filter(pk=note_id).delete()


def _open_note(workspace: Workspace, note: SealedNote) -> str:
    key = _unwrap(workspace, note.data_key)
    return sealing.open_sealed(key, bytes(note.sealed), associated=_note_bound(workspace, note.data_key, note)).decode()


def _seal_note_with(workspace: Workspace, data_key: DataKey, note: SealedNote, secret: str) -> None:
    note.data_key = data_key
    note.sealed = sealing.seal(
        _unwrap(workspace, data_key),
        secret.encode(),
        nonce=secrets.token_bytes(sealing.NONCE_BYTES),
        associated=_note_bound(workspace, data_key, note),
    )


def renew_data_key(workspace: Workspace) -> None:
    """Seal every secret of the workspace anew under a fresh data key and destroy the old ones (in the caller's transaction)."""
    with tenancy.entered(workspace):
        old = list(DataKey.objects.select_for_update())
        fresh = _new_data_key(workspace)
        for credential in ProviderCredential.objects.select_for_update(of=("self",)).filter(sealed__isnull=False):
            _seal_with(workspace, fresh, credential, open_secret(workspace, credential))
            credential.save(update_fields=["sealed", "data_key"])
        for note in SealedNote.objects.select_for_update(of=("self",)).select_related("data_key"):
            _seal_note_with(workspace, fresh, note, _open_note(workspace, note))
            note.save(update_fields=["sealed", "data_key"])
        DataKey.objects.filter(pk__in=[key.pk for key in old]).delete()


def shred(workspace: Workspace) -> None:
    """Destroy the workspace's data keys: nothing it ever sealed can be opened again."""
    with tenancy.entered(workspace):
        ProviderCredential.objects.update(sealed=None, data_key=None)
        SealedNote.objects.all().delete()
        DataKey.objects.all().delete()


def rewrap(workspace: Workspace) -> int:
    """Wrap the workspace's data keys with the primary master key where they are not. Returns how many were; safe to repeat."""
    primary = master_keys().primary_id
    done = 0
    with tenancy.entered(workspace):
        for data_key in DataKey.objects.select_for_update().exclude(master_key_id=primary):
            try:
                plain = _unwrap(workspace, data_key)
            except sealing.Unreadable:
                raise SecretUnreadable(f"data key {data_key.id} is damaged") from None
            _wrap(workspace, data_key, plain)
            data_key.save(update_fields=["wrapped", "master_key_id"])
            done += 1
    return done


def _new_data_key(workspace: Workspace) -> DataKey:
    data_key = DataKey()
    _wrap(workspace, data_key, secrets.token_bytes(sealing.KEY_BYTES))
    data_key.save(force_insert=True)
    return data_key


def _seal_with(workspace: Workspace, data_key: DataKey, credential: ProviderCredential, secret: str) -> None:
    credential.data_key = data_key
    credential.sealed = sealing.seal(
        _unwrap(workspace, data_key),
        secret.encode(),
        nonce=secrets.token_bytes(sealing.NONCE_BYTES),
        associated=_secret_bound(workspace, data_key, credential),
    )


def _wrap(workspace: Workspace, data_key: DataKey, plain: bytes) -> None:
    known = master_keys()
    data_key.master_key_id = known.primary_id
    data_key.wrapped = sealing.seal(
        known.by_id[known.primary_id],
        plain,
        nonce=secrets.token_bytes(sealing.NONCE_BYTES),
        associated=_data_key_bound(workspace, data_key),
    )


def _unwrap(workspace: Workspace, data_key: DataKey) -> bytes:
    master = master_keys().by_id.get(data_key.master_key_id)
    if master is None:
        raise VaultUnavailable(
            f"This installation lacks the master key {data_key.master_key_id}.",
            hint="Set SLUICE_MASTER_KEY, or SLUICE_MASTER_KEY_PREVIOUS, to the key it was wrapped with.",
        )
    return sealing.open_sealed(master, bytes(data_key.wrapped), associated=_data_key_bound(workspace, data_key))


def _data_key_bound(workspace: Workspace, data_key: DataKey) -> bytes:
    return sealing.bound("data key", str(workspace.id), str(data_key.id), data_key.master_key_id)


def _secret_bound(workspace: Workspace, data_key: DataKey, credential: ProviderCredential) -> bytes:
    return sealing.bound("provider key", str(workspace.id), str(credential.id), credential.provider, str(data_key.id))


def _note_bound(workspace: Workspace, data_key: DataKey, note: SealedNote) -> bytes:
    return sealing.bound("note", str(workspace.id), str(note.id), note.purpose, str(data_key.id))

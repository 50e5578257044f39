"""Minting and recognising keys. The texts are `workspaces.domain.keytext`; the peppers come from settings.

The gateway's cold path is `find_key(parse(text).locator)` and then `verify(key, stored)`; the warm path keeps `Stored` in memory and only
verifies. An unknown locator takes the same path as a wrong secret: call `verify(key, None)`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils import timezone

from workspaces.domain import keytext
from workspaces.domain.keytext import KeyKind, KeyText, MalformedKey
from workspaces.models import ApiToken, VirtualKey

__all__ = [
    "KeyKind", "KeyText", "MalformedKey", "Stored", "derive", "find_key", "find_token", "fingerprint_key", "mint", "parse", "recognise_token",
    "renew_virtual_key", "seal_digest", "verify",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """What a row keeps of a key."""

    digest: bytes
    pepper_version: int

    @classmethod
    def of(cls, row: VirtualKey | ApiToken) -> Stored:
        return cls(bytes(row.digest), row.pepper_version)


@dataclass(frozen=True, slots=True)
class Peppers:
    current: bytes
    current_version: int
    by_version: dict[int, bytes]


@lru_cache(maxsize=8)
def _peppers(current: str, previous: str) -> Peppers:
    peppers = [_decoded("SLUICE_PEPPER", current)]
    if previous:
        peppers.append(_decoded("SLUICE_PEPPER_PREVIOUS", previous))
    by_version = {keytext.pepper_version(pepper): pepper for pepper in reversed(peppers)}
    return Peppers(peppers[0], keytext.pepper_version(peppers[0]), by_version)


def _decoded(name: str, value: str) -> bytes:
    try:
        pepper = base64.b64decode(value, altchars=b"-_" if "-" in value or "_" in value else None, validate=True)
    except binascii.Error:
        pepper = b""
    if len(pepper) < 32:
        raise ImproperlyConfigured(f"{name}: write at least 32 random bytes in base64 (`openssl rand -base64 32`)")
    return pepper


@cache
def peppers() -> Peppers:
    """Those of the settings, which stay as they are for the life of a process."""
    return _peppers(settings.PEPPER, settings.PEPPER_PREVIOUS)


@receiver(setting_changed)
def _forget_peppers(**changed: Any) -> None:
    """Tests change settings; nothing else does."""
    peppers.cache_clear()


def mint(kind: KeyKind) -> KeyText:
    """A new key of 256 random bits. Its text is shown once and never kept: store `seal_digest(key)`."""
    locator = secrets.randbelow(62**keytext.LOCATOR_LENGTH)
    return keytext.build(kind, locator_random=locator, secret=secrets.token_bytes(keytext.SECRET_BYTES))


def derive(kind: KeyKind, label: str) -> KeyText:
    """The key that belongs to a label on this installation: the same each time, for commands that must be idempotent.

    Whoever can compute it holds the pepper, and so runs the installation. `mint` is for everything else.
    """
    pepper = peppers().current
    secret = hmac.new(pepper, b"sluice derived secret\0" + label.encode(), "sha256").digest()
    locator = hmac.new(pepper, b"sluice derived locator\0" + label.encode(), "sha256").digest()
    return keytext.build(
        kind, locator_random=int.from_bytes(locator, "big") % 62**keytext.LOCATOR_LENGTH, secret=secret
    )


def fingerprint_key(workspace_id: int) -> bytes:
    """The key of a workspace's call fingerprints, 32 bytes. It is nowhere stored: a copy of the database alone can test no guess at a prompt.
    After the pepper has changed, questions of before and after are no duplicates of each other."""
    return hmac.new(peppers().current, b"sluice call fingerprint\0%d" % workspace_id, "sha256").digest()


def parse(text: str, kind: KeyKind = KeyKind.VIRTUAL_KEY) -> KeyText:
    """Read a presented key. Raises MalformedKey before any lookup."""
    return keytext.parse(text, kind)


def seal_digest(key: KeyText) -> Stored:
    """What to store of a key, under the current pepper."""
    known = peppers()
    return Stored(keytext.digest(key, known.current), known.current_version)


_NOBODY = Stored(bytes(32), -1)


def verify(key: KeyText, stored: Stored | None) -> bool:
    """Whether the presented key is the stored one, in constant time.

    With None (unknown locator), and with a digest of a retired pepper, exactly the same work is done and the answer is no: one HMAC,
    one comparison of 32 bytes (SECURITY.md S10).
    """
    known = peppers()
    against = _NOBODY if stored is None else stored
    pepper = known.by_version.get(against.pepper_version)
    matches = hmac.compare_digest(keytext.digest(key, pepper or known.current), against.digest)
    return matches and pepper is not None


def is_outdated(stored: Stored) -> bool:
    """The digest was made with the previous pepper: the next successful use renews it."""
    return stored.pepper_version != peppers().current_version


def find_key(locator: str) -> VirtualKey | None:
    """The virtual key of a locator with its workspace, revoked and expired ones too. Synchronous; the shared schema, in any tenancy."""
    return VirtualKey.objects.select_related("workspace", "member__user").filter(locator=locator).first()


def find_token(locator: str) -> ApiToken | None:
    return ApiToken.objects.select_related("workspace", "user").filter(locator=locator).first()


def recognise_token(text: str) -> ApiToken | None:
    """The valid API token behind a text, or None. At most one query; a malformed text costs none."""
    try:
        key = parse(text, KeyKind.API_TOKEN)
    except MalformedKey:
        return None
    row = find_token(key.locator)
    if not verify(key, None if row is None else Stored.of(row)) or row is None:
        return None
    now = timezone.now()
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now) or not row.user.is_active:
        return None
    renew(row, key)
    return row


def renew(row: VirtualKey | ApiToken, key: KeyText) -> Stored:
    """After a successful `verify`: move a digest of the previous pepper to the current one, so that the previous can be retired.
    Answers what is stored now."""
    before = Stored.of(row)
    if not is_outdated(before):
        return before
    now = seal_digest(key)
    type(row)._default_manager.filter(pk=row.pk, pepper_version=before.pepper_version).update(
        digest=now.digest, pepper_version=now.pepper_version
    )
    return now


def renew_virtual_key(key: KeyText) -> Stored | None:
    """As `renew`, for a virtual key that was recognised from memory. None when it is not (any more) what is stored. Synchronous."""
    row = find_key(key.locator)
    if row is None or not verify(key, Stored.of(row)):
        return None
    return renew(row, key)

"""Sealing a secret: AES-256-GCM, bound by associated data to where it belongs. Pure: keys and nonces are arguments.

A blob is `0x01 | nonce (12) | ciphertext and tag`.

Why this is right:

* *Secrecy and integrity.* GCM is authenticated encryption: a changed bit anywhere (nonce, ciphertext, tag) fails the tag, and so does
  a changed format byte, which is part of the associated data. Every failure is the same `Unreadable`: no oracle tells them apart.
* *Binding.* The associated data names purpose, workspace, record, provider and key version, each with its length before it, so that no two
  different tuples give the same bytes. A blob copied to another record, tenant, provider or key version fails the tag.
* *Nonces.* 96 random bits under a data key that seals a workspace's few provider keys: with 2^20 seals under one key the chance of a
  repeated nonce is below 2^-56, far under NIST's 2^-32 for 2^32 seals (SP 800-38D, 8.3). Data keys are random: two never meet.
* *Wrapping.* Data keys are wrapped by the master key with the same construction; at 2^32 workspaces the bound above is just met.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = b"\x01"
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16


class Unreadable(Exception):
    """The blob is not what was sealed here for this place. Deliberately says no more."""


def bound(purpose: str, *fields: str) -> bytes:
    """Associated data: an injective encoding of the purpose and the fields."""
    parts = [FORMAT]
    for field in (purpose, *fields):
        raw = field.encode()
        parts += [len(raw).to_bytes(4, "big"), raw]
    return b"".join(parts)


def seal(key: bytes, plain: bytes, *, nonce: bytes, associated: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise ValueError("a nonce has 12 bytes and a key 32")
    return FORMAT + nonce + AESGCM(key).encrypt(nonce, plain, associated)


def open_sealed(key: bytes, blob: bytes, *, associated: bytes) -> bytes:
    """What was sealed. Raises Unreadable for anything but an intact blob of this key and this associated data."""
    if len(blob) < 1 + NONCE_BYTES + TAG_BYTES or blob[:1] != FORMAT:
        raise Unreadable
    try:
        return AESGCM(key).decrypt(blob[1 : 1 + NONCE_BYTES], blob[1 + NONCE_BYTES :], associated)
    except InvalidTag:
        raise Unreadable from None


def key_id(key: bytes) -> str:
    """A fingerprint of a master key, safe to store and print: 64 bits of a hash of 256 random bits."""
    return hashlib.sha256(b"sluice master key id\0" + key).hexdigest()[:16]

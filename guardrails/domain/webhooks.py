"""Signing webhooks as Standard Webhooks says (standardwebhooks.com, specification 1.0): HMAC-SHA256 over id, time and body. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_BYTES: Final = 32


class BadSecret(ValueError):
    """Not a signing secret: `whsec_` and base64."""


def secret_text(raw: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(raw).decode()


def secret_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise BadSecret("a signing secret is whsec_ followed by base64") from None


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """ "v1,<base64>" for the header `webhook-signature`."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()).decode()


def headers(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(secret, message_id, timestamp_s, body),
    }

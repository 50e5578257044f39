"""Google service accounts: the JSON key as it is pasted, the signed assertion it makes, and the access token that comes back. Pure.

Source: developers.google.com/identity/protocols/oauth2/service-account ("HTTP/REST"): a JWT signed with RS256 is exchanged for an access token
that lives an hour at most.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIVES_S = 3600
_KEPT = ("type", "project_id", "private_key_id", "private_key", "client_email", "token_uri")


class BadKey(ValueError):
    """The pasted text is no service account's key. The message says what to paste."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    email: str
    project: str
    key_id: str
    token_url: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    text: str = field(repr=False)
    lives_s: int


def compact(pasted: str, *, own_token_url: bool = False) -> str:
    """The part of a pasted key that is used, as one line. Raises BadKey.

    `own_token_url`: the key may name a token endpoint of its own (only where private upstreams are allowed; otherwise it is Google's).
    """
    try:
        given = json.loads(pasted)
    except ValueError:
        raise BadKey("Paste the whole JSON file of the service account's key.") from None
    if not isinstance(given, dict) or given.get("type") != "service_account":
        raise BadKey('Only a service account\'s key works here: JSON with "type": "service_account".')
    kept = {name: given[name] for name in _KEPT if isinstance(given.get(name), str)}
    missing = [name for name in ("private_key", "client_email") if not kept.get(name)]
    if missing:
        raise BadKey(f"The JSON of the service account has no {missing[0]}.")
    if kept.setdefault("token_uri", TOKEN_URL) != TOKEN_URL and not own_token_url:
        raise BadKey(f"The token_uri of the service account must be {TOKEN_URL}.")
    text = json.dumps(kept, separators=(",", ":"))
    _private_key(kept["private_key"])
    return text


def parse(secret: str) -> ServiceAccount:
    """What `compact` made. Raises BadKey."""
    try:
        kept = json.loads(secret)
        return ServiceAccount(
            email=kept["client_email"],
            project=kept.get("project_id", ""),
            key_id=kept.get("private_key_id", ""),
            token_url=kept.get("token_uri", TOKEN_URL),
            private_key=kept["private_key"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadKey("The stored key is no service account's JSON.") from None


def exchange(account: ServiceAccount, now_s: int) -> bytes:
    """The form to post to the account's token endpoint. Raises BadKey."""
    head = {"alg": "RS256", "typ": "JWT", **({"kid": account.key_id} if account.key_id else {})}
    claims = {
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_url,
        "iat": now_s,
        "exp": now_s + LIVES_S,
    }
    signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
    signature = _private_key(account.private_key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return urlencode({"grant_type": GRANT, "assertion": f"{signed}.{_encoded(signature)}"}).encode()


def read_token(body: bytes) -> Token | None:
    """The token of an answer, or None when there is none in it. A token that cannot be a header is none."""
    try:
        answer = json.loads(body)
        text, lives = answer["access_token"], answer.get("expires_in", LIVES_S)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(text, str) or not text or not all("!" <= sign <= "~" for sign in text):
        return None
    return Token(text, lives if type(lives) is int and 0 < lives <= 86_400 else 300)


@lru_cache(maxsize=64)
def _private_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadKey("The private_key of the service account cannot be read. Paste the file as it was downloaded.")
    return key


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

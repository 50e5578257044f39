"""AWS Signature Version 4 for a request whose bytes are all at hand. Pure: the time is an argument.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. Checked against AWS's published test suite
(tests/workspaces/test_sigv4.py). Every service but S3 encodes the path twice: once as it is sent, once more in what is signed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"


class BadKey(ValueError):
    """The key is neither a Bedrock API key nor a pair of an access key. The message says what to paste."""


@dataclass(frozen=True, slots=True)
class Keys:
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def parse(secret: str) -> Keys | None:
    """The pair (and session token) in a pasted secret, or None for a Bedrock API key, which is a bearer token. Raises BadKey."""
    parts = secret.split(":")
    if len(parts) == 1:
        if secret.startswith(("AKIA", "ASIA")):
            raise BadKey("The secret access key is missing: paste ACCESS_KEY_ID:SECRET_ACCESS_KEY.")
        return None
    if len(parts) > 3 or not all(parts) or not parts[0].isalnum():
        raise BadKey("Paste ACCESS_KEY_ID:SECRET_ACCESS_KEY, with :SESSION_TOKEN after it where there is one.")
    return Keys(*parts)


def headers(
    keys: Keys,
    *,
    method: str,
    path: str,
    sent: Mapping[str, str],
    body: bytes,
    region: str,
    service: str,
    now: datetime,
    query: str = "",
) -> dict[str, str]:
    """The headers to add to a request.

    `path` and `query` as they are sent (percent-encoded; the query's parameters sorted); `sent` holds the headers to sign, `host` among
    them, by lower-case names; `now` is UTC.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    signed = {**sent, **added}
    names = ";".join(sorted(signed))
    canonical = canonical_request(method, path, query, signed, body)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{_sha256(canonical.encode())}"
    key = f"AWS4{keys.secret_access_key}".encode()
    for step in (stamp[:8], region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    added["authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return added


def canonical_request(method: str, path: str, query: str, signed: Mapping[str, str], body: bytes) -> str:
    """What is hashed and signed."""
    lines = [f"{name}:{' '.join(value.split())}" for name, value in sorted(signed.items())]
    return "\n".join(
        (method, quote(path, safe="/~") or "/", query, *lines, "", ";".join(sorted(signed)), _sha256(body))
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Whether a provider key works: one cheap request to its provider, of the kind its way of taking keys needs. Never raises for an answer.

Nothing of the provider's own text is kept: it may repeat the key (SECURITY.md S57).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings

from workspaces import outbound
from workspaces.domain import google_keys, sigv4
from workspaces.domain.addresses import BadBaseUrl, parse_base_url
from workspaces.domain.providers import PROVIDERS, Access, Auth
from workspaces.vault.models import CredentialState, ProviderCredential

TIMEOUT_S = 5.0
Verdict = tuple[CredentialState, str]
_BAD_AWS_KEY = (
    "unrecognizedclient",
    "invalidsignature",
    "expiredtoken",
    "incompletesignature",
    "missingauthenticationtoken",
)


def ask(credential: ProviderCredential, secret: str, base_url: str) -> Verdict:
    """The provider's answer as a state and a sentence."""
    access = PROVIDERS[credential.provider]
    try:
        if access.auth is Auth.GOOGLE:
            return _exchange(access, secret)
        if not access.check_path:
            return CredentialState.UNVERIFIED, f"{access.title} offers no way to check a key without a paid call."
        place = access.check_address(credential.settings, credential.base_url) if access.settings else base_url
        if not credential.base_url and not access.settings:
            place = access.check_place({}) or base_url
        headers = _headers(access, credential.settings, secret, place)
        answer = outbound.get(place, access.check_path, headers=headers, timeout_s=TIMEOUT_S)
    except outbound.OutboundFailed as failure:
        return CredentialState.UNVERIFIED, f"Could not be checked: {failure}"[:200]
    except (BadBaseUrl, google_keys.BadKey, sigv4.BadKey) as error:
        return CredentialState.REJECTED, str(error)[:200]
    return _verdict(access, answer)


def _verdict(access: Access, answer: outbound.Answer) -> Verdict:
    if answer.status == 200:
        return CredentialState.VERIFIED, ""
    if answer.status in (401, 403):
        kind = answer.headers.get("x-amzn-errortype", "").lower()
        if access.auth is Auth.AWS and kind and not kind.startswith(_BAD_AWS_KEY):  # known, but may only call models
            return (
                CredentialState.UNVERIFIED,
                "AWS knows this key; it may not list models, so a call will have to show.",
            )
        return CredentialState.REJECTED, f"{access.title} refused this key (HTTP {answer.status})."
    if 300 <= answer.status < 400:
        return (
            CredentialState.UNVERIFIED,
            f"Answered with a redirect (HTTP {answer.status}), which is not followed. Check the base URL.",
        )
    return CredentialState.UNVERIFIED, f"Could not be checked: {access.title} answered HTTP {answer.status}."


def _headers(access: Access, chosen: Mapping[str, str], secret: str, place: str) -> Mapping[str, str]:
    pair = sigv4.parse(secret) if access.auth is Auth.AWS else None
    if pair is None:
        bearer = {"authorization": f"Bearer {secret}"} if access.auth is Auth.AWS else {}
        return {**bearer, **access.headers(secret)}
    origin, prefix = parse_base_url(place, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    return sigv4.headers(
        pair,
        method="GET",
        path=prefix + access.check_path,
        sent={"host": origin.host_header},
        body=b"",
        region=chosen.get("region", ""),
        service="bedrock",
        now=datetime.now(UTC),
    )


def _exchange(access: Access, secret: str) -> Verdict:
    """A service account is checked by what every call begins with: the exchange for an access token."""
    account = google_keys.parse(secret)
    parts = urlsplit(account.token_url)
    answer = outbound.post(
        f"{parts.scheme}://{parts.netloc}",
        parts.path,
        headers={"content-type": "application/x-www-form-urlencoded"},
        content=google_keys.exchange(account, int(time.time())),
        timeout_s=TIMEOUT_S,
    )
    if answer.status == 200 and google_keys.read_token(answer.body) is not None:
        return CredentialState.VERIFIED, ""
    if answer.status in (400, 401, 403):
        return CredentialState.REJECTED, f"Google refused this service account (HTTP {answer.status})."
    return CredentialState.UNVERIFIED, f"Could not be checked: {access.title} answered HTTP {answer.status}."

"""What a provider answers instead of an answer: its errors, passed on with its status, named, and never echoing a key."""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.errors import GatewayError, Headers, ProviderBadResponse
from gateway.upstream import Answer, Declined

MAX_ERROR_BYTES = 256 * 1024
MAX_DETAIL_BYTES = 16 * 1024
MAX_RETRY_AFTER_S = 3600
_RETRY_SAFE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LOOKS_LIKE_A_KEY = re.compile(
    r"\bya29\.[\w.-]+|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\b(?:(?:sk|slk|slt|gsk|xai|pplx|r8|hf|AIza|key)[-_][A-Za-z0-9*._-]{6,}|AIza[A-Za-z0-9_-]{8,})"
)
_MASK = "[key removed]"


class ProviderRefused(GatewayError):
    """The provider answered with an error status. Its own message, type and code pass on."""

    type = "provider_error"
    code = "provider_error"

    def __init__(self, status: int, provider: str, answer: Answer | Declined, body: bytes, secret: str) -> None:
        stated = _stated_error(body, secret)
        aws = (answer.get(b"x-amzn-errortype") or b"").decode("latin-1").partition(":")[0][:100]
        if aws:
            stated |= {"type": aws, "code": aws}
        super().__init__(
            stated.get("message") or f"{provider} answered with status {status}.",
            code=stated.get("code") or f"provider_{status}",
            param=stated.get("param"),
            hint=_hint(status, provider),
            facts={"provider": provider},
            retry_after_s=_retry_after(answer),
        )
        self.status = status
        self.type = stated.get("type") or self.type
        self.retry = status in _RETRY_SAFE
        self.details = _stated_details(body, secret)


async def refusal(answer: Answer, provider: str, secret: str) -> GatewayError:
    """Reads an error answer of a provider -> what to tell the client. Raises what reading raises."""
    if 300 <= answer.status < 400:
        return ProviderBadResponse(
            f"{provider} answered with a redirect, which is never followed.",
            code="redirect_refused",
            hint="Correct the base URL of the provider credential.",
            facts={"provider": provider},
        )
    if answer.status < 300:
        return ProviderBadResponse(
            f"{provider} answered with status {answer.status} and no answer.", facts={"provider": provider}
        )
    body = await answer.read(MAX_ERROR_BYTES)
    return ProviderRefused(answer.status, provider, answer, body, secret)


def safe_headers(answer: Answer) -> Headers:
    """The few of a provider's headers that pass on (SECURITY.md S34)."""
    get = answer.get
    return [(name, value) for name in _PASSED if (value := get(name)) is not None]


_PASSED = (b"openai-processing-ms", b"openai-version", b"openai-model")


def _stated_error(body: bytes, secret: str) -> dict[str, str]:
    """The string fields of an error in any provider's shape, keys masked; {} for another body, which is then not shown."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if type(plain) is list and plain:  # Google's streams answer with an array of one
        plain = plain[0]
    error: Any = plain.get("error") if type(plain) is dict else None
    if error is None and type(plain) is dict and type(plain.get("message")) is str:  # AWS, Cohere
        error = {"message": plain["message"]}
    if type(error) is str:
        error = {"message": error}
    if type(error) is not dict:
        return {}
    stated = {
        name: masked(str(value), secret)[:2000]
        for name in ("message", "type", "code", "param")
        if type(value := error.get(name)) in (str, int)
    }
    google = error.get("status")
    if type(google) is str:  # its code is the HTTP status once more
        stated |= {"type": google[:100], "code": google[:100].lower()}
    if "code" not in stated and "type" in stated:  # Anthropic has types only
        stated["code"] = stated["type"]
    return stated


def _stated_details(body: bytes, secret: str) -> Any:
    """`error.details`, an object (Anthropic's) or a list (Google's), keys masked; None where there are none, or too many."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(plain) is list and plain:
        plain = plain[0]
    error = plain.get("error") if type(plain) is dict else None
    details = error.get("details") if type(error) is dict else None
    if type(details) not in (dict, list) or not details:
        return None
    written = orjson.dumps(details)
    return orjson.loads(masked(written.decode(), secret)) if len(written) <= MAX_DETAIL_BYTES else None


def masked(text: str, secret: str) -> str:
    """The text without the provider key, and without anything that looks like one ("Incorrect API key provided: sk-...", S57)."""
    for part in (secret, *secret.split(":")):  # an AWS key is a pair, and its errors repeat what was signed
        if len(part) > 6:
            text = text.replace(part, _MASK)
    return _LOOKS_LIKE_A_KEY.sub(_MASK, text)


def _retry_after(answer: Answer | Declined) -> int | None:
    """The provider's Retry-After in seconds, at most an hour; None when it has none that is a number."""
    value, unit = (answer.get(b"retry-after") or b"").strip(), 1.0
    if not value:
        value, unit = (answer.get(b"retry-after-ms") or b"").strip(), 0.001
    try:
        seconds = float(value) * unit
    except ValueError:
        return None
    return max(0, min(MAX_RETRY_AFTER_S, int(-(-seconds // 1)))) if seconds == seconds else None


def _hint(status: int, provider: str) -> str:
    if status in (401, 403):
        return (
            f"The workspace's credential for {provider} was refused; an administrator should check it under Providers."
        )
    if status == 429:
        return f"{provider} limits the workspace's own account; wait and try again."
    if status >= 500:
        return f"{provider} failed; nothing was charged and the call can be repeated."
    return f"This is {provider}'s own answer; correct the request."

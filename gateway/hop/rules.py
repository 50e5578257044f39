"""What a failure means for another try. Pure.

Safe to repeat is what cost nothing: nothing was sent, or the provider answered with an error that it does not bill. What may have been billed
is never repeated; a rule may send it elsewhere (`no_answer`), and only on endpoints that make nothing but an answer.
"""

from __future__ import annotations

from gateway import endpoints
from gateway.errors import GatewayError, ProviderBadResponse, ProviderTimeout, ProviderUnreachable
from gateway.provider_errors import ProviderRefused
from workspaces.domain.routes import Condition

MOST_ATTEMPTS = 10
"""Of one call, whatever the rules say."""
ANSWERS_ONLY = frozenset(
    {
        endpoints.CHAT, endpoints.COMPLETIONS, endpoints.EMBEDDINGS, endpoints.MESSAGES, endpoints.GENERATE, endpoints.STREAM_EVENTS,
        endpoints.STREAM_ARRAY, endpoints.EMBED_GEMINI, endpoints.EMBED_GEMINI_MANY, endpoints.IMAGES, endpoints.IMAGE_EDITS,
        endpoints.IMAGE_VARIATIONS, endpoints.SPEECH, endpoints.TRANSCRIPTIONS, endpoints.TRANSLATIONS,
    }
)  # fmt: skip
"""Endpoints that leave nothing behind at the provider but a bill. Elsewhere (a stored response, a file, a batch) a second request could make a
second thing, so there only what was certainly not carried out is tried again."""
_ERRORS_MAKE_NOTHING = ANSWERS_ONLY | {endpoints.RESPONSES}
"""Endpoints whose answer with a 5xx says that nothing was made."""

_SERVER_ERRORS = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_NEVER_SENT = ("base_url_refused", "bad_credential")
"""Faults of a credential that a repetition meets again."""
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low")
"""429s that waiting does not mend."""


def condition_of(error: GatewayError) -> Condition | None:
    """Why an attempt failed, as far as another may do better; None for a fault of the request itself, or of ours."""
    if isinstance(error, BreakerOpen):
        return Condition.BREAKER_OPEN
    if isinstance(error, ProviderUnreachable):
        return Condition.UNREACHABLE
    if isinstance(error, ProviderTimeout | ProviderBadResponse):
        return None if error.code == "redirect_refused" else Condition.NO_ANSWER
    if isinstance(error, ProviderRefused):
        if error.status == 429:
            return Condition.RATE_LIMITED
        if error.status in (401, 403):
            return Condition.CREDENTIAL_REFUSED
        if error.status in _SERVER_ERRORS:
            return Condition.SERVER_ERROR
    return None


def may_go_on(condition: Condition, endpoint: str) -> bool:
    """Whether anything more may be sent for this call, here or elsewhere."""
    if condition is Condition.NO_ANSWER:
        return endpoint in ANSWERS_ONLY
    return condition is not Condition.SERVER_ERROR or endpoint in _ERRORS_MAKE_NOTHING


def may_repeat(error: GatewayError, condition: Condition, *, billed: bool) -> bool:
    """Whether the same may be asked of the same credential again. A rate limit only says when where it has a Retry-After."""
    if billed or error.code in _NEVER_SENT:
        return False
    if condition is Condition.RATE_LIMITED:
        return error.retry_after_s is not None and error.code not in _USED_UP
    return condition in (Condition.UNREACHABLE, Condition.SERVER_ERROR)


def pause_s(base_ms: int, repeated: int, retry_after_s: float | None, chance: float) -> float:
    """How long to wait before a repetition: what the provider said, else `base_ms` doubled for each one before, between half and all of it.

    `chance` is from 0 to 1: many callers must not come back at the same moment.
    """
    doubled = base_ms / 1000 * float(2**repeated)
    if retry_after_s is not None:
        return retry_after_s + doubled * chance / 4
    return doubled * (0.5 + chance / 2)


class BreakerOpen(GatewayError):
    """The credential has failed too often just now; nothing was sent."""

    status = 503
    type = "provider_error"
    code = "provider_circuit_open"
    hint = "Nothing was sent and nothing was charged; repeat the call after Retry-After. An alias with a second target would have gone there."
    retry = True

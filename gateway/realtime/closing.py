"""How a session ends: the close code and the error event that the client gets.

Codes of our own are 4000 and the HTTP status that the same refusal has elsewhere: 4402 a budget, 4429 a rate limit, 4401 a key, 4408 a limit of time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway.errors import GatewayError, ProviderBadResponse, ProviderTimeout
from gateway.upstream import Silent, UpstreamFailure
from guardrails.domain.refusals import Refusal
from workspaces.errors import Refused as WorkspaceRefused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    error: GatewayError | None = None
    reason: str = ""


def as_answer(error: GatewayError | Refusal | WorkspaceRefused) -> GatewayError:
    """The refusals of the other apps in the gateway's shape."""
    if isinstance(error, GatewayError):
        return error
    answer = GatewayError(error.args[0] if error.args else "", code=error.code, hint=error.hint or None)
    answer.status = int(error.status)
    if isinstance(error, Refusal):
        answer.type, answer.retry = error.type, error.retry
        answer.facts, answer.retry_after_s = error.facts, error.retry_after_s
        answer.headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    return answer


def closing_of(error: BaseException) -> Ended:
    if isinstance(error, UpstreamFailure):
        kind = ProviderTimeout if isinstance(error, Silent) else ProviderBadResponse
        return Ended(1014, kind("The provider's side of the session broke off."), "the provider broke off")
    if isinstance(error, GatewayError | Refusal | WorkspaceRefused):
        answer = as_answer(error)
        return Ended(4000 + answer.status, answer, answer.code)
    log.error("a realtime session failed", exc_info=error)
    return Ended(1011, GatewayError("The gateway failed."), "internal error")

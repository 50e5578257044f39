"""What the gateway answers when it does not forward, or when forwarding failed: one family, OpenAI's error shape, a hint in each.

`{"error": {"message", "type", "code", "param", "sluice": {"hint", "retry", ...facts}}}` (DESIGN section 6). `retry` says whether
repeating the call is safe; the OpenAI SDKs read it from `x-should-retry` and would otherwise repeat a call that may have been billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Headers = list[tuple[bytes, bytes]]
Fact = str | int | bool | None | list[str]


class GatewayError(Exception):
    """Base of the family. Class attributes are the contract; instances add the sentence, the facts and a parameter's name."""

    status = 500
    type = "api_error"
    code = "internal_error"
    hint = "Try again; if it keeps happening, tell your administrator the call id."
    retry: bool | None = None
    """True: repeating is safe. False: it is useless, or may be billed twice. None: left to the client."""
    details: Any = None
    """`error.details` of the surfaces that have it: an object (Anthropic's) or a list (Google's)."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        hint: str | None = None,
        facts: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.param = param
        self.hint = hint or self.hint
        self.facts = dict(facts or {})
        self.retry_after_s = retry_after_s
        self.headers = headers or []

    def payload(self, call_id: str) -> bytes:
        """The JSON object, for a body or for the data of an SSE error event."""
        sluice: dict[str, Any] = {"call_id": call_id, "hint": self.hint}
        if self.retry is not None:
            sluice["retry"] = self.retry
        if self.retry_after_s is not None:
            sluice["retry_after_s"] = self.retry_after_s
        sluice.update(self.facts)
        error = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "param": self.param,
            "sluice": sluice,
        }
        return orjson.dumps({"error": error})

    def answer_headers(self) -> Headers:
        """What goes beside the body: retry advice and the error's own headers."""
        headers: Headers = [(b"content-type", b"application/json"), *self.headers]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        if self.retry is not None:
            headers.append((b"x-should-retry", b"true" if self.retry else b"false"))
        return headers


# --- The request -------------------------------------------------------------------------------------------------------


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    hint = "Correct the request; sending it again unchanged gives the same answer."
    retry = False


class ThreadUnsupported(BadRequest):
    """In words that Anthropic's SDKs know: their tool runners go on without a thread, sending the whole conversation."""

    code = "thread_unsupported_request"
    hint = "Send the whole conversation, without `thread`."
    details = {"error_code": code, "unsupported": ["thread"]}


class ThreadNotFound(BadRequest):
    """In words that Anthropic's SDKs know: they begin a new thread with the whole conversation."""

    status = 404
    code = "thread_not_found"
    hint = (
        "Begin a new thread with the whole conversation; a thread is known to the workspace that began it, for 30 days."
    )
    details = {"error_code": code}


class ModelNotPriced(BadRequest):
    code = "model_not_priced"
    hint = "Ask an administrator to add a price for this model (Settings, Prices), or use a model that has one."


class InvalidKey(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    hint = "Send a Sluice virtual key as `Authorization: Bearer slk_...`; make one under Keys."
    retry = False


class NotAllowed(GatewayError):
    status = 403
    type = "permission_error"
    code = "not_allowed"
    hint = "Ask an administrator of the workspace."
    retry = False


class UnknownModel(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"
    hint = "GET /v1/models lists what this key can use."
    retry = False


class UnknownRoute(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "unknown_url"
    hint = "Point an OpenAI SDK at /v1, an Anthropic SDK at /anthropic and a Google one at /gemini."
    retry = False


class EndpointNotPriced(GatewayError):
    """A path of a provider's API whose calls have no bound on what they cost. It is refused, never proxied (SECURITY.md S71)."""

    status = 404
    type = "invalid_request_error"
    code = "endpoint_not_priced"
    hint = "What is offered stands in docs/conformance.md: chat, responses, embeddings, images, audio, files, batches and more."
    retry = False


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    hint = "See the Allow header of this answer."
    retry = False


class TooSlow(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    hint = "Send the whole body within the time limit."
    retry = True


class TooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"
    hint = "Send a smaller body, or ask the operator to raise SLUICE_MAX_BODY_BYTES."
    retry = False


class Unsupported(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    hint = "Send plain JSON with `Content-Type: application/json` and no Content-Encoding."
    retry = False


class UpgradeRequired(GatewayError):
    status = 426
    type = "invalid_request_error"
    code = "upgrade_required"
    hint = "Open it as a WebSocket: `wss://`, or `client.realtime.connect(model=...)`."
    retry = False


class HeadersTooLarge(GatewayError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"
    hint = "Send fewer or shorter headers."
    retry = False


# --- The policy --------------------------------------------------------------------------------------------------------


class OverBudget(GatewayError):
    """402 and not 429, because SDKs repeat a 429 and a spent budget does not come back by asking again."""

    status = 402
    type = "budget_exceeded"
    code = "budget_exceeded"
    hint = "Wait until the budget resets, or ask an administrator to raise it."
    retry = False


class LimitReached(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    hint = "Wait for the time in Retry-After, then send the call again."
    retry = True


# --- The provider ------------------------------------------------------------------------------------------------------


class ProviderUnreachable(GatewayError):
    status = 502
    type = "provider_error"
    code = "provider_unreachable"
    hint = "Nothing was sent and nothing was charged; the call can be repeated."
    retry = True


class ProviderBadResponse(GatewayError):
    status = 502
    type = "provider_error"
    code = "provider_bad_response"
    hint = "The provider received the call and may have billed it; repeating it may cost again."
    retry = False


class ProviderTimeout(GatewayError):
    status = 504
    type = "provider_error"
    code = "provider_timeout"
    hint = "The provider received the call and may have billed it; repeating it may cost again."
    retry = False


# --- Ourselves ---------------------------------------------------------------------------------------------------------


class Unavailable(GatewayError):
    """The gateway cannot admit calls now. Nothing was sent, nothing was charged."""

    status = 503
    type = "api_error"
    code = "unavailable"
    hint = "Nothing was sent and nothing was charged; the call can be repeated after Retry-After."
    retry = True


class NoRoom(Unavailable):
    """Files of other calls fill the memory that is set aside for them."""

    code = "overloaded"


class Restarting(GatewayError):
    """A stopping gateway ended a stream that outlasted the grace."""

    status = 503
    type = "api_error"
    code = "gateway_restarting"
    hint = "The answer was cut off because the gateway restarts; what was received so far has been charged."
    retry = False

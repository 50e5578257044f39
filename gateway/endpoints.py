"""The endpoints that a call can be for: the path a client asks, the name that prices and providers know it by, and how its body is read.

Exact paths only: whatever is spelled otherwise (//, %2e, ;) is unknown. What the providers offer besides is refused by name and never
proxied, because nobody could say beforehand what it costs (SECURITY.md S25, S71).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs

from gateway import bodies, forms
from gateway.edge import Call, Request, Scope

CHAT = "/v1/chat/completions"
MESSAGES = "/anthropic/v1/messages"
COUNT_TOKENS = "/anthropic/v1/messages/count_tokens"
RESPONSES = "/v1/responses"
RESPONSES_COUNT = "/v1/responses/input_tokens"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MODERATIONS = "/v1/moderations"
IMAGES = "/v1/images/generations"
IMAGE_EDITS = "/v1/images/edits"
IMAGE_VARIATIONS = "/v1/images/variations"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
REALTIME = "/v1/realtime"
"""A WebSocket (gateway.realtime), no call with a body."""
_GEMINI = "/gemini/v1beta/models/"
_GEMINI_V1 = "/gemini/v1/models/"
"""What newer SDKs ask by default: a part of v1beta, which is what the provider is asked."""
GENERATE = _GEMINI + "{model}:generateContent"
STREAM_EVENTS = _GEMINI + "{model}:streamGenerateContent?alt=sse"
STREAM_ARRAY = _GEMINI + "{model}:streamGenerateContent"
COUNT_GEMINI = _GEMINI + "{model}:countTokens"
EMBED_GEMINI = _GEMINI + "{model}:embedContent"
EMBED_GEMINI_MANY = _GEMINI + "{model}:embedContents"
"""Its path says batchEmbedContents, but it is answered at once and at the full price: to prices, "batch" means half of it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    """One name for all models, for prices, providers and the ledger."""
    read: Callable[[Request, bytes], Call]
    free: bool = False
    """The provider charges nothing: the key is checked, nothing is held and nothing is booked."""
    form: bool = False
    """Its body is a form with files."""


_EXACT = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(CHAT, bodies.read_chat),
        Endpoint(RESPONSES, bodies.read_responses),
        Endpoint(RESPONSES_COUNT, partial(bodies.read_responses, counting=True), free=True),
        Endpoint(COMPLETIONS, bodies.read_completion),
        Endpoint(EMBEDDINGS, bodies.read_embedding),
        Endpoint(MODERATIONS, bodies.read_moderation, free=True),
        Endpoint(IMAGES, bodies.read_images),
        Endpoint(IMAGE_EDITS, forms.read_edit, form=True),
        Endpoint(IMAGE_VARIATIONS, forms.read_variation, form=True),
        Endpoint(SPEECH, bodies.read_speech),
        Endpoint(TRANSCRIPTIONS, forms.read_audio, form=True),
        Endpoint(TRANSLATIONS, forms.read_audio, form=True),
        Endpoint(MESSAGES, bodies.read_messages),
        Endpoint(COUNT_TOKENS, partial(bodies.read_messages, counting=True), free=True),
    )
}
_VERBS = {
    "generateContent": GENERATE,
    "streamGenerateContent": STREAM_ARRAY,
    "countTokens": COUNT_GEMINI,
    "embedContent": EMBED_GEMINI,
    "batchEmbedContents": EMBED_GEMINI_MANY,
}
_MODEL_AND_VERB = re.compile(
    r"([A-Za-z0-9][\w.,=@-]*(?:/[A-Za-z0-9][\w.,=@-]*)*(?::[\w.,=@-]+)*?):([A-Za-z]+)", re.ASCII
)

NAMES = (*_EXACT, GENERATE, STREAM_EVENTS, STREAM_ARRAY, COUNT_GEMINI, EMBED_GEMINI, EMBED_GEMINI_MANY)

_PROVIDERS_OWN = re.compile(
    r"/v1/(assistants|audio|batches|chat/completions|chatkit|completions|containers|content_provenance_checks|conversations|decisions|embeddings"
    r"|evals|files|fine_tuning|fine-tunes|images|live|moderations|organization|projects|realtime|responses|safety|skills|threads|uploads"
    r"|vaults|vector_stores|videos|webhook_endpoints|webhook_event_types|webhooks|agents|edits|engines)(/.*)?"
    r"|/anthropic/v1/.+"
    r"|/gemini/(v1|v1alpha|v1beta)/.+"
    r"|/gemini/upload/.+"
)


def find(scope: Scope) -> Endpoint | None:
    """The endpoint of a request's path, or None."""
    path: str = scope["path"]
    if scope["raw_path"] != path.encode():
        return None
    known = _EXACT.get(path)
    if known is not None:
        return known
    for prefix in (_GEMINI, _GEMINI_V1):
        if path.startswith(prefix):
            return _gemini(path.removeprefix(prefix), scope["query_string"])
    return None


_AROUND = frozenset(
    {
        "/v1/realtime/client_secrets",
        "/v1/realtime/sessions",
        "/v1/realtime/transcription_sessions",
        "/v1/realtime/calls",
    }
)
"""Each hands its caller something of the provider's (a key, a WebRTC connection) by which a session runs past the gateway: nobody could hold,
meter or stop it."""


def goes_around(path: str) -> bool:
    """A realtime path after which the session would run past the gateway."""
    return path in _AROUND or path.startswith("/v1/realtime/calls/")


def is_providers_own(path: str) -> bool:
    """A path that one of the providers offers and we do not."""
    return _PROVIDERS_OWN.fullmatch(path) is not None


def _gemini(rest: str, query: bytes) -> Endpoint | None:
    parsed = _MODEL_AND_VERB.fullmatch(rest)
    if parsed is None or parsed[2] not in _VERBS:
        return None
    model, verb = parsed[1].removeprefix("models/"), parsed[2]
    name = _VERBS[verb]
    streamed = verb == "streamGenerateContent"
    if streamed and parse_qs(query.decode("latin-1")).get("alt") == ["sse"]:
        name = STREAM_EVENTS
    read = partial(bodies.read_gemini, model=model, verb=verb, streamed=streamed)
    return Endpoint(name, read, free=verb == "countTokens")

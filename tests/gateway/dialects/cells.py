"""The cells of the conformance table: every endpoint that every provider can be asked through, whole and streamed.

`python -m tests.gateway.dialects.cells > docs/conformance.md` writes the table; `test_conformance.py` runs each cell, and fails when the
page and the cells have parted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

os.environ.setdefault("SLUICE_MODE", "test")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from gateway import endpoints, stored
from gateway.providers.registry import PROVIDERS, Family, Provider
from gateway.translation import embeddings

STREAMED = frozenset({endpoints.CHAT, endpoints.COMPLETIONS, endpoints.RESPONSES, endpoints.MESSAGES})
STREAMED |= {endpoints.IMAGES, endpoints.IMAGE_EDITS, endpoints.SPEECH, endpoints.TRANSCRIPTIONS}
ALWAYS_STREAMED = frozenset({endpoints.STREAM_EVENTS, endpoints.STREAM_ARRAY})
FREE = frozenset({endpoints.COUNT_TOKENS, endpoints.COUNT_GEMINI, endpoints.RESPONSES_COUNT, endpoints.MODERATIONS})


@dataclass(frozen=True, slots=True)
class Cell:
    endpoint: str
    provider: str
    streamed: bool
    home: Provider | Family
    """Who of the provider speaks: itself, or the family of models."""

    @property
    def translated(self) -> bool:
        return self.endpoint not in self.home.dialects

    @property
    def family(self) -> str:
        """How the names of the family's models start; empty where the provider has no families."""
        return "" if isinstance(self.home, Provider) else self.home.name

    @property
    def id(self) -> str:
        return f"{self.provider} {self.family} {self.endpoint}{' streamed' if self.streamed else ''}"


def cells() -> Iterable[Cell]:
    for provider in PROVIDERS.values():
        homes: tuple[Provider | Family, ...] = provider.families or (provider,)
        for endpoint in endpoints.NAMES:
            for home in homes:
                if endpoint not in home.dialects and endpoint not in home.translations:
                    continue
                if endpoint not in ALWAYS_STREAMED:
                    yield Cell(endpoint, provider.name, False, home)
                if endpoint in STREAMED | ALWAYS_STREAMED:
                    yield Cell(endpoint, provider.name, True, home)


NAMES = {
    "OpenAIChat": "OpenAI completions",
    "OpenAIResponses": "OpenAI responses",
    "OpenAIMedia": "OpenAI images and audio",
    "OpenAISpeech": "OpenAI images and audio",
    "OpenAIEmbeddings": "OpenAI embeddings",
    "AnthropicMessages": "Anthropic messages",
    "GeminiGenerate": "Gemini generateContent",
    "ClaudeOnBedrock": "Bedrock InvokeModel",
    "OpenAIOnBedrock": "OpenAI completions",
    "OnFrames": "Bedrock Converse",
    "ClaudeOnVertex": "Vertex rawPredict",
    "CountOnVertex": "Vertex rawPredict",
    "GeminiOnVertex": "Vertex generateContent",
}
EMBEDDED = {
    embeddings.INVOKE: "Bedrock InvokeModel",
    embeddings.PREDICT: "Vertex predict",
    endpoints.EMBED_GEMINI_MANY: "Gemini batchEmbedContents",
}


def dialect_of(cell: Cell) -> str:
    if not cell.translated:
        return NAMES[type(cell.home.dialects[cell.endpoint]).__name__]
    translation = cell.home.translations[cell.endpoint]
    if cell.endpoint == endpoints.EMBEDDINGS:
        return EMBEDDED[translation.endpoint]
    outer = type(translation.dialect).__name__
    if outer in NAMES:
        return NAMES[outer]
    return "Anthropic messages" if translation.endpoint == endpoints.MESSAGES else "Gemini generateContent"


HEAD = """# What speaks to what

Each cell is a test of `tests/gateway/dialects/test_conformance.py`: a call through the gateway to a provider that answers with that
dialect's wire format, whose answer reaches the client and whose usage is on the bill, bucket by bucket. Written by
`python -m tests.gateway.dialects.cells > docs/conformance.md`; a test fails when this page is out of date.

`W` whole answers, `S` streams, `→` asked in another dialect than the endpoint's own and translated, `free` nothing is charged and nothing is
held. Whatever is not in this table is refused with 404 `endpoint_not_priced`.
"""


KEPT = """
## What providers keep

Asked for by id, with no model and no cost of its own; each is a test of `tests/gateway/dialects/test_kept.py`. An id is reachable only for
the workspace that made it, with the credential that made it. Background responses and batches are held when they are made (under a hard
budget nothing without a bound is made) and booked when somebody reads them, or when the gateway's own poll does: each line of a batch is an
entry at the batch price, once.
"""


TALKS = """
## Realtime

`GET {endpoint}` as a WebSocket, in OpenAI's realtime protocol, by its SDK: {providers}. Each response is an attempt with a hold and a line
of its own (docs/adr/0015, 0026); tests/gateway/realtime. Transcription sessions (`?intent=transcription`) likewise, a line for each piece of sound.
Translation and live sessions, client secrets and WebRTC are refused.
"""


SDKS = """
## SDKs

Unmodified, pointed here by base URL and key only; tests of `tests/gateway`.

| SDK | plain and streaming | asynchronous | tool runner | structured output |
| --- | --- | --- | --- | --- |
| `openai` | `test_openai_sdk`, `dialects/test_openai_breadth`, `dialects/test_media`, `dialects/test_kept`, `realtime` | the same | `dialects/test_sdk_runners` | `dialects/test_sdk_runners` |
| `anthropic` | `dialects/test_anthropic_sdk`, `dialects/test_kept` | the same | `dialects/test_anthropic_runners` (with threads) | `dialects/test_anthropic_sdk` |
| `google-genai` | `dialects/test_gemini_sdk` | the same | `dialects/test_gemini_sdk`, `dialects/test_sdk_runners` | the same |
"""  # noqa: E501 - a table's rows


REFUSED = """
## What is refused, and why

| asked for | answer | why |
| --- | --- | --- |
| files and batches, with Bedrock or Vertex only | 404 `batches_not_offered` | their batches are jobs over storage buckets (docs/adr/0021) |
| `thread` of Anthropic's messages at Bedrock or Vertex | 400 `thread_unsupported_request` | they keep none; SDKs go on with the whole conversation |
| the same, where a hard budget has no room for the window | 400 `thread_unsupported_request` | what lies in it is not seen (docs/adr/0011) |
| under a hard budget: an unknown beta, a tool without a bound | 400 `model_not_priced` | it could cost anything; else billed as measured |
"""


def kept() -> Iterable[str]:
    talking = [name for name, provider in PROVIDERS.items() if endpoints.REALTIME in provider.sockets]
    yield TALKS.format(endpoint=endpoints.REALTIME, providers=", ".join(talking))
    yield KEPT
    yield from ("| endpoint | methods | providers |", "| --- | --- | --- |")
    for pattern, handlers in stored.BY_PATH:
        path = re.sub(r"\(\?!.*?\)", "", pattern).replace(stored.ID, "{id}")
        providers = stored.MESSAGE_KEEPERS if path.startswith("/anthropic") else stored.KEEPERS
        if "/responses/" in path:
            providers = tuple(name for name, provider in PROVIDERS.items() if endpoints.RESPONSES in provider.dialects)
        yield f"| `{path}` | {' '.join(handlers)} | {', '.join(providers)} |"
    yield SDKS.rstrip("\n")
    yield REFUSED.rstrip("\n")


def table() -> str:
    lines = [HEAD]
    found = list(cells())
    lines += ["| endpoint | provider | dialect asked | answers |", "| --- | --- | --- | --- |"]
    rows = {(cell.endpoint, cell.provider, cell.family): None for cell in found}
    for endpoint in endpoints.NAMES:
        for provider, family in [(by, of) for named, by, of in rows if named == endpoint]:
            own = [
                cell for cell in found if (cell.endpoint, cell.provider, cell.family) == (endpoint, provider, family)
            ]
            if own:
                kinds = " ".join("S" if cell.streamed else "W" for cell in own)
                arrow = "→ " if own[0].translated else ""
                free = " free" if endpoint in FREE else ""
                lines.append(
                    f"| `POST {endpoint}` | {provider}{f' ({family})' if family else ''} | {arrow}{dialect_of(own[0])} | {kinds}{free} |"
                )
    return "\n".join([*lines, "", f"{len(found)} cells.", *kept()]) + "\n"


if __name__ == "__main__":
    print(table(), end="")

"""The cells of the conformance table: every endpoint that every provider can be asked through, whole and streamed.

`python -m tests.gateway.dialects.cells > docs/conformance.md` writes the table; `test_conformance.py` runs each cell, and fails when the
page and the cells have parted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

os.environ.setdefault("SLUICE_MODE", "test")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from gateway import endpoints
from gateway.providers.registry import PROVIDERS

STREAMED = frozenset({endpoints.CHAT, endpoints.COMPLETIONS, endpoints.RESPONSES, endpoints.MESSAGES})
STREAMED |= {endpoints.IMAGES, endpoints.IMAGE_EDITS, endpoints.SPEECH, endpoints.TRANSCRIPTIONS}
ALWAYS_STREAMED = frozenset({endpoints.STREAM_EVENTS, endpoints.STREAM_ARRAY})
FREE = frozenset({endpoints.COUNT_TOKENS, endpoints.COUNT_GEMINI, endpoints.RESPONSES_COUNT, endpoints.MODERATIONS})


@dataclass(frozen=True, slots=True)
class Cell:
    endpoint: str
    provider: str
    streamed: bool
    translated: bool

    @property
    def id(self) -> str:
        return f"{self.provider} {self.endpoint}{' streamed' if self.streamed else ''}"


def cells() -> Iterable[Cell]:
    for provider in PROVIDERS.values():
        for endpoint in endpoints.NAMES:
            if not provider.serves(endpoint):
                continue
            translated = endpoint not in provider.dialects
            if endpoint not in ALWAYS_STREAMED:
                yield Cell(endpoint, provider.name, False, translated)
            if endpoint in STREAMED | ALWAYS_STREAMED:
                yield Cell(endpoint, provider.name, True, translated)


def dialect_of(cell: Cell) -> str:
    provider = PROVIDERS[cell.provider]
    if cell.translated:
        native = provider.translations[cell.endpoint].endpoint
        return "Anthropic messages" if native == endpoints.MESSAGES else "Gemini generateContent"
    name = type(provider.dialects[cell.endpoint]).__name__
    return {
        "OpenAIChat": "OpenAI completions",
        "OpenAIResponses": "OpenAI responses",
        "OpenAIMedia": "OpenAI images and audio",
        "OpenAISpeech": "OpenAI images and audio",
        "OpenAIEmbeddings": "OpenAI embeddings",
        "AnthropicMessages": "Anthropic messages",
        "GeminiGenerate": "Gemini generateContent",
    }[name]


HEAD = """# What speaks to what

Each cell is a test of `tests/gateway/dialects/test_conformance.py`: a call through the gateway to a provider that answers with that
dialect's wire format, whose answer reaches the client and whose usage is on the bill, bucket by bucket. Written by
`python -m tests.gateway.dialects.cells > docs/conformance.md`; a test fails when this page is out of date.

`W` whole answers, `S` streams, `→` asked in another dialect than the endpoint's own and translated, `free` nothing is charged and nothing is
held. Whatever is not in this table is refused with 404 `endpoint_not_priced`.
"""


def table() -> str:
    lines = [HEAD]
    found = list(cells())
    lines += ["| endpoint | provider | dialect asked | answers |", "| --- | --- | --- | --- |"]
    for endpoint in endpoints.NAMES:
        for provider in PROVIDERS:
            own = [cell for cell in found if (cell.endpoint, cell.provider) == (endpoint, provider)]
            if own:
                kinds = " ".join("S" if cell.streamed else "W" for cell in own)
                arrow = "→ " if own[0].translated else ""
                free = " free" if endpoint in FREE else ""
                lines.append(f"| `POST {endpoint}` | {provider} | {arrow}{dialect_of(own[0])} | {kinds}{free} |")
    return "\n".join(lines) + f"\n\n{len(found)} cells.\n"


if __name__ == "__main__":
    print(table(), end="")

"""The providers as the gateway sees them: one declarative record each. A new one is a record here; a new family of APIs is a dialect.

Where they are and how they take a key is `workspaces.domain.providers`; what they speak, and how they bill, is here. The order is the order
of preference where several know a model. `cancel_stops_billing` follows OpenRouter's published table (BILLING.md 1.5); where that table is
silent, a cancel does not stop the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway import endpoints
from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.dialect import Dialect
from gateway.providers.gemini_generate import GeminiGenerate
from gateway.providers.openai_chat import OpenAIChat
from gateway.providers.openai_embeddings import OpenAIEmbeddings
from gateway.providers.openai_responses import OpenAIResponses
from gateway.providers.translation import Translation
from gateway.translation import dialects, to_anthropic, to_gemini
from workspaces.domain import providers

_CHAT = OpenAIChat()
_RESPONSES = OpenAIResponses()
_EMBEDDINGS = OpenAIEmbeddings()
_MESSAGES = AnthropicMessages()
_GENERATE = GeminiGenerate()

COMPATIBLE: Mapping[str, Dialect] = {
    endpoints.CHAT: _CHAT,
    endpoints.COMPLETIONS: _CHAT,
    endpoints.EMBEDDINGS: _EMBEDDINGS,
}
OPENAI: Mapping[str, Dialect] = {
    **COMPATIBLE,
    endpoints.RESPONSES: _RESPONSES,
    endpoints.RESPONSES_COUNT: _RESPONSES,
    endpoints.MODERATIONS: _EMBEDDINGS,
}
ANTHROPIC: Mapping[str, Dialect] = {endpoints.MESSAGES: _MESSAGES, endpoints.COUNT_TOKENS: _MESSAGES}
GEMINI: Mapping[str, Dialect] = {
    endpoints.GENERATE: _GENERATE,
    endpoints.STREAM_EVENTS: _GENERATE,
    endpoints.STREAM_ARRAY: GeminiGenerate(as_array=True),
    endpoints.COUNT_GEMINI: _GENERATE,
    endpoints.EMBED_GEMINI: _GENERATE,
    endpoints.EMBED_GEMINI_MANY: _GENERATE,
}

CLAUDE: Mapping[str, Translation] = {
    endpoints.CHAT: Translation(
        endpoints.MESSAGES, endpoints.MESSAGES, to_anthropic.request, dialects.anthropic(_MESSAGES), needs_limit=True
    )
}
GOOGLE: Mapping[str, Translation] = {
    endpoints.CHAT: Translation(
        endpoints.GENERATE, endpoints.STREAM_EVENTS, to_gemini.request, dialects.gemini(_GENERATE)
    )
}


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    dialects: Mapping[str, Dialect] = field(default_factory=lambda: COMPATIBLE)
    """What it speaks, by our endpoint."""
    translations: Mapping[str, Translation] = field(default_factory=dict)
    """What it does not speak but can be asked all the same, by our endpoint."""
    models: tuple[str, ...] = ("",)
    """How the names of its models start."""
    stream_usage_option: bool = True
    """Understands `stream_options.include_usage`. False: it states usage in streams unasked, and refuses or ignores the option."""
    cancel_stops_billing: bool = False
    bills_errors: bool = False
    sends_attempt: bool = False
    """Gets the attempt id in `X-Sluice-Attempt`. Only the simulator does: our ids are no business of a real provider."""

    timeouts: tuple[tuple[str, float], ...] = ()
    """Time limits in place of the gateway's: names of `workspaces.domain.routes.TIMEOUTS` and seconds. A credential's own go before."""

    @property
    def access(self) -> providers.Access:
        return providers.PROVIDERS[self.name]

    def serves(self, endpoint: str) -> bool:
        return endpoint in self.dialects or endpoint in self.translations


_RECORDS = (
    Provider("openai", OPENAI, cancel_stops_billing=True),
    Provider("anthropic", ANTHROPIC, CLAUDE, cancel_stops_billing=True),
    # Google's price list has Vertex's Claude as well, which the Gemini API does not serve
    Provider("gemini", GEMINI, GOOGLE, models=("gemini", "gemma", "learnlm", "text-embedding", "embedding", "models/")),
    Provider("simulator", {**OPENAI, **ANTHROPIC, **GEMINI}, sends_attempt=True),
    Provider("openai_compatible"),
    Provider("groq"),
    Provider("mistral", stream_usage_option=False),
    Provider("deepseek"),
    Provider("xai", cancel_stops_billing=True),
    Provider("openrouter"),
    Provider("together", cancel_stops_billing=True),
    Provider("fireworks", cancel_stops_billing=True),
    Provider("perplexity", stream_usage_option=False),
    Provider("ollama"),
)

PROVIDERS: dict[str, Provider] = {record.name: record for record in _RECORDS}

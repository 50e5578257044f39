"""The providers as the gateway sees them: one declarative record each. A new one is a record here; a new family of APIs is a dialect.

Where they are and how they take a key is `workspaces.domain.providers`; what they speak, and how they bill, is here. The order is the order
of preference where several know a model. `cancel_stops_billing` follows OpenRouter's published table (BILLING.md 1.5); where that table is
silent, a cancel does not stop the bill.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from gateway import endpoints
from gateway.providers import cloud_embeddings
from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.azure import azure_path
from gateway.providers.clouds import ClaudeOnBedrock, ClaudeOnVertex, CountOnVertex, GeminiOnVertex, OpenAIOnBedrock
from gateway.providers.converse import Converse, OnFrames
from gateway.providers.dialect import Dialect
from gateway.providers.gemini_generate import GeminiGenerate
from gateway.providers.openai_chat import OpenAIChat
from gateway.providers.openai_embeddings import OpenAIEmbeddings
from gateway.providers.openai_media import OpenAIMedia, OpenAISpeech
from gateway.providers.openai_responses import OpenAIResponses
from gateway.providers.translation import Request, Translation
from gateway.translation import dialects, embeddings, responses, to_anthropic, to_converse, to_gemini
from workspaces.domain import providers

_CHAT = OpenAIChat()
_RESPONSES = OpenAIResponses()
_EMBEDDINGS = OpenAIEmbeddings()
_MESSAGES = AnthropicMessages()
_GENERATE = GeminiGenerate()

_IMAGES = {name: OpenAIMedia(name, holds="data") for name in (endpoints.IMAGES, endpoints.IMAGE_EDITS)}
_VARIATIONS = {endpoints.IMAGE_VARIATIONS: OpenAIMedia(endpoints.IMAGE_VARIATIONS, holds="data")}
_SPEECH = {endpoints.SPEECH: OpenAIMedia(endpoints.SPEECH, holds="text", binary=True)}
_HEARING = {name: OpenAIMedia(name, holds="text") for name in (endpoints.TRANSCRIPTIONS, endpoints.TRANSLATIONS)}
_MEDIA: Mapping[str, Dialect] = {**_IMAGES, **_VARIATIONS, **_SPEECH, **_HEARING}

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
    **_MEDIA,
    endpoints.SPEECH: OpenAISpeech(endpoints.SPEECH),
}
AZURE: Mapping[str, Dialect] = {
    **COMPATIBLE,
    endpoints.RESPONSES: _RESPONSES,
    **_IMAGES,
    **_HEARING,
    endpoints.SPEECH: OpenAISpeech(endpoints.SPEECH),
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


def claude(
    door: Callable[[Dialect], Dialect] = lambda dialect: dialect,
) -> Mapping[str, Translation]:
    """OpenAI's APIs asked of Claude, wherever it is sold: `door` puts a dialect behind a cloud's paths."""
    own = endpoints.MESSAGES
    chat, response = door(dialects.anthropic(_MESSAGES)), door(dialects.anthropic_responses(_MESSAGES))
    return {
        endpoints.CHAT: Translation(own, own, to_anthropic.request, chat, needs_limit=True),
        endpoints.RESPONSES: Translation(
            own, own, _asked_by_response(to_anthropic.request), response, needs_limit=True
        ),
    }


def google(
    door: Callable[[Dialect], Dialect] = lambda dialect: dialect,
) -> Mapping[str, Translation]:
    """OpenAI's APIs asked of Gemini."""
    whole, streams = endpoints.GENERATE, endpoints.STREAM_EVENTS
    chat, response = door(dialects.gemini(_GENERATE)), door(dialects.gemini_responses(_GENERATE))
    return {
        endpoints.CHAT: Translation(whole, streams, to_gemini.request, chat),
        endpoints.RESPONSES: Translation(whole, streams, _asked_by_response(to_gemini.request), response),
    }


def embeds(endpoint: str, request: Request, dialect: Dialect) -> Mapping[str, Translation]:
    """OpenAI's embeddings, asked in another's words."""
    return {endpoints.EMBEDDINGS: Translation(endpoint, endpoint, request, dialect)}


def amazon(*, by_tool: bool = False) -> Mapping[str, Translation]:
    """OpenAI's APIs asked of whatever Bedrock's Converse answers for. `by_tool`: a schema is answered through a tool of ours."""
    whole, streams = to_converse.ENDPOINT, to_converse.STREAM_ENDPOINT
    ask = partial(to_converse.request, by_tool=by_tool)
    chat = OnFrames(dialects.converse(Converse(), by_tool=by_tool))
    response = OnFrames(dialects.converse_responses(Converse(), by_tool=by_tool))
    return {
        endpoints.CHAT: Translation(whole, streams, ask, chat),
        endpoints.RESPONSES: Translation(whole, streams, _asked_by_response(ask), response),
    }


def _asked_by_response(by_chat: Request) -> Request:
    """The translation of a response's request by way of the chat completion's."""
    return lambda fields, model: responses.translated(fields, model, by_chat)


@dataclass(frozen=True, slots=True)
class Family:
    """What a cloud speaks to one family of the models it sells."""

    name: str
    """For people."""
    models: re.Pattern[str]
    """Of their names, from the start."""
    dialects: Mapping[str, Dialect]
    translations: Mapping[str, Translation]


_INVOKED = cloud_embeddings.InvokedEmbeddings()
BEDROCK = (
    Family(
        "claude",
        re.compile(r"(?:[a-z-]+\.)?anthropic\.claude"),
        {endpoints.MESSAGES: ClaudeOnBedrock(_MESSAGES)},
        claude(ClaudeOnBedrock),
    ),
    Family("openai", re.compile(r"(?:[a-z-]+\.)?openai\.gpt-oss"), {endpoints.CHAT: OpenAIOnBedrock(_CHAT)}, {}),
    Family(
        "titan embeddings",
        re.compile(r"amazon\.titan-embed-(?:text|g1)"),
        {},
        embeds(embeddings.INVOKE, embeddings.titan, _INVOKED),
    ),
    Family(
        "cohere embeddings",
        re.compile(r"(?:[a-z-]+\.)?cohere\.embed"),
        {},
        embeds(embeddings.INVOKE, embeddings.cohere, _INVOKED),
    ),
    Family(
        "nova", re.compile(r"(?:[a-z-]+\.)?amazon\.nova(?!.*(?:embed|sonic|canvas|reel))"), {}, amazon(by_tool=True)
    ),
    Family(
        "others",
        re.compile(r"(?!.*(?:embed|sonic|canvas|reel|rerank|openai\.))(?:[a-z-]+\.)?[a-z0-9]+\."),
        {},
        amazon(),
    ),
)
VERTEX = (
    Family(
        "claude",
        re.compile(r"claude"),
        {endpoints.MESSAGES: ClaudeOnVertex(_MESSAGES), endpoints.COUNT_TOKENS: CountOnVertex(_MESSAGES)},
        claude(ClaudeOnVertex),
    ),
    Family(
        "gemini embeddings",
        re.compile(r"gemini-embedding"),
        {},
        {
            **embeds(endpoints.EMBED_GEMINI_MANY, embeddings.vertex_gemini, cloud_embeddings.vertex_gemini()),
            **{
                name: Translation(name, name, embeddings.vertex_native, GeminiOnVertex(GEMINI[name]))
                for name in (endpoints.EMBED_GEMINI, endpoints.EMBED_GEMINI_MANY)
            },
        },
    ),
    Family(
        "text embeddings",
        re.compile(r"text-(?:multilingual-)?embedding|textembedding"),
        {},
        embeds(embeddings.PREDICT, embeddings.vertex, cloud_embeddings.vertex()),
    ),
    Family(
        "gemini",
        re.compile(r"gemini|gemma"),
        {
            name: GeminiOnVertex(GEMINI[name])
            for name in (endpoints.GENERATE, endpoints.STREAM_EVENTS, endpoints.STREAM_ARRAY, endpoints.COUNT_GEMINI)
        },
        google(GeminiOnVertex),
    ),
)
_EMBEDS_ON_GEMINI = embeds(endpoints.EMBED_GEMINI_MANY, embeddings.gemini, cloud_embeddings.gemini())
_NONE = Family("", re.compile(r"(?!)"), {}, {})


def _as_it_is(path: str, model: str, settings: providers.Settings) -> str:
    return path


def _same_name(model: str, settings: providers.Settings) -> str:
    return model


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    dialects: Mapping[str, Dialect] = field(default_factory=lambda: COMPATIBLE)
    """What it speaks, by our endpoint."""
    translations: Mapping[str, Translation] = field(default_factory=dict)
    """What it does not speak but can be asked all the same, by our endpoint."""
    families: tuple[Family, ...] = ()
    """Where what it speaks depends on the model. Then `dialects` and `translations` are empty."""
    models: tuple[str, ...] = ("",)
    """How the names of its models start."""
    stream_usage_option: bool = True
    """Understands `stream_options.include_usage`. False: it states usage in streams unasked, and refuses or ignores the option."""
    cancel_stops_billing: bool = False
    bills_errors: bool = False
    wire_model: Callable[[str, providers.Settings], str] = _same_name
    """A model, and the credential's settings -> the name that the provider knows it by."""
    listed_model: Callable[[str, providers.Settings], str] = _same_name
    """The other way round, for what names models as the provider does: the lines of a batch's file."""
    placed: Callable[[str, str, providers.Settings], str] = _as_it_is
    """A dialect's path, the model's name and the settings -> the path to ask."""
    sockets: frozenset[str] = frozenset()
    """What it speaks over a WebSocket, by our endpoint."""
    sends_attempt: bool = False
    """Gets the attempt id in `X-Sluice-Attempt`. Only the simulator does: our ids are no business of a real provider."""

    timeouts: tuple[tuple[str, float], ...] = ()
    """Time limits in place of the gateway's: names of `workspaces.domain.routes.TIMEOUTS` and seconds. A credential's own go before."""

    @property
    def access(self) -> providers.Access:
        return providers.PROVIDERS[self.name]

    def dialect(self, endpoint: str, model: str) -> Dialect | None:
        """What it speaks to this model; None: it must be translated to, or is not reached through the endpoint."""
        return self._home(model).dialects.get(endpoint)

    def translation(self, endpoint: str, model: str) -> Translation:
        """For an endpoint that it `serves` without speaking it."""
        return self._home(model).translations[endpoint]

    def serves(self, endpoint: str, model: str) -> bool:
        home = self._home(model)
        return endpoint in home.dialects or endpoint in home.translations or endpoint in self.sockets

    def serves_any(self, endpoint: str) -> bool:
        """Whether any of its models is reached through an endpoint."""
        homes: tuple[Provider | Family, ...] = self.families or (self,)
        return endpoint in self.sockets or any(
            endpoint in home.dialects or endpoint in home.translations for home in homes
        )

    def _home(self, model: str) -> Provider | Family:
        if not self.families:
            return self
        return next((family for family in self.families if family.models.match(model)), _NONE)


_TALKS = frozenset({endpoints.REALTIME})

_RECORDS = (
    Provider("openai", OPENAI, cancel_stops_billing=True, sockets=_TALKS),
    Provider("anthropic", ANTHROPIC, claude(), cancel_stops_billing=True),
    # Google's price list has Vertex's Claude as well, which the Gemini API does not serve
    Provider("gemini", GEMINI, {**google(), **_EMBEDS_ON_GEMINI}, models=("gemini", "gemma", "learnlm", "text-embedding", "embedding", "models/")),
    Provider("simulator", {**OPENAI, **ANTHROPIC, **GEMINI}, sends_attempt=True, sockets=_TALKS),
    Provider("openai_compatible", {**COMPATIBLE, **_MEDIA}, sockets=_TALKS),
    # Its price list has what Foundry sells of others, too, which this API does not serve
    Provider(
        "azure", AZURE, models=("gpt", "o1", "o3", "o4", "codex", "text-embedding", "computer-use", "model-router"),
        cancel_stops_billing=True, wire_model=providers.deployment_of, listed_model=providers.model_of, placed=azure_path, sockets=_TALKS,
    ),
    Provider("bedrock", {}, families=BEDROCK),
    Provider("vertex", {}, families=VERTEX),
    Provider("groq", {**COMPATIBLE, **_SPEECH, **_HEARING}),
    Provider(
        "mistral",
        {**COMPATIBLE, endpoints.TRANSCRIPTIONS: _HEARING[endpoints.TRANSCRIPTIONS]},
        stream_usage_option=False,
    ),
    Provider("deepseek", cancel_stops_billing=True),
    Provider(
        "xai", {**COMPATIBLE, endpoints.RESPONSES: _RESPONSES, endpoints.IMAGES: _IMAGES[endpoints.IMAGES]},
        cancel_stops_billing=True,
    ),
    Provider("openrouter"),
    Provider("together", {**COMPATIBLE, **_IMAGES, **_SPEECH, **_HEARING}, cancel_stops_billing=True),
    Provider("fireworks", cancel_stops_billing=True),
    Provider("perplexity", stream_usage_option=False),
    # Its compatible API refuses stream_options (strandsagents.com/docs/user-guide/concepts/model-providers/cohere)
    Provider("cohere", stream_usage_option=False, cancel_stops_billing=True),
    Provider("ollama"),
)  # fmt: skip

PROVIDERS: dict[str, Provider] = {record.name: record for record in _RECORDS}

"""The simulator's routes: three dialects, its models, and the pages that tell a person what it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec

from gateway.simulator import (
    anthropic,
    completions,
    embeddings,
    gemini,
    media,
    moderations,
    openai,
    openai_ask,
    realtime,
    responses,
)
from gateway.simulator.caching import PrefixCache
from gateway.simulator.catalogue import MODELS, find
from gateway.simulator.dialect import Dialect, Reading, Refused, known_model
from gateway.simulator.generate import Ask, generate
from gateway.simulator.http import Connection, Exchange, Request
from gateway.simulator.instant import InstantAnswers
from gateway.simulator.invoice import Book
from gateway.simulator.page import page
from gateway.simulator.play import Player
from gateway.simulator.sockets import Peer, head_of
from gateway.simulator.stored import Stored, background
from gateway.simulator.threads import Threads

OPENAI, ANTHROPIC, GEMINI = openai.OpenAI(), anthropic.Anthropic(), gemini.Gemini()
RESPONSES, COMPLETIONS = responses.Responses(), completions.Completions()
BORN_S = 1_767_225_600
"""When its models were "released": 2026-01-01."""


@dataclass(frozen=True, slots=True)
class Settings:
    prefix: str = "/simulator"
    require_key: bool = False
    attempt_header: str = "X-Sluice-Attempt"
    defaults: dict[str, Any] = field(default_factory=dict)
    """Script options every request starts from, like {"bills_on_abort": "full"}."""


class App:
    def __init__(self, settings: Settings, book: Book) -> None:
        self._settings = settings
        self._book = book
        self._cache = PrefixCache()
        self.stored = Stored(book)
        self.threads = Threads()
        self._attempt_header = settings.attempt_header.lower()
        self.instant = InstantAnswers(book, settings.prefix + "/v1/chat/completions", settings.attempt_header)
        self._without_instant = settings.require_key or bool(settings.defaults)

    @property
    def prefix(self) -> str:
        return self._settings.prefix

    def answer_instantly(self, url: bytes, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        return None if self._without_instant else self.instant(url, body, headers)

    def upgrade(self, request: Request, connection: Connection, transport: asyncio.Transport, url: bytes) -> bool:
        """A WebSocket for a realtime session; False where the answer is an error in plain HTTP."""
        if request.path != self._settings.prefix + "/v1/realtime" or not request.header("upgrade"):
            return False
        asked = parse_qs(request.query)
        hears = asked.get("intent") == ["transcription"]
        name = asked.get("model", ["sim-hear" if hears else ""])[0]
        try:
            self._check_key(request)
            model, script = known_model(name, medium="hearing" if hears else "talk")
        except Refused:
            return False
        reading = Reading(defaults=self._settings.defaults)
        Peer(realtime.Talk(model, script, reading, self._book).run, connection).take_over(
            transport, head_of(url, request.headers)
        )
        return True

    async def serve(self, request: Request, exchange: Exchange) -> None:
        """One request, whatever it is."""
        path = request.path.removeprefix(self._settings.prefix)
        dialect: Dialect = (
            ANTHROPIC if path.startswith("/v1/messages") else GEMINI if path.startswith("/v1beta/") else OPENAI
        )
        try:
            if not request.path.startswith(self._settings.prefix):
                raise Refused(404, f"Nothing here. The simulator answers under {self._settings.prefix}/.")
            if request.method == "GET":
                self._get(path, request, exchange)
            elif request.method == "POST":
                await self._post(path, request, exchange)
            elif request.method == "DELETE":
                self._check_key(request)
                if not self.stored.answer(path, request, exchange):
                    raise Refused(404, f"Invalid URL (DELETE {path}).")
            else:
                raise Refused(405, f"Not allowed to {request.method} on {path}.")
        except Refused as refused:
            exchange.respond(refused.status, msgspec.json.encode(dialect.error(refused)), headers=refused.headers)

    def _get(self, path: str, request: Request, exchange: Exchange) -> None:
        if path in ("", "/"):
            exchange.respond(200, page(self._settings.prefix, self._book.totals).encode(), "text/html; charset=utf-8")
            return
        if path == "/invoice.json":
            exchange.respond(200, msgspec.json.encode(self._book.totals))
            return
        self._check_key(request)
        if self.stored.answer(path, request, exchange):
            return
        if path == "/v1/realtime":  # a handshake that was not taken
            known_model(parse_qs(request.query).get("model", [""])[0], medium="talk")
            raise Refused(426, "Open it as a WebSocket.")
        collection, _, name = path.removeprefix("/v1beta").removeprefix("/v1").strip("/").partition("/")
        if collection != "models":
            raise Refused(404, f"Invalid URL (GET {path}).")
        show = (
            _gemini_model
            if path.startswith("/v1beta/")
            else _anthropic_model
            if request.header("anthropic-version")
            else _openai_model
        )
        if name:
            if find(name) is None:
                raise Refused(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")
            exchange.respond(200, msgspec.json.encode(show(name)))
            return
        models = [show(model) for model in MODELS]
        listed: dict[str, Any] = {"object": "list", "data": models}
        if show is _gemini_model:
            listed = {"models": models}
        elif show is _anthropic_model:
            listed = {"data": models, "has_more": False, "first_id": next(iter(MODELS)), "last_id": list(MODELS)[-1]}
        exchange.respond(200, msgspec.json.encode(listed))

    async def _post(self, path: str, request: Request, exchange: Exchange) -> None:
        self._check_key(request)
        reading = Reading(
            script_header=request.header("x-sim-script"),
            attempt=request.header(self._attempt_header) or None,
            defaults=self._settings.defaults,
        )
        if path == "/v1/chat/completions":
            await self._complete(OPENAI, openai_ask.read(request.body, reading), request, exchange)
        elif path == "/v1/responses":
            await self._respond(responses.read(request.body, reading), request, exchange)
        elif path == "/v1/responses/input_tokens":
            asked = responses.read(request.body, reading).input_tokens
            exchange.respond(200, msgspec.json.encode({"object": "response.input_tokens", "input_tokens": asked}))
        elif path == "/v1/completions":
            await self._complete(COMPLETIONS, completions.read(request.body, reading), request, exchange)
        elif path == "/v1/moderations":
            exchange.respond(200, msgspec.json.encode(moderations.answer(request.body)))
        elif path == "/v1/embeddings":
            await self._embed(request, reading, exchange)
        elif path == "/v1/messages":
            await self._message(request, reading, exchange)
        elif path == "/v1/messages/count_tokens":
            counted = anthropic.counted(anthropic.read(request.body, reading, needs_limit=False))
            exchange.respond(200, msgspec.json.encode(counted))
        elif await media.answer(path, request, reading, exchange, self._book) or self.stored.answer(
            path, request, exchange
        ):
            return
        elif path.startswith(("/v1beta/models/", "/v1/models/")):
            await self._gemini(path.split("/models/", 1)[1], request, reading, exchange)
        else:
            raise Refused(404, f"Invalid URL (POST {path}).")

    async def _gemini(self, rest: str, request: Request, reading: Reading, exchange: Exchange) -> None:
        name, _, verb = rest.rpartition(":")
        if verb == "countTokens":
            exchange.respond(
                200, msgspec.json.encode(gemini.counted(gemini.read(request.body, reading, name, stream=False)))
            )
        elif verb in ("generateContent", "streamGenerateContent"):
            if verb == "streamGenerateContent" and parse_qs(request.query).get("alt") != ["sse"]:
                raise Refused(400, "streamGenerateContent is offered with alt=sse only.")
            ask = gemini.read(request.body, reading, name, stream=verb.startswith("stream"))
            await self._complete(GEMINI, ask, request, exchange)
        elif verb in ("embedContent", "batchEmbedContents"):
            answered, model, counted = gemini.embedded(request.body, name, many=verb.startswith("batch"))
            bill = self._book.open(
                attempt=reading.attempt, model=model, script="ok", input_tokens=counted, cached_tokens=0
            )
            bill.record(0, final=True)
            exchange.respond(200, msgspec.json.encode(answered))
        else:
            raise Refused(404, f"No method {verb!r} on models.")

    async def _complete(self, dialect: Dialect, ask: Ask, request: Request, exchange: Exchange) -> None:
        owner = f"{_key(request)}|{ask.model.name}"
        reply = generate(ask, min(self._cache.lookup(owner, ask.prompt), ask.input_tokens))
        bill = self._book.open(
            attempt=ask.attempt,
            model=ask.model,
            script=ask.script.name,
            input_tokens=reply.input_tokens,
            cached_tokens=reply.cached_tokens,
        )
        headers = ((b"x-request-id", b"req_" + bill.invoice.encode()), (b"openai-version", b"2020-10-01"))
        if dialect is RESPONSES and ask.script.status < 300 and ask.extra.get("store") is not False:
            self.stored.keep_response(RESPONSES.whole(ask, reply, "chatcmpl-" + bill.invoice, int(time.time())))
        thread = ask.extra.get("thread")
        if thread is not None and ask.script.status < 300:
            made = ANTHROPIC.whole(ask, reply, "chatcmpl-" + bill.invoice, int(time.time()))
            self.threads.hold(_key(request), made, thread)
        await Player(exchange, dialect, ask, reply, bill, headers, int(time.time())).play()

    async def _message(self, request: Request, reading: Reading, exchange: Exchange) -> None:
        body, thread = self.threads.whole(request.body, _key(request))
        ask = anthropic.read(body, reading)
        if thread is not None:
            ask.extra["thread"] = thread
        await self._complete(ANTHROPIC, ask, request, exchange)

    async def _respond(self, ask: Ask, request: Request, exchange: Exchange) -> None:
        asked = msgspec.json.decode(request.body)
        if asked.get("background") is not True or ask.stream or ask.script.status >= 300:
            await self._complete(RESPONSES, ask, request, exchange)
            return
        begun, later = background(self._book, ask, RESPONSES)
        self.stored.keep_response({**begun, "background": True, "_later": later})
        exchange.respond(200, msgspec.json.encode({**begun, "background": True}))

    async def _embed(self, request: Request, reading: Reading, exchange: Exchange) -> None:
        model, script, texts, body, counted = embeddings.read(request.body, reading)
        bill = self._book.open(
            attempt=reading.attempt, model=model, script=script.name, input_tokens=counted, cached_tokens=0
        )
        if script.status >= 400:
            bill.record(0, final=True, billed=script.bills_errors)
            raise Refused(script.status, "The server had an error while processing your request.")
        bill.record(0, final=script.first_ms == 0)
        await exchange.pause(script.first_ms / 1000)
        bill.record(0, final=True)
        exchange.respond(
            200,
            msgspec.json.encode(embeddings.answer(model, texts, body, counted)),
            headers=((b"x-request-id", b"req_" + bill.invoice.encode()),),
        )

    def _check_key(self, request: Request) -> None:
        key = _key(request)
        if not key and self._settings.require_key:
            raise Refused(
                401, "You didn't provide an API key. Provide it in an Authorization header, as Bearer YOUR_KEY."
            )
        if key.startswith("sim-bad"):
            raise Refused(401, "Incorrect API key provided: sim-bad***. Any other key will do.", code="invalid_api_key")


def _dialect(path: str, request: Request) -> Dialect:
    """By the path; where two share one (`/v1/models`), by the headers their SDKs send."""
    if path.startswith("/v1/messages") or request.header("anthropic-version"):
        return ANTHROPIC
    if (
        path.startswith("/v1beta/")
        or request.header("x-goog-api-key")
        or (request.method == "POST" and path.startswith("/v1/models/"))
    ):
        return GEMINI
    return OPENAI


def _key(request: Request) -> str:
    bearer = request.header("authorization").removeprefix("Bearer ").strip()
    return (
        bearer
        or request.header("x-api-key")
        or request.header("x-goog-api-key")
        or parse_qs(request.query).get("key", [""])[0]
    )


def _openai_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": BORN_S, "owned_by": "sluice-simulator"}


def _anthropic_model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def _gemini_model(name: str) -> dict[str, Any]:
    model, _ = known_model(name, embeds=name.removeprefix("models/").startswith("sim-embed"))
    return {
        "name": f"models/{name.removeprefix('models/')}",
        "displayName": name,
        "version": "1",
        "inputTokenLimit": model.context,
        "outputTokenLimit": model.max_output,
        "supportedGenerationMethods": ["embedContent"] if model.embeds else ["generateContent", "countTokens"],
    }


_SHOW: dict[Dialect, Callable[[str], dict[str, Any]]] = {
    OPENAI: _openai_model,
    ANTHROPIC: _anthropic_model,
    GEMINI: _gemini_model,
}

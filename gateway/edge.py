"""The edge: an ASGI request -> a `Call`, or a refusal. Reads the head first, so that nobody without a key makes us read a body.

Decisions use the parsed path alone, never Host or the query (SECURITY.md S25). The body is kept as the bytes that came: what is forwarded is
those bytes, edited only where it must differ (`gateway.jsonbody`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from itertools import chain
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from gateway import jsonbody
from gateway.errors import BadRequest, HeadersTooLarge, InvalidKey, MethodNotAllowed, TooLarge, TooSlow, Unsupported
from gateway.hop.wishes import take_wishes
from gateway.multipart import boundary_of
from workspaces.ids import uuid7_text

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Flow(Protocol):
    """The server's side of an answer to a client."""

    @property
    def write_paused(self) -> bool:
        """Sending would wait, because the client does not read."""
        ...

    def whole_body(self) -> bytes | None:
        """The request's body, when all of it is there and nobody has taken it; else None, and it must be waited for."""
        ...

    def pass_on(self, body: bytes) -> None:
        """Sends a piece of a streamed answer that has begun, without waiting. Of a client that has left, nothing."""
        ...

    def pass_framed(self, framed: bytes) -> bool:
        """The same for pieces that are framed as the chunked coding wants them; false, and nothing is sent, when it would wait."""
        ...


MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
MAX_MESSAGES = 2000
MAX_MODEL_CHARS = 200
MAX_CHOICES = 128
BODY_DEADLINE_S = 30.0
FORM_DEADLINE_S = 300.0
"""A form carries files: 25 MB in five minutes is a slow line, not an attack, and what it may hold in memory is bounded (`gateway.uploads`)."""
JSON = b"application/json"
_JSON_TYPE = (b"content-type", JSON)
BODY_ARRIVED = "sluice.body_arrived"
"""In a scope: the server has the whole body, so that waiting for it needs no deadline."""

FLOW = "sluice.flow"
"""In a scope: the server takes a whole answer in one message, and this tells when it would wait (`write_paused`)."""
BODY = "sluice.body"
"""In a response's start: the whole body, nothing follows."""

_KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
_FORWARDED = frozenset({b"openai-beta", b"anthropic-beta", b"idempotency-key"})
"""Client headers that may reach the provider; every other one stays here (SECURITY.md S33)."""
_KEY_PARAMETERS = frozenset({"api_key", "api-key", "apikey", "key", "token", "access_token", "authorization"})
FORBIDDEN_FIELDS = (
    "api_base",
    "base_url",
    "api_key",
    "organization",
    "extra_headers",
    "extra_body",
    "extra_query",
    "proxy",
)
"""Settings of client libraries that some gateways obey when they find them in a body: an SSRF (SECURITY.md S30)."""
_CHARSET = re.compile(r"application/json(\s*;\s*charset=\"?utf-?8\"?)?\s*;?", re.IGNORECASE)


class ClientGone(Exception):
    """The client closed the connection before its request was whole. Nobody is there to answer."""


class Request(msgspec.Struct, gc=False):
    """A request whose body is not read yet."""

    call_id: str
    started: float
    """`time.perf_counter()` when it arrived."""
    path: str
    endpoint: str
    """Its name in `gateway.endpoints`; the path until it is known."""
    secret: str
    """The virtual key that was presented, unverified; empty when there was none."""
    sluice: dict[str, str]
    """Sluice-* headers, names in lower case."""
    forwarded: list[tuple[bytes, bytes]]
    content_length: int | None
    content_type: bytes = JSON
    """Of the body, for the provider. A form's names its boundary."""
    most_retries: int | None = None
    """What the client allows (`Sluice-Retries`); None: what the workspace does."""
    fallbacks: bool = True
    """`Sluice-Fallbacks: off` forbids them."""
    plain_json: bool = False
    """Its head says that the body is JSON as it is, in the usual words: no closer look at its media type is needed."""


class Call(msgspec.Struct, gc=False):
    """A well-formed call: who asks (unverified), for what, in which words."""

    request: Request
    body: bytes
    fields: dict[str, Any]
    model: str
    streamed: bool
    later: bool = False
    """The provider answers before it has done the work (a background response): what it costs is known when somebody reads it."""
    credential: str = ""
    """The credential that keeps what this call goes on from; empty: any."""
    thread: dict[str, Any] | None = None
    """Of Anthropic's messages: the conversation is kept there, or goes on from one that is."""
    doubt: str = ""
    """What is asked for beside the body that nobody has taught us: it may cost money, so that there is no bound."""

    @property
    def id(self) -> str:
        return self.request.call_id


def new_call_id() -> str:
    return uuid7_text()


def read_head(scope: Scope, call_id: str) -> Request:
    """Everything about a request but its body. Raises GatewayError."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge(f"the request has more than {MAX_HEADERS} headers")
    found = dict(headers)
    once = len(found) == len(headers)
    flat = b" ".join([*found, *found.values()] if once else chain.from_iterable(headers))  # the list is the quicker way
    if (
        len(flat) + 2 * len(headers) + 1 > MAX_HEADER_BYTES
    ):  # four more than names and values for each: ": " and the line's end
        raise HeadersTooLarge(f"the request's headers are longer than {MAX_HEADER_BYTES} bytes")
    sluice: dict[str, str] = {}
    forwarded: list[tuple[bytes, bytes]] = []
    plain = (
        once
        and flat.find(b"sluice-")
        < 0  # in a value it only costs the longer way. `in` asks first whether bytes are a number, which costs more
        and _FORWARDED.isdisjoint(found)
    )
    if not plain:
        found = _sorted(headers, sluice, forwarded)
    query = scope["query_string"]
    if query:
        _refuse_key_in(query)
    most_retries, fallbacks = take_wishes(sluice) if sluice else (None, True)
    path: str = scope["path"]
    return Request(  # in the order of its fields: names cost as much as the rest
        call_id,
        time.perf_counter(),
        path,
        path,
        _secret(found),
        sluice,
        forwarded,
        _content_length(found),
        JSON,
        most_retries,
        fallbacks,
        plain and found.get(b"content-type") == JSON and b"content-encoding" not in found,
    )


def _sorted(
    headers: Iterable[tuple[bytes, bytes]], sluice: dict[str, str], forwarded: list[tuple[bytes, bytes]]
) -> dict[bytes, bytes]:
    """Moves Sluice's headers and those that pass on to where they belong; returns the others."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:7] == b"sluice-":
            _take_sluice(name, value, sluice)
        elif name in _FORWARDED:
            forwarded.append((name, value))
        elif name == b"authorization" and name in found:
            raise InvalidKey("the request has two Authorization headers")
        else:
            found[name] = value
    return found


def check_media_type(scope: Scope) -> None:
    """The body must be plain JSON: no compression (a bomb), no form. Raises Unsupported."""
    if _JSON_TYPE in scope["headers"] and b"content-encoding" not in dict(scope["headers"]):
        return  # another Content-Type beside it changes nothing: what is sent on says JSON
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Unsupported("a compressed request body is not accepted", code="unsupported_content_encoding")
        if (
            name == b"content-type"
            and value != b"application/json"
            and not _CHARSET.fullmatch(value.decode("latin-1").strip())
        ):
            raise Unsupported("the request body must be application/json in UTF-8")


def check_form(scope: Scope) -> bytes:
    """The Content-Type of a body that must be a form. Raises Unsupported."""
    found = b""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Unsupported("a compressed request body is not accepted", code="unsupported_content_encoding")
        if name == b"content-type":
            if found:
                raise Unsupported("the request has two Content-Type headers")
            found = value
    if boundary_of(found) is None:
        raise Unsupported(
            "the request body must be multipart/form-data with a boundary",
            hint="Send the file as a form, as the SDKs do.",
        )
    return found


async def read_body(
    request: Request, scope: Scope, receive: Receive, limit: int, deadline_s: float = BODY_DEADLINE_S
) -> bytes:
    """The request's body. Raises TooLarge as soon as the limit is passed, TooSlow after the deadline, ClientGone."""
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"the request body is larger than {limit:,} bytes")
    message = await (_next_message(receive) if BODY_ARRIVED in scope else _first_message(receive))
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise TooLarge(f"the request body is larger than {limit:,} bytes")
        return body
    parts, size = [body], len(body)
    try:
        async with asyncio.timeout(deadline_s):
            while message.get("more_body", False):
                message = await _next_message(receive)
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise TooLarge(f"the request body is larger than {limit:,} bytes")
                parts.append(part)
    except TimeoutError:
        raise TooSlow(f"the request body did not arrive within {deadline_s:.0f} seconds") from None
    return b"".join(parts)


def read_chat(request: Request, body: bytes) -> Call:
    """A chat completion's body -> a call. Checks only what the gateway itself relies on; the rest is the provider's to judge."""
    fields = read_object(body)
    model = check_model(fields.get("model"))
    messages = fields.get("messages")
    if type(messages) is not list or not messages:
        raise BadRequest(
            "'messages' must be a list with at least one message.", param="messages", code="invalid_messages"
        )
    if len(messages) > MAX_MESSAGES:
        raise BadRequest(
            f"'messages' has more than {MAX_MESSAGES:,} messages.", param="messages", code="too_many_messages"
        )
    streamed = fields.get("stream")
    if streamed is not None and streamed is not True and streamed is not False:
        streamed = read_streamed(fields)  # says why not
    if fields.get("n") is not None or fields.get("stream_options") is not None:
        check_choices(fields)
    return Call(request, body, fields, model, streamed is True)


def read_object(body: bytes, *, refuse: Iterable[str] = FORBIDDEN_FIELDS) -> dict[str, Any]:
    """Any body -> its object, without the fields that could redirect a call."""
    try:
        fields = jsonbody.loads(body)
    except jsonbody.BadJson as error:
        raise BadRequest(_sentence(str(error)), code="invalid_json") from None
    if not fields.keys().isdisjoint(refuse):
        for name in fields.keys() & set(refuse):
            raise BadRequest(f"The field '{name}' is not accepted in a call.", param=name, code="field_not_allowed")
    if "tools" in fields:
        _check_tools(fields["tools"])
    return fields


def _check_tools(tools: Any) -> None:
    """What tools may cost is read from them: what cannot be read is not sent."""
    if tools is not None and (type(tools) is not list or not all(type(tool) is dict for tool in tools)):
        raise BadRequest("'tools' must be a list of objects.", param="tools", code="invalid_type")


def check_model(model: Any) -> str:
    if type(model) is not str or not model:
        raise BadRequest("You must provide a model parameter.", param="model", code="missing_model")
    if len(model) > MAX_MODEL_CHARS or not model.isprintable() or not model.isascii() or " " in model:
        raise BadRequest(
            "The model's name has characters or a length that no model has.", param="model", code="invalid_model"
        )
    return model


def read_streamed(fields: dict[str, Any]) -> bool:
    streamed = fields.get("stream")
    if streamed is not None and type(streamed) is not bool:
        raise BadRequest("'stream' must be true or false.", param="stream", code="invalid_type")
    return streamed is True


def check_choices(fields: dict[str, Any]) -> None:
    choices = fields.get("n")
    if choices is not None and (type(choices) is not int or not 1 <= choices <= MAX_CHOICES):
        raise BadRequest(f"'n' must be a whole number from 1 to {MAX_CHOICES}.", param="n", code="invalid_value")
    options = fields.get("stream_options")
    if options is None:
        return
    if type(options) is not dict or type(options.get("include_usage", False)) is not bool:
        raise BadRequest(
            "'stream_options' must be an object like {\"include_usage\": true}.",
            param="stream_options",
            code="invalid_type",
        )


def require_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        raise MethodNotAllowed(
            f"{scope['path']} answers to {' and '.join(allowed)} only.",
            headers=[(b"allow", ", ".join(allowed).encode())],
        )


async def _first_message(receive: Receive) -> Message:
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await _next_message(receive)
    except TimeoutError:
        raise TooSlow(f"the request body did not arrive within {BODY_DEADLINE_S:.0f} seconds") from None


async def _next_message(receive: Receive) -> Message:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    return message


def _secret(headers: dict[bytes, bytes]) -> str:
    authorization = headers.get(b"authorization")
    if authorization is not None:
        if authorization[:7] == b"Bearer ":  # as nearly everybody writes it
            return authorization[7:].strip().decode("latin-1")
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return ""
        return secret.strip().decode("latin-1")
    for name in _KEY_HEADERS:
        if name in headers:
            return headers[name].strip().decode("latin-1")
    return ""


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise BadRequest("The Content-Length header is not a number.", code="invalid_header")
    return int(value)


def _take_sluice(name: bytes, value: bytes, sluice: dict[str, str]) -> None:
    header = name.decode("latin-1")
    if header in sluice:
        raise BadRequest(f"The header {header} is there twice.", param=header, code="invalid_attribution")
    try:
        sluice[header] = value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"The header {header} is not UTF-8.", param=header, code="invalid_attribution") from None


def _refuse_key_in(query: bytes) -> None:
    """An address ends up in logs and histories: a key there is a leaked key (SECURITY.md S13)."""
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() in _KEY_PARAMETERS or value.startswith(("slk_", "slt_", "sk-", "Bearer ")):
            raise BadRequest(
                "A key must not be part of the address.",
                code="key_in_url",
                hint="Send the key in the Authorization header, and replace this one: addresses end up in logs.",
            )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."

"""What a dialect is: it reads a request into an `Ask` and writes a `Reply` as its provider would. One file each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from gateway.simulator import catalogue
from gateway.simulator.catalogue import Model
from gateway.simulator.generate import Ask, Reply
from gateway.simulator.scripts import BadScript, Script, choose
from gateway.simulator.sse import Frame


class Refused(Exception):
    """A request that is answered with an error. Each dialect has its own shape for it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers


class Dialect(Protocol):
    done: bytes | None
    """The text that ends a stream, where there is one."""
    content_type: str
    """Of a stream."""

    def error(self, refused: Refused) -> dict[str, Any]: ...

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]: ...

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]: ...


class Reading(msgspec.Struct, frozen=True):
    """What `read_*` needs beside the body: where a script may hide, and what scripts start from."""

    script_header: str = ""
    attempt: str | None = None
    defaults: Mapping[str, Any] = {}

    def script(self, user_text: str, metadata: object, model_script: str) -> tuple[Script, str]:
        try:
            return choose(
                header=self.script_header,
                user_text=user_text,
                metadata=metadata,
                model_script=model_script,
                defaults=self.defaults,
            )
        except BadScript as bad:
            raise Refused(400, str(bad), code="bad_script") from bad


def body_object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, f"We could not parse the JSON body of your request. ({error})") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return body


def known_model(name: object, *, embeds: bool = False, medium: str = "") -> tuple[Model, str]:
    """The model and its script text. Refuses an unknown name as providers do, 404."""
    if not isinstance(name, str) or not name:
        raise Refused(400, "you must provide a model parameter", param="model")
    found = catalogue.find(name)
    if found is None or found[0].embeds != embeds or found[0].medium != medium:
        raise Refused(
            404,
            f"The model `{name}` does not exist or you do not have access to it.",
            code="model_not_found",
            param="model",
        )
    return found


def checked(ask: Ask) -> Ask:
    """The ask, unless its prompt is longer than the model's context."""
    if ask.input_tokens > ask.model.context:
        raise Refused(
            400,
            f"This model's maximum context length is {ask.model.context} tokens. However, your messages resulted in "
            f"{ask.input_tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
        )
    return ask


def whole_number(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, f"Invalid type for '{name}': expected an integer.", code="invalid_type", param=name)
    if not low <= value <= high:
        code = "integer_below_min_value" if value < low else "integer_above_max_value"
        raise Refused(400, f"Invalid value for '{name}': it must be from {low} to {high}.", code=code, param=name)
    return value

"""OpenAI's embeddings and moderations: no stream, no output limit, the usage (if any) beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.jsonbody import with_value
from gateway.providers.dialect import OPENAI_HEADERS, Reading, Unstreamed, Wanted, stated

_PATHS = {"/v1/embeddings": "/embeddings", "/v1/moderations": "/moderations"}


class _Answer(msgspec.Struct):
    id: Any = None
    model: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = msgspec.Raw(b"")
    results: msgspec.Raw = msgspec.Raw(b"")


_ANSWERS = msgspec.json.Decoder(_Answer)


class OpenAIEmbeddings(Unstreamed):
    """Implements `Dialect`."""

    client_headers = OPENAI_HEADERS

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return _PATHS[endpoint]

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        return raw if wanted.model is None else with_value(raw, "model", wanted.model)

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        if "json" not in content_type:
            return None
        try:
            answer = _ANSWERS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not stated(answer.data) and not stated(answer.results):
            return None
        reading = Reading(ended=True, raw_usage=stated(answer.usage))
        for name, value in (("id", answer.id), ("model", answer.model)):
            if type(value) is str:
                reading.said[name] = value[:200]
        return reading

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        return body

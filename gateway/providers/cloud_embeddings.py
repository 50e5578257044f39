"""Embeddings where the clouds and Gemini sell them: asked in their words, answered in OpenAI's. Nothing of it streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gateway.providers.dialect import Reading, Unstreamed, Wanted
from gateway.providers.gemini_generate import path_name
from gateway.translation import embeddings

Answer = Mapping[str, Any]
COUNT_HEADER = b"x-amzn-bedrock-input-token-count"
"""Bedrock states the tokens of every invocation beside its body; for Cohere's models nowhere else (vercel/ai pull 15973)."""


class CloudEmbeddings(Unstreamed):
    """Implements `Dialect`."""

    client_headers: frozenset[bytes] = frozenset()

    def __init__(self, path: Callable[[str], str], usage_key: str, usage: Callable[[Answer], Any]) -> None:
        """`path` of a model; `usage`: what an answer states, in the provider's words, empty where it states nothing; `usage_key`: under
        which name billing reads it."""
        self._path = path
        self._usage_key = usage_key
        self._usage = usage

    def path(self, endpoint: str, model: str, *, streamed: bool) -> str:
        return self._path(model)

    def body(self, raw: bytes, fields: Mapping[str, Any], wanted: Wanted, limit_field: str) -> bytes:
        return raw  # the model stands in the path, and nothing limits an output that is not there

    def read_whole(self, body: bytes, content_type: str) -> Reading | None:
        answer = _object(body) if "json" in content_type else None
        if answer is None or embeddings.vectors_of(answer) is None:
            return None
        usage = self._usage(answer)
        return Reading(ended=True, raw_usage=orjson.dumps(usage) if usage else b"", usage_key=self._usage_key)

    def for_client(self, body: bytes, fields: Mapping[str, Any]) -> bytes:
        answer: dict[str, Any] = orjson.loads(body)
        tokens = embeddings.tokens_shown(self._usage(answer))
        return orjson.dumps(embeddings.response(embeddings.vectors_of(answer) or [], fields, tokens))


class InvokedEmbeddings(CloudEmbeddings):
    """Implements `Dialect`, on Bedrock."""

    def __init__(self) -> None:
        super().__init__(_invoke, "usage", _invoked)

    def with_headers(self, body: bytes, header: Callable[[bytes], bytes | None]) -> bytes:
        """The answer with what is stated beside it, for reader and client alike."""
        stated = header(COUNT_HEADER) or b""
        answer = _object(body) if stated.isdigit() and len(stated) < 13 else None
        if answer is None or "inputTextTokenCount" in answer:
            return body
        return orjson.dumps({**answer, "inputTokenCount": int(stated)})


def gemini() -> CloudEmbeddings:
    return CloudEmbeddings(lambda model: f"/models/{_bare(model)}:batchEmbedContents", "usageMetadata", _embedded)


def vertex_gemini() -> CloudEmbeddings:
    return CloudEmbeddings(
        lambda model: f"/publishers/google/models/{_bare(model)}:batchEmbedContents", "usageMetadata", _embedded
    )


def vertex() -> CloudEmbeddings:
    return CloudEmbeddings(lambda model: f"/publishers/google/models/{_bare(model)}:predict", "statistics", _predicted)


def _invoke(model: str) -> str:
    return f"/model/{quote(model, safe='')}/invoke"


def _bare(model: str) -> str:
    return path_name(model.removeprefix("models/"))


def _invoked(answer: Answer) -> dict[str, Any]:
    return {name: answer[name] for name in ("inputTextTokenCount", "inputTokenCount") if name in answer}


def _predicted(answer: Answer) -> list[Any]:
    made = [one["embeddings"] for one in answer["predictions"]]
    return [one["statistics"] for one in made] if all("statistics" in one for one in made) else []


def _embedded(answer: Answer) -> dict[str, Any]:
    """Its usage, or else what the statistics of each vector say (Vertex)."""
    usage = answer.get("usageMetadata")
    if isinstance(usage, dict) and usage:
        return usage
    told = [one.get("statistics") for one in answer.get("embeddings", ()) if isinstance(one, Mapping)]
    counts = [one.get("tokenCount", one.get("token_count")) if isinstance(one, Mapping) else None for one in told]
    whole = [int(count) for count in counts if isinstance(count, int | float) and count == count // 1]
    return {"promptTokenCount": sum(whole)} if whole and len(whole) == len(counts) else {}


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None

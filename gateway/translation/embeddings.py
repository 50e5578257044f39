"""OpenAI's embeddings <-> what the clouds and Gemini call them. Pure: bodies in, bodies out; raises Untranslatable.

* Titan on Bedrock embeds one text a call (docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html).
* Cohere on Bedrock needs to know what the text is for; the client may say so in `input_type`, else it is a document to be found
  (.../model-parameters-embed.html, model-parameters-embed-v4.html).
* Gemini's batchEmbedContents is answered at once and at the full price; Vertex keeps the options of each request in `embedContentConfig`
  (python-genai's `models.py`, "EmbedContentConfig"), and asks its older models through `:predict`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.providers.translation import Untranslatable
from gateway.translation.chat import Fields

INVOKE = "/model/{model}/invoke/embed"
"""Our name for an embedding by Bedrock's InvokeModel, for prices and the ledger."""
PREDICT = "/publishers/google/models/{model}:predict/embed"
"""The same for Vertex's `:predict`."""
COHERE_KINDS = frozenset({"search_document", "search_query", "classification", "clustering"})
GEMINI_KINDS = frozenset(
    {
        "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING", "QUESTION_ANSWERING",
        "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY",
    }
)  # fmt: skip
MOST_TEXTS = {"cohere": 96, "google": 250}


def titan(fields: Fields, model: str) -> dict[str, Any]:
    texts = _texts(fields)
    if len(texts) != 1:
        raise Untranslatable("Titan embeds one text a call", "input")
    size = _size(fields)
    if size is None:
        return {"inputText": texts[0]}
    if "embed-text-v2" not in model:
        raise Untranslatable("This model's vectors have one size", "dimensions")
    return {"inputText": texts[0], "dimensions": size}


def cohere(fields: Fields, model: str) -> dict[str, Any]:
    texts = _texts(fields, MOST_TEXTS["cohere"])
    body: dict[str, Any] = {
        "texts": texts,
        "input_type": _kind(fields, "input_type", COHERE_KINDS) or "search_document",
    }
    size = _size(fields)
    if size is not None:
        if "embed-v4" not in model:
            raise Untranslatable("This model's vectors have one size", "dimensions")
        body["output_dimension"] = size
    return body


def gemini(fields: Fields, model: str) -> dict[str, Any]:
    """A batchEmbedContents body of the Gemini API."""
    options = _options(fields)
    named = f"models/{model.removeprefix('models/')}"
    return {"requests": [{"model": named, "content": content, **options} for content in _contents(fields)]}


def vertex_gemini(fields: Fields, model: str) -> dict[str, Any]:
    """A batchEmbedContents body of Vertex."""
    options = _options(fields)
    config = {"embedContentConfig": options} if options else {}
    return {"requests": [{"content": content, **config} for content in _contents(fields)]}


def vertex(fields: Fields, model: str) -> dict[str, Any]:
    """A `:predict` body."""
    options = _options(fields)
    kind = {"task_type": options["taskType"]} if "taskType" in options else {}
    body: dict[str, Any] = {"instances": [{"content": text, **kind} for text in _texts(fields, MOST_TEXTS["google"])]}
    if "outputDimensionality" in options:
        body["parameters"] = {"outputDimensionality": options["outputDimensionality"]}
    return body


def vertex_native(fields: Fields, model: str) -> dict[str, Any]:
    """Gemini's own embedContent or batchEmbedContents body as Vertex wants it: the options in an object of their own, no model."""
    requests = fields.get("requests")
    if isinstance(requests, list):
        return {"requests": [_configured(one) for one in requests if isinstance(one, Mapping)]}
    return _configured(fields)


_CONFIG = ("taskType", "title", "outputDimensionality", "autoTruncate")
_SNAKE = {"task_type": "taskType", "output_dimensionality": "outputDimensionality", "auto_truncate": "autoTruncate"}


def _configured(asked: Mapping[str, Any]) -> dict[str, Any]:
    named = {_SNAKE.get(name, name): value for name, value in asked.items()}
    strange = named.keys() - {*_CONFIG, "content", "model", "embedContentConfig"}
    if strange:
        name = min(strange)
        raise Untranslatable(f"Vertex has no word for '{name[:40]}'", name[:40])
    given = named.get("embedContentConfig")
    config = {
        **(given if isinstance(given, Mapping) else {}),
        **{name: named[name] for name in _CONFIG if name in named},
    }
    return {"content": named.get("content"), **({"embedContentConfig": config} if config else {})}


# --- Answers ----------------------------------------------------------------------------------------------------------


def response(vectors: Sequence[Any], fields: Fields, tokens: int | None) -> dict[str, Any]:
    """The answer as OpenAI gives it. `tokens` are shown, never billed: None where the provider states none."""
    write: Callable[[Any], Any] = _packed if fields.get("encoding_format") == "base64" else lambda vector: vector
    rows = [{"object": "embedding", "index": index, "embedding": write(vector)} for index, vector in enumerate(vectors)]
    shown = tokens or 0
    return {
        "object": "list",
        "data": rows,
        "model": str(fields.get("model") or ""),
        "usage": {"prompt_tokens": shown, "total_tokens": shown},
    }


def _packed(vector: Sequence[Any]) -> str:
    """Little-endian 32-bit floats, as OpenAI's SDK asks for by default."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def vectors_of(answer: Mapping[str, Any]) -> list[list[float]] | None:
    """The vectors of any of these providers' answers, in order; None when it is no such answer."""
    found: Any = None
    if isinstance(answer.get("embedding"), list):  # Titan
        found = [answer["embedding"]]
    elif isinstance(answer.get("predictions"), list):  # Vertex :predict
        found = [_values(one.get("embeddings")) if isinstance(one, Mapping) else None for one in answer["predictions"]]
    elif isinstance(answer.get("embeddings"), Mapping):  # Cohere, by type
        found = answer["embeddings"].get("float")
    elif isinstance(answer.get("embeddings"), list):  # Cohere: vectors; Gemini: objects
        found = [one if isinstance(one, list) else _values(one) for one in answer["embeddings"]]
    if not isinstance(found, list) or not found:
        return None
    good = all(isinstance(one, list) and all(type(number) in (int, float) for number in one) for one in found)
    return found if good else None


def _values(given: Any) -> Any:
    return given.get("values") if isinstance(given, Mapping) else None


def tokens_shown(usage: Any) -> int | None:
    """The count in a usage of any of them, as it is shown; None where none is stated."""
    stated = usage if isinstance(usage, list) else [usage]
    names = ("inputTextTokenCount", "inputTokenCount", "promptTokenCount", "token_count")
    found = [one[name] for one in stated if isinstance(one, Mapping) for name in names if name in one]
    return int(sum(found)) if found and all(isinstance(count, int | float) for count in found) else None


# --- Reading what is asked --------------------------------------------------------------------------------------------


def _texts(fields: Fields, most: int = 1) -> list[str]:
    given = fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Untranslatable("This model embeds text, not token ids", "input")
    if len(texts) > max(most, 1) and most > 1:
        raise Untranslatable(f"This model embeds at most {most} texts a call", "input")
    if fields.get("encoding_format") not in (None, "float", "base64"):
        raise Untranslatable("encoding_format must be float or base64", "encoding_format")
    return texts


def _contents(fields: Fields) -> list[dict[str, Any]]:
    return [{"parts": [{"text": text}]} for text in _texts(fields, MOST_TEXTS["google"])]


def _options(fields: Fields) -> dict[str, Any]:
    kind, size = _kind(fields, "task_type", GEMINI_KINDS), _size(fields)
    made = {"taskType": kind, "outputDimensionality": size}
    return {name: value for name, value in made.items() if value is not None}


def _kind(fields: Fields, name: str, known: frozenset[str]) -> str | None:
    given = fields.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or given not in known:
        raise Untranslatable(f"'{name}' must be one of {', '.join(sorted(known))}", name)
    return given


def _size(fields: Fields) -> int | None:
    size = fields.get("dimensions")
    if size is None:
        return None
    if type(size) is not int or not 1 <= size <= 100_000:
        raise Untranslatable("'dimensions' must be a whole number, like 512", "dimensions")
    return size

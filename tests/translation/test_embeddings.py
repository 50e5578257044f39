"""OpenAI's embeddings in the words of Bedrock, Vertex and Gemini: what is asked, what the client gets, what is billed."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from billing.domain.quote import quote
from billing.domain.usage import extract
from billing.prices import default_book
from gateway.providers import cloud_embeddings
from gateway.providers.cloud_embeddings import CloudEmbeddings, InvokedEmbeddings
from gateway.providers.openai_embeddings import OpenAIEmbeddings
from gateway.providers.registry import PROVIDERS
from gateway.providers.translation import Untranslatable
from gateway.translation import embeddings

TWO = {"model": "m", "input": ["one", "two"]}


def test_titan_is_asked_one_text_and_told_the_size_of_its_vector() -> None:
    assert embeddings.titan({"input": "Hi"}, "amazon.titan-embed-text-v1") == {"inputText": "Hi"}
    assert embeddings.titan({"input": ["Hi"], "dimensions": 256}, "amazon.titan-embed-text-v2:0") == {
        "inputText": "Hi",
        "dimensions": 256,
    }


def test_cohere_is_told_what_its_texts_are_for() -> None:
    assert embeddings.cohere(TWO, "cohere.embed-english-v3") == {
        "texts": ["one", "two"],
        "input_type": "search_document",
    }
    asked = {**TWO, "input_type": "search_query", "dimensions": 512}
    assert embeddings.cohere(asked, "us.cohere.embed-v4:0") == {
        "texts": ["one", "two"],
        "input_type": "search_query",
        "output_dimension": 512,
    }


def test_gemini_and_vertex_each_get_their_options_where_they_read_them() -> None:
    asked = {"input": "Hi", "dimensions": 256, "task_type": "RETRIEVAL_QUERY"}
    content = {"parts": [{"text": "Hi"}]}
    options = {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256}
    assert embeddings.gemini(asked, "gemini-embedding-001") == {
        "requests": [{"model": "models/gemini-embedding-001", "content": content, **options}]
    }
    assert embeddings.vertex_gemini(asked, "gemini-embedding-001") == {
        "requests": [{"content": content, "embedContentConfig": options}]
    }
    assert embeddings.vertex(asked, "text-embedding-005") == {
        "instances": [{"content": "Hi", "task_type": "RETRIEVAL_QUERY"}],
        "parameters": {"outputDimensionality": 256},
    }


def test_geminis_own_bodies_reach_vertex_in_its_form() -> None:
    one = {"model": "models/gemini-embedding-001", "content": {"parts": []}, "output_dimensionality": 9}
    there = {"content": {"parts": []}, "embedContentConfig": {"outputDimensionality": 9}}
    assert embeddings.vertex_native({"requests": [one, one]}, "m") == {"requests": [there, there]}
    assert embeddings.vertex_native({"content": {"parts": []}}, "m") == {"content": {"parts": []}}
    with pytest.raises(Untranslatable, match="no word for 'newThing'"):
        embeddings.vertex_native({"content": {}, "newThing": 1}, "m")


@pytest.mark.parametrize(
    ("ask", "fields", "param"),
    [
        (embeddings.titan, TWO, "input"),
        (embeddings.titan, {"input": [1, 2]}, "input"),
        (embeddings.titan, {"input": "Hi", "dimensions": 5}, "dimensions"),
        (embeddings.cohere, {"input": [[1, 2]]}, "input"),
        (embeddings.cohere, {"input": ["x"] * 97}, "input"),
        (embeddings.cohere, {"input": "Hi", "input_type": "image"}, "input_type"),
        (embeddings.cohere, {"input": "Hi", "dimensions": 5}, "dimensions"),
        (embeddings.vertex, {"input": ["x"] * 251}, "input"),
        (embeddings.gemini, {"input": "Hi", "dimensions": True}, "dimensions"),
        (embeddings.gemini, {"input": "Hi", "task_type": 5}, "task_type"),
        (embeddings.gemini, {"input": "Hi", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_they_have_no_word_for_is_refused_by_name(ask: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as refused:
        ask(fields, "a-model")
    assert refused.value.param == param


TITAN = {"embedding": [0.5, -1], "embeddingsByType": {"float": [0.5, -1]}, "inputTextTokenCount": 7}
COHERE = {"id": "e", "response_type": "embeddings_by_type", "embeddings": {"float": [[0.5, -1]]}, "texts": ["Hi"]}
PREDICTED = {
    "predictions": [{"embeddings": {"values": [0.5, -1], "statistics": {"token_count": 7.0, "truncated": False}}}]
}
EMBEDDED = {"embeddings": [{"values": [0.5, -1]}], "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}}
BY_VECTOR = {"embeddings": [{"values": [0.5, -1], "statistics": {"tokenCount": 7}}]}


@pytest.mark.parametrize(
    ("dialect", "answer", "provider", "endpoint"),
    [
        (InvokedEmbeddings(), TITAN, "bedrock", embeddings.INVOKE),
        (InvokedEmbeddings(), {**COHERE, "inputTokenCount": 7}, "bedrock", embeddings.INVOKE),
        (cloud_embeddings.vertex(), PREDICTED, "vertex", embeddings.PREDICT),
        (cloud_embeddings.gemini(), EMBEDDED, "gemini", "/gemini/v1beta/models/{model}:embedContents"),
        (cloud_embeddings.vertex_gemini(), BY_VECTOR, "vertex", "/gemini/v1beta/models/{model}:embedContents"),
    ],
)
def test_an_answer_is_openais_to_the_client_and_its_tokens_are_on_the_bill(
    dialect: CloudEmbeddings, answer: dict[str, Any], provider: str, endpoint: str
) -> None:
    raw = orjson.dumps(answer)
    reading = dialect.read_whole(raw, "application/json; charset=UTF-8")
    assert reading is not None
    assert reading.ended
    usage = extract(provider, endpoint, {reading.usage_key: orjson.loads(reading.raw_usage)})
    assert (usage.buckets, usage.measured, usage.flags) == ({"input_uncached": 7}, True, ())
    shown = orjson.loads(dialect.for_client(raw, {"model": "my-alias"}))
    assert shown["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1]}]
    assert (shown["model"], shown["usage"]) == ("my-alias", {"prompt_tokens": 7, "total_tokens": 7})
    packed = orjson.loads(dialect.for_client(raw, {"encoding_format": "base64"}))["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1.0)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"embedding":"x"}', b'{"embeddings":[["a"]]}', b'{"predictions":[]}']
)
def test_what_is_no_embedding_is_no_answer(body: bytes) -> None:
    assert InvokedEmbeddings().read_whole(body, "application/json") is None
    assert InvokedEmbeddings().read_whole(orjson.dumps(TITAN), "text/html") is None


def test_bedrocks_header_is_believed_only_where_it_is_a_count_and_the_answer_has_none() -> None:
    dialect, raw = InvokedEmbeddings(), orjson.dumps(COHERE)
    assert orjson.loads(dialect.with_headers(raw, {cloud_embeddings.COUNT_HEADER: b"42"}.get))["inputTokenCount"] == 42
    for strange in (b"", b"-1", b"1e9", b"9" * 13):
        assert dialect.with_headers(raw, {cloud_embeddings.COUNT_HEADER: strange}.get) == raw
    titan = orjson.dumps(TITAN)
    assert dialect.with_headers(titan, {cloud_embeddings.COUNT_HEADER: b"42"}.get) == titan
    reading = dialect.read_whole(raw, "application/json")
    assert reading is not None
    assert reading.raw_usage == b""  # then it is counted


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("bedrock", "amazon.titan-embed-text-v2:0"), ("bedrock", "us.cohere.embed-v4:0"), ("vertex", "gemini-embedding-001"),
        ("vertex", "text-embedding-005"), ("gemini", "gemini-embedding-2"),
    ],
)  # fmt: skip
def test_the_worst_case_is_bounded_by_the_text_alone(provider: str, model: str) -> None:
    translation = PROVIDERS[provider].translation("/v1/embeddings", model)
    fields = translation.request({"input": "Hello there"}, model)
    at = 1_795_262_400
    worst = quote(provider, translation.endpoint, fields, 200, default_book().rates_at(provider, model, at))
    assert worst.refusal is None
    assert worst.output_tokens_cap == 0
    assert worst.amount_nano is not None
    assert 0 < worst.amount_nano < 1_000_000


def test_a_provider_that_streams_an_embedding_has_given_no_answer() -> None:
    meter = OpenAIEmbeddings().stream_meter({})
    assert meter.feed(b"data: {}\n\n") == b""
    assert meter.finish() == b""
    assert not meter.reading.ended
    assert meter.reading.flags == ["unexpected_stream"]

"""Bedrock Converse and OpenAI's chat completions: the request, the answer, the stream in every split, and what is billed of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.domain.quote import quote
from billing.domain.usage import extract
from billing.prices import default_book
from gateway.providers.converse import Converse, OnFrames
from gateway.providers.dialect import Wanted
from gateway.providers.eventstream import encode
from gateway.providers.registry import PROVIDERS
from gateway.providers.translation import Untranslatable
from gateway.sse import Splitter, data_of
from gateway.translation import dialects, to_converse
from gateway.translation.from_converse import ANSWER_TOOL

MODEL = "eu.amazon.nova-lite-v1:0"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather", "parameters": {"type": "object"}},
}
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "And kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
            {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": "So?"},
    ],
    "tools": [WEATHER], "tool_choice": "required", "max_completion_tokens": 70, "temperature": 1.5, "top_p": 0.5, "stop": ["END", " "],
}  # fmt: skip
USAGE = {
    "inputTokens": 86,
    "outputTokens": 300,
    "totalTokens": 2306,
    "cacheReadInputTokens": 1920,
    "cacheWriteInputTokens": 0,
}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Grüezi "}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Bern"}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"city":'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '"Bern"}'}}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "now"}}}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "serviceTier": {"type": "default"}}),
]


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(
        encode({":event-type": name, ":message-type": "event"}, orjson.dumps(event)) for name, event in events
    )


def meter(**fields: Any) -> Any:
    dialect = OnFrames(dialects.converse(Converse()))
    return dialect.stream_meter({"model": MODEL, "stream_options": {"include_usage": True}, **fields})


def chunks(shown: bytes) -> list[Any]:
    datas = [data_of(event) for event, _ in Splitter().feed(shown)]
    return [orjson.loads(data) for data in datas if data != b"[DONE]"]


def test_a_request_says_the_same_in_bedrocks_words() -> None:
    assert to_converse.request(ASKED, MODEL) == {
        "system": [{"text": "Be brief."}, {"text": "And kind."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "Look"},
                    {"image": {"format": "png", "source": {"bytes": PIXEL.partition(",")[2]}}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Bern"}}},
                    {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "t1", "content": [{"text": "sunny"}]}},
                    {"toolResult": {"toolUseId": "t2", "content": [{"text": "(nothing)"}]}},
                    {"text": "So?"},
                ],
            },
        ],
        "inferenceConfig": {"maxTokens": 70, "temperature": 1, "topP": 0.5, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "weather", "description": "Weather", "inputSchema": {"json": {"type": "object"}}}}
            ],
            "toolChoice": {"any": {}},
        },
    }


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"tool_choice": "none"}, "tool_choice"),
        ({"tools": []}, "tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0]"),
    ],
)  # fmt: skip
def test_what_bedrock_has_no_word_for_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as refused:
        to_converse.request({**ASKED, **change}, MODEL)
    assert refused.value.param == param


def test_the_output_limit_is_set_where_bedrock_reads_it() -> None:
    fields = to_converse.request(ASKED, MODEL)
    body = Converse().body(orjson.dumps(fields), fields, Wanted(output_limit=9), "inferenceConfig")
    assert orjson.loads(body)["inferenceConfig"] == {**fields["inferenceConfig"], "maxTokens": 9}
    assert orjson.loads(Converse().body(b'{"messages":[]}', {"messages": []}, Wanted(output_limit=9), ""))[
        "inferenceConfig"
    ] == {"maxTokens": 9}


def test_a_whole_answer_becomes_a_completion_and_its_usage_is_billed_in_disjoint_buckets() -> None:
    content: list[dict[str, Any]] = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Bern"}}},
    ]
    raw = orjson.dumps(
        {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use", "usage": USAGE}
    )
    dialect = dialects.converse(Converse())
    reading = dialect.read_whole(raw, "application/json")
    assert reading is not None
    usage = extract("bedrock", to_converse.ENDPOINT, {**reading.said, "usage": orjson.loads(reading.raw_usage)})
    assert usage.buckets == {"input_uncached": 86, "cache_read": 1920, "output_text": 300}
    shown = orjson.loads(dialect.for_client(raw, {"model": MODEL}))
    assert shown["model"] == MODEL
    assert shown["choices"][0]["finish_reason"] == "tool_calls"
    said = shown["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"]) == ("Hello", "hm")
    assert said["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Bern"}'}
    assert shown["usage"]["prompt_tokens"] == 2006
    assert dialect.read_whole(b'{"message":"no"}', "application/json") is None
    assert dialect.read_whole(b"<html>", "text/html") is None


def test_a_stream_reads_the_same_in_every_split() -> None:
    wire = frames(*EVENTS)
    expected: list[Any] = []
    for at in range(0, len(wire), 1):
        reader = meter()
        shown = reader.feed(wire[:at]) + reader.feed(wire[at:]) + reader.finish()
        told = [{**chunk, "id": "", "created": 0} for chunk in chunks(shown)]
        expected = expected or told
        assert told == expected
        assert reader.reading.ended
        assert orjson.loads(reader.reading.raw_usage) == USAGE
    deltas = [chunk["choices"][0]["delta"] for chunk in expected if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Grüezi Bern"
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    arguments = ["".join(call["function"].get("arguments", "") for call in calls if call["index"] == n) for n in (0, 1)]
    assert arguments == ['{"city":"Bern"}', "{}"]
    assert expected[-1]["usage"]["completion_tokens"] == 300
    assert [chunk["choices"][0]["finish_reason"] for chunk in expected if chunk["choices"]][-1] == "tool_calls"


def test_a_stream_that_ends_without_its_usage_has_ended_and_states_none() -> None:
    reader = meter()
    shown = reader.feed(frames(*EVENTS[:-1])) + reader.finish()
    assert shown.endswith(b"data: [DONE]\n\n")
    assert (reader.reading.ended, reader.reading.raw_usage) == (True, b"")
    assert reader.reading.output_bytes >= len("Grüezi Bern")


def test_an_exception_in_the_stream_is_an_error_and_no_end() -> None:
    reader = meter()
    failed = encode(
        {":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message":"Too many tokens"}'
    )
    shown = reader.feed(frames(*EVENTS[:4]) + failed) + reader.finish()
    assert chunks(shown)[-1]["error"]["message"] == "Too many tokens"
    assert (reader.reading.ended, reader.reading.error) == (False, "throttlingException")


@pytest.mark.parametrize(
    "wire", [b"\x00" * 40, frames(("contentBlockDelta", {"delta": None}), ("odd", {}), ("metadata", {}))]
)
def test_nonsense_is_read_over(wire: bytes) -> None:
    reader = meter()
    reader.feed(wire)
    reader.finish()
    assert not reader.reading.ended


def test_the_families_of_bedrock_do_not_meet() -> None:
    bedrock = PROVIDERS["bedrock"]
    found = {
        model: [family.name for family in bedrock.families if family.models.match(model)]
        for model in (
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "openai.gpt-oss-120b-1:0", MODEL, "amazon.nova-pro-v1:0",
            "meta.llama3-3-70b-instruct-v1:0", "mistral.mistral-large-3-675b-instruct", "deepseek.v3.2",
            "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0", "amazon.nova-sonic-v1:0", "global.openai.gpt-6-sol",
        )
    }  # fmt: skip
    assert [names[:1] for names in found.values()] == [
        ["claude"], ["openai"], *[["nova"]] * 2, *[["others"]] * 3, ["titan embeddings"], ["cohere embeddings"], *[[]] * 2,
    ]  # fmt: skip


def test_a_call_is_held_at_its_worst_with_pictures_and_tools_in_it() -> None:
    rates = default_book().rates_at("bedrock", MODEL, 1_795_000_000)
    fields = to_converse.request(ASKED, MODEL)
    worst = quote("bedrock", to_converse.ENDPOINT, fields, len(orjson.dumps(fields)), rates)
    assert worst.amount_nano is not None
    assert worst.output_tokens_cap == 70
    plain = to_converse.request({"messages": [{"role": "user", "content": "Look"}], "max_tokens": 70}, MODEL)
    least = quote("bedrock", to_converse.ENDPOINT, plain, len(orjson.dumps(plain)), rates)
    assert worst.input_tokens_bound > least.input_tokens_bound + 1_000 + 1_000


# --- Answers by a schema ----------------------------------------------------------------------------------------------
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
BY_SCHEMA: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Where?"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": CITY}},
}
RESPONSE_BY_SCHEMA = {"model": MODEL, "text": {"format": {"type": "json_schema", "name": "place", "schema": CITY}}}


def test_a_schema_goes_to_bedrock_as_its_output_format() -> None:
    body = to_converse.request(BY_SCHEMA, "qwen.qwen3-32b-v1:0")
    assert body["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": orjson.dumps(CITY).decode(), "name": "place"}},
        }
    }
    assert "toolConfig" not in body
    translation = PROVIDERS["bedrock"].translation("/v1/chat/completions", "qwen.qwen3-32b-v1:0")
    assert translation.request(BY_SCHEMA, "qwen.qwen3-32b-v1:0") == body


def test_nova_which_takes_no_schema_is_made_to_answer_by_a_tool_of_ours() -> None:
    ask = PROVIDERS["bedrock"].translation("/v1/chat/completions", MODEL).request
    alone = ask(BY_SCHEMA, MODEL)
    assert "outputConfig" not in alone
    (spec,) = [tool["toolSpec"] for tool in alone["toolConfig"]["tools"]]
    assert (spec["name"], spec["inputSchema"]) == (ANSWER_TOOL, {"json": CITY})
    assert alone["toolConfig"]["toolChoice"] == {"tool": {"name": ANSWER_TOOL}}
    beside = ask({**BY_SCHEMA, "tools": [WEATHER]}, MODEL)["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in beside["tools"]] == ["weather", ANSWER_TOOL]
    assert beside["toolChoice"] == {"any": {}}
    must = ask({**BY_SCHEMA, "tools": [WEATHER], "tool_choice": "required"}, MODEL)["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in must["tools"]] == ["weather"]
    forbidden = ask({**BY_SCHEMA, "tools": [WEATHER], "tool_choice": "none"}, MODEL)["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in forbidden["tools"]] == [ANSWER_TOOL]


def test_the_input_of_our_tool_is_the_answer_whole_and_streamed() -> None:
    used = {"toolUse": {"toolUseId": "t", "name": ANSWER_TOOL, "input": {"city": "Bern"}}}
    message = {"role": "assistant", "content": [{"text": "Let me see."}, used]}
    raw = orjson.dumps({"output": {"message": message}, "stopReason": "tool_use", "usage": USAGE})
    dialect = PROVIDERS["bedrock"].translation("/v1/chat/completions", MODEL).dialect
    choice = orjson.loads(dialect.for_client(raw, BY_SCHEMA))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"city":"Bern"}', "stop")
    assert "tool_calls" not in choice["message"]

    events: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Let me see."}}),
        ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": ANSWER_TOOL}}}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":'}}}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '"Bern"}'}}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": USAGE}),
    ]
    streamed = dialect.stream_meter({**BY_SCHEMA, "stream_options": {"include_usage": True}})
    told = chunks(streamed.feed(frames(*events)) + streamed.finish())
    deltas = [choice for chunk in told for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in deltas) == '{"city":"Bern"}'
    assert [choice["finish_reason"] for choice in deltas if choice["finish_reason"]] == ["stop"]
    assert not any("tool_calls" in choice["delta"] for choice in deltas)
    assert streamed.reading.ended

    responding = PROVIDERS["bedrock"].translation("/v1/responses", MODEL).dialect
    shown = orjson.loads(responding.for_client(raw, RESPONSE_BY_SCHEMA))
    assert shown["output"][-1]["content"][0]["text"] == '{"city":"Bern"}'
    meter = responding.stream_meter(RESPONSE_BY_SCHEMA)
    assert b'"text":"{\\"city\\":\\"Bern\\"}"' in meter.feed(frames(*events)) + meter.finish()

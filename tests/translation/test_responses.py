"""OpenAI's responses asked of Claude and Gemini: what becomes of an input, and of an answer, whole and streamed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.gemini_generate import GeminiGenerate
from gateway.providers.translation import Untranslatable
from gateway.sse import Splitter, data_of
from gateway.translation import dialects, responses, to_anthropic, to_gemini

CLAUDE, GEMINI = "claude-sonnet-4-5", "gemini-3.5-flash"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
THOUGHT = {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"}


def claude(**fields: Any) -> dict[str, Any]:
    return responses.translated({"model": CLAUDE, **fields}, CLAUDE, to_anthropic.request)


def gemini(**fields: Any) -> dict[str, Any]:
    return responses.translated({"model": GEMINI, **fields}, GEMINI, to_gemini.request)


# --- Input ------------------------------------------------------------------------------------------------------------
def test_a_string_and_instructions() -> None:
    made = claude(instructions="Be brief", input="Hello", max_output_tokens=50, temperature=0.5)
    assert made["system"] == [{"type": "text", "text": "Be brief"}]
    assert made["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert (made["max_tokens"], made["temperature"]) == (50, 0.5)


TURN: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": responses._sealed([THOUGHT])},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
     "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
    {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "weather", "arguments": '{"city": "Oslo"}',
     "extra_content": {"google": {"thought_signature": "Z3Nn"}}},
    {"type": "function_call_output", "call_id": "c1", "output": "sun"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
]  # fmt: skip


def test_a_turn_with_thinking_words_calls_and_results_keeps_its_order() -> None:
    _, said, told = claude(input=TURN)["messages"]
    assert [block["type"] for block in said["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert said["content"][0] == THOUGHT
    assert [block["tool_use_id"] for block in told["content"]] == ["c1", "c2"]
    assert told["content"][1]["content"] == [{"type": "text", "text": "rain"}]


def test_geminis_signatures_come_back_with_their_calls() -> None:
    _, said, told = gemini(input=TURN)["contents"]
    assert said["parts"][0] == {"text": "I look."}
    assert said["parts"][1]["thoughtSignature"] == to_gemini.NO_SIGNATURE, (
        "the first call, whose signature is not at hand"
    )
    assert said["parts"][2]["thoughtSignature"] == "Z3Nn"
    assert [part["functionResponse"]["response"] for part in told["parts"]] == [{"result": "sun"}, {"result": "rain"}]


def test_another_models_reasoning_is_left_out() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"},
        {"role": "user", "content": "x"},
    ]
    assert [message["role"] for message in claude(input=items)["messages"]] == ["user"]


def test_tools_choices_effort_and_schema() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    made = claude(input="x", tools=[tool], tool_choice={"type": "function", "name": "f"}, text=text)
    assert made["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True}]
    assert made["tool_choice"] == {"type": "tool", "name": "f"}
    assert made["output_config"]["format"]["schema"]["required"] == ["a"]
    config = gemini(input="x", reasoning={"effort": "low", "summary": "auto"}, text=text)["generationConfig"]
    assert config["responseJsonSchema"] == schema
    assert config["thinkingConfig"] == {"thinkingLevel": "low", "includeThoughts": True}


def test_pictures_and_files() -> None:
    content = [
        {"type": "input_image", "image_url": "data:image/png;base64,QQ==", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_file", "file_url": "https://example.com/b.pdf"},
    ]
    blocks = claude(input=[{"role": "user", "content": content}])["messages"][0]["content"]
    assert [block["source"]["type"] for block in blocks] == ["base64", "base64", "url"]
    parts = gemini(input=[{"role": "user", "content": content}])["contents"][0]["parts"]
    assert parts[2] == {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/b.pdf"}}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the conversation again"),
        ({"conversation": "conv_1"}, "conversation", "stored at OpenAI"),
        ({"prompt": {"id": "p"}}, "prompt", "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "web_search"),
        ({"input": [{"type": "item_reference", "id": "msg"}]}, "input[0]", "send the item itself"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "computer_call"}]}, "input[1]", "OpenAI's own"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0]", "image_url"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "narrator", "content": "y"}]}, "input[1].role", "narrator"),
        ({"top_logprobs": 3}, "top_logprobs", "Log probabilities"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format", "must be"),
        ({"input": "x", "tool_choice": {"type": "file_search"}, "tools": []}, "tool_choice", "function"),
    ],
)  # fmt: skip
def test_what_is_only_at_openai_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    for translate in (claude, gemini):
        if fields.get("tool_choice") and translate is gemini:
            continue  # no tools, so nobody asks which
        with pytest.raises(Untranslatable) as caught:
            translate(
                **{
                    "input": "x",
                    **fields,
                    **({"tools": [{"type": "function", "name": "f"}]} if "tool_choice" in fields else {}),
                }
            )
        assert caught.value.param == param
        assert words in str(caught.value)


# --- Answers ----------------------------------------------------------------------------------------------------------
MESSAGE = {
    "id": "msg_01", "type": "message", "role": "assistant", "model": CLAUDE, "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "s1"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
    ],
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 7},
}  # fmt: skip
FIELDS = {
    "model": CLAUDE,
    "input": "Weather?",
    "tools": [{"type": "function", "name": "weather", "parameters": {}, "strict": False}],
}


def test_a_whole_answer_is_a_response_that_the_sdk_reads() -> None:
    made = orjson.loads(dialects.anthropic_responses(AnthropicMessages()).for_client(orjson.dumps(MESSAGE), FIELDS))
    read = Response.model_validate(made)
    assert [item.type for item in read.output] == ["reasoning", "message", "function_call"]
    assert (read.output_text, read.status, read.store) == ("I look.", "completed", False)
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.input_tokens_details.cached_tokens, read.usage.output_tokens) == (
        17,
        5,
        7,
    )
    again = claude(input=[{"role": "user", "content": "Weather?"}, *made["output"]])["messages"][1]["content"]
    assert again == MESSAGE["content"], "what goes back is what came"


EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '"Rome"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]
ORDER = [
    "response.created", "response.in_progress",
    "response.output_item.added", "response.reasoning_summary_part.added", "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done", "response.reasoning_summary_part.done", "response.output_item.done",
    "response.output_item.added", "response.content_part.added", "response.output_text.delta", "response.output_text.delta",
    "response.output_text.done", "response.content_part.done", "response.output_item.done",
    "response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.delta",
    "response.function_call_arguments.done", "response.output_item.done",
    "response.completed",
]  # fmt: skip


def wire(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: x\ndata: " + orjson.dumps(event) + b"\n\n" for event in events)


def streamed(stream: bytes, pieces: int = 0, dialect: Any = None, fields: Any = FIELDS) -> list[dict[str, Any]]:
    meter = (dialect or dialects.anthropic_responses(AnthropicMessages())).stream_meter(fields)
    chunks = [stream[at : at + pieces] for at in range(0, len(stream), pieces)] if pieces else [stream]
    shown = b"".join([*(meter.feed(chunk) for chunk in chunks), meter.finish()])
    assert b"[DONE]" not in shown
    events = []
    for event, whole in Splitter().feed(shown):
        assert whole
        made = orjson.loads(data_of(event))
        assert event.startswith(b"event: " + made["type"].encode() + b"\n")
        events.append(made)
    return events


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_a_stream_is_the_apis_events_in_its_order_each_one_readable(pieces: int) -> None:
    events = streamed(wire(EVENTS), pieces)
    assert [event["type"] for event in events] == ORDER
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        EVENT.validate_python(event)
    final = Response.model_validate(events[-1]["response"])
    whole = orjson.loads(dialects.anthropic_responses(AnthropicMessages()).for_client(orjson.dumps(MESSAGE), FIELDS))
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert events[-1]["response"]["output"][0]["encrypted_content"] == whole["output"][0]["encrypted_content"]
    assert events[-1]["response"]["usage"] == whole["usage"]
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == events[-1][
        "response"
    ]["output"]


def test_a_stream_of_geminis_ends_with_its_body() -> None:
    answer = {"responseId": "r1", "modelVersion": GEMINI}
    call = {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "Z3Nn"}
    parts = [{"text": "Hm", "thought": True}, {"text": "I look."}, call]
    told = [{**answer, "candidates": [{"index": 0, "content": {"parts": [part]}}]} for part in parts]
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 16}
    told.append({**answer, "candidates": [{"index": 0, "finishReason": "STOP"}], "usageMetadata": usage})  # type: ignore[dict-item]
    events = streamed(wire(told), dialect=dialects.gemini_responses(GeminiGenerate()))
    kinds = [event["type"] for event in events]
    once = [kind for kind in ORDER if not kind.endswith(("text.delta", "arguments.delta")) or "summary" in kind]
    assert [kind for kind in kinds if not kind.endswith(("text.delta", "arguments.delta")) or "summary" in kind] == once
    final = events[-1]["response"]
    assert final["output"][2]["extra_content"] == {"google": {"thought_signature": "Z3Nn"}}
    assert final["usage"]["output_tokens"] == 7


def test_an_answer_that_was_cut_short_is_incomplete() -> None:
    cut = [*EVENTS[:1], *EVENTS[5:9], {**EVENTS[13], "delta": {"stop_reason": "max_tokens"}}, EVENTS[14]]
    final = streamed(wire(cut))[-1]
    assert (final["type"], final["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )


def test_an_error_in_mid_stream_is_an_error_event_and_nothing_follows() -> None:
    broken = [
        *EVENTS[:7],
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        *EVENTS[7:],
    ]
    last = streamed(wire(broken))[-1]
    assert (last["type"], last["code"], last["error"]["message"]) == ("error", "overloaded_error", "Overloaded")


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    events = streamed(wire([EVENTS[0], {**EVENTS[13], "delta": {"stop_reason": "end_turn"}}, EVENTS[14]]))
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]

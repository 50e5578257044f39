"""The OpenAI dialect, writing: chat completions and their errors. Shapes as the `openai` SDK's types have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.simulator import spoil
from gateway.simulator.dialect import Refused
from gateway.simulator.generate import Ask, Choice, Reply
from gateway.simulator.sse import Frame

_FINISH = {"stop_sequence": "stop"}
_TYPES = {401: "invalid_request_error", 403: "invalid_request_error", 404: "invalid_request_error", 429: "requests"}


class OpenAI:
    done: bytes | None = b"[DONE]"
    content_type = "text/event-stream; charset=utf-8"

    def error(self, refused: Refused) -> dict[str, Any]:
        kind = _TYPES.get(refused.status, "server_error" if refused.status >= 500 else "invalid_request_error")
        return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "id": response_id,
            "object": "chat.completion",
            "created": at_s,
            "model": ask.model.name,
            "choices": [_choice(ask, choice, index) for index, choice in enumerate(reply.choices)],
            "service_tier": _tier(ask),
            "system_fingerprint": "fp_simulator",
        }
        said = spoil.spoil(_usage(reply, reply.output_tokens), ask.script.usage, over=ask.model.max_output)
        return spoil.put(answer, "usage", said)

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]:
        mode = ask.script.usage
        spent = 0

        def frame(choices: list[dict[str, Any]], usage: Any = None) -> Frame:
            payload: dict[str, Any] = {
                "id": response_id,
                "object": "chat.completion.chunk",
                "created": at_s,
                "model": ask.model.name,
                "service_tier": _tier(ask),
                "system_fingerprint": "fp_simulator",
                "choices": choices,
            }
            if mode == "every":
                payload["usage"] = _usage(reply, spent)
            elif ask.include_usage:
                payload["usage"] = usage
            return Frame(payload, spent)

        for index, choice in enumerate(reply.choices):
            spent += choice.reasoning
            first: dict[str, Any] = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
            yield frame([_delta(ask, index, first)])
            for piece in choice.pieces:
                spent += 1
                yield frame([_delta(ask, index, {"content": piece}, piece)])
            for number, call in enumerate(choice.calls):
                opening = {
                    "index": number,
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": ""},
                }
                yield frame([_delta(ask, index, {"tool_calls": [opening]})])
                for piece in call.pieces:
                    spent += 1
                    yield frame(
                        [_delta(ask, index, {"tool_calls": [{"index": number, "function": {"arguments": piece}}]})]
                    )
            finish = _FINISH.get(choice.finish, choice.finish)
            yield frame([_delta(ask, index, {}, finish=finish)])
        if not ask.include_usage or mode in {"absent", "null"}:
            return
        said = spoil.spoil(_usage(reply, spent), mode, over=ask.model.max_output)
        for _ in range(2 if mode == "twice" else 1):
            yield frame([], said)


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": output,
        "total_tokens": reply.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": min(reply.reasoning_tokens, output),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tier(ask: Ask) -> str:
    return "default" if ask.service_tier in (None, "auto") else str(ask.service_tier)


def _choice(ask: Ask, choice: Choice, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if choice.calls else "".join(choice.pieces),
        "refusal": None,
        "annotations": [],
    }
    if choice.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.pieces)}}
            for call in choice.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs_of(ask, choice.pieces),
        "finish_reason": _FINISH.get(choice.finish, choice.finish),
    }


def _delta(ask: Ask, index: int, delta: dict[str, Any], piece: str = "", finish: str | None = None) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": _logprobs_of(ask, [piece]) if piece else None,
        "finish_reason": finish,
    }


def _logprobs_of(ask: Ask, pieces: list[str]) -> dict[str, Any] | None:
    if ask.top_logprobs is None:
        return None
    return {"content": [_logprob(piece, ask.top_logprobs) for piece in pieces], "refusal": None}


def _logprob(piece: str, top: int) -> dict[str, Any]:
    entry = {"token": piece, "logprob": -0.105, "bytes": list(piece.encode())}
    others = [
        {"token": f"~{rank}", "logprob": -2.0 - rank, "bytes": list(f"~{rank}".encode())} for rank in range(1, top)
    ]
    return {**entry, "top_logprobs": [entry, *others] if top else []}

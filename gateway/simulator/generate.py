"""What the simulator says: deterministic text, tool calls and JSON, already cut into tokens and held to the output limit."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.simulator import schema, tokens
from gateway.simulator.catalogue import Model
from gateway.simulator.scripts import Script

_SENTENCES = (
    "This answer was made up by the simulator.",
    "No model was asked and no money moved.",
    "The river carries the small boats past the old mill.",
    "Every four bytes of it count as one token.",
    "The evening light settles on the water.",
    "An invoice line was written before you could read this.",
    "Somebody hums a tune that nobody quite remembers.",
    "Seven quiet stars come out above the harbor.",
    "The same question gets the same answer tomorrow.",
    "A cat sleeps on the ledger and keeps the page warm.",
    "The miller counts his sacks twice, as he should.",
    "Ask again with another seed for another answer.",
)
_MULTIBYTE = (
    "na\u00efve caf\u00e9.",
    "cr\u00e8me br\u00fbl\u00e9e.",
    "\u65e5\u672c\u8a9e\u3067\u3059\u3002",
    "\U0001f642\U0001f680",
)
_NUL = ("A NUL\0byte.", "Another\0one.")
MAX_CALLS = 4


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for a completion, in no dialect."""

    model: Model
    model_named: str
    script: Script
    attempt: str | None
    prompt: bytes
    """All text of the prompt, for counting and for prompt caching."""
    image_tokens: int = 0
    user_text: str = ""
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    """A tool call is demanded, or the model would make one on its own (tools offered, the user spoke last)."""
    parallel: bool = True
    json_schema: Any = None
    """The schema to satisfy; {} for any JSON object."""
    n: int = 1
    max_output: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    stream: bool = False
    include_usage: bool = True
    top_logprobs: int | None = None
    """None: no log probabilities."""
    service_tier: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """What only the dialect itself reads again."""

    @property
    def input_tokens(self) -> int:
        return max(1, tokens.count(len(self.prompt)) + self.image_tokens)


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    pieces: list[str]
    """The arguments' JSON in tokens."""


@dataclass(frozen=True, slots=True)
class Choice:
    pieces: list[str]
    calls: list[ToolCall]
    reasoning: int
    finish: str
    """stop | stop_sequence | length | tool_calls"""
    stopped_by: str | None = None

    @property
    def output_tokens(self) -> int:
        return self.reasoning + len(self.pieces) + sum(len(call.pieces) for call in self.calls)


@dataclass(frozen=True, slots=True)
class Reply:
    choices: list[Choice]
    input_tokens: int
    cached_tokens: int

    @property
    def output_tokens(self) -> int:
        return sum(choice.output_tokens for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        return sum(choice.reasoning for choice in self.choices)


def generate(ask: Ask, cached_tokens: int) -> Reply:
    """The whole answer. The same request gives the same answer; another `seed`, another one."""
    root = hashlib.blake2b(ask.prompt, digest_size=16, person=ask.model.name.encode()[:16])
    root.update(f"|{ask.seed}|{ask.script.seed}".encode())
    return Reply([_choice(ask, root.digest(), index) for index in range(ask.n)], ask.input_tokens, cached_tokens)


def _choice(ask: Ask, root: bytes, index: int) -> Choice:
    rng = random.Random(root + bytes([index]))
    script = ask.script
    limit = ask.model.max_output if ask.max_output is None else min(ask.max_output, ask.model.max_output)
    reasoning = rng.randint(32, 128) if ask.model.hides_reasoning else 0
    calls: list[ToolCall] = []
    pieces: list[str] = []
    finish, stopped_by = "stop", None
    if ask.must_call and ask.tools:
        calls = _calls(ask, rng, root, index)
        finish = "tool_calls"
    else:
        text = _text(ask, rng, limit)
        text, stopped_by = _stopped(text, ask.stop)
        finish = "stop_sequence" if stopped_by else "stop"
        pieces = tokens.pieces(text)
    if not script.obeys_max_tokens:
        return Choice(pieces, calls, reasoning, finish, stopped_by)
    whole = Choice(pieces, calls, reasoning, finish, stopped_by)
    return whole if whole.output_tokens <= limit else _limited(whole, limit)


def _limited(whole: Choice, limit: int) -> Choice:
    reasoning = min(whole.reasoning, limit)
    left = limit - reasoning
    pieces = whole.pieces[:left]
    left -= len(pieces)
    calls: list[ToolCall] = []
    for call in whole.calls:
        if left <= 0:
            break
        calls.append(ToolCall(call.id, call.name, call.pieces[:left]))
        left -= len(calls[-1].pieces)
    return Choice(pieces, calls, reasoning, "length")


def _text(ask: Ask, rng: random.Random, limit: int) -> str:
    script = ask.script
    if ask.json_schema is not None:
        made = schema.example(ask.json_schema, rng) if ask.json_schema else {"answer": rng.choice(_SENTENCES)}
        return msgspec.json.encode(made).decode()
    if script.echo:
        return ask.user_text
    wanted = script.tokens or rng.randint(16, 48)
    if not script.obeys_max_tokens:
        wanted = limit + script.k
    elif script.tokens:
        wanted = min(wanted, limit + 1)
    alphabet = {"split-utf8": _MULTIBYTE, "nul": _NUL}.get(script.sse, _SENTENCES)
    at = rng.randrange(len(alphabet))
    said: list[str] = []
    size = 0
    while size < wanted * tokens.BYTES_PER_TOKEN:
        sentence = alphabet[(at + len(said)) % len(alphabet)]
        said.append(sentence)
        size += len(sentence.encode()) + 1
    return "".join(tokens.pieces(" ".join(said))[:wanted])


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _calls(ask: Ask, rng: random.Random, root: bytes, index: int) -> list[ToolCall]:
    wanted = 1 if not ask.parallel else (ask.script.calls or min(len(ask.tools), MAX_CALLS))
    made: list[ToolCall] = []
    for number in range(wanted):
        tool = ask.tools[number % len(ask.tools)]
        arguments = schema.example(tool.parameters or {"type": "object", "properties": {}}, rng)
        name = hashlib.blake2b(root + bytes([index, number]), digest_size=12).hexdigest()
        made.append(ToolCall(f"call_{name}", tool.name, tokens.pieces(msgspec.json.encode(arguments).decode())))
    return made

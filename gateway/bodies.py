"""Bodies of each API -> a `Call`. Checks only what the gateway itself relies on to bound and bill a call; the rest is the provider's to judge."""

from __future__ import annotations

from typing import Any

from gateway.edge import MAX_MESSAGES, Call, Request, check_choices, check_model, read_chat, read_object, read_streamed
from gateway.errors import BadRequest

__all__ = [
    "check_betas",
    "read_chat",
    "read_completion",
    "read_embedding",
    "read_gemini",
    "read_images",
    "read_messages",
    "read_moderation",
    "read_responses",
    "read_speech",
]

MODERATION_MODEL = "omni-moderation-latest"
"""What OpenAI takes where the client names none."""
BETAS = frozenset(
    {
        # change no price, or what the bound and the answer's usage tell
        "advanced-tool-use-2025-11-20", "cache-diagnosis-2026-04-07", "claude-code-20250219", "computer-use-2024-10-22",
        "computer-use-2025-01-24", "computer-use-2025-11-24", "context-1m-2025-08-07", "context-management-2025-06-27",
        "dev-full-thinking-2025-05-14", "effort-2025-11-24", "extended-cache-ttl-2025-04-11", "fast-mode-2026-02-01",
        "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14", "mid-conversation-output-config-2026-07-01",
        "mid-conversation-system-clear-at-2026-08-21", "message-batches-2024-09-24", "message-threads-2026-08-12",
        "mid-conversation-tool-changes-2026-07-01",
        "model-context-window-exceeded-2025-08-26", "output-128k-2025-02-19", "output-300k-2026-03-24", "pdfs-2024-09-25",
        "prompt-caching-2024-07-31", "structured-outputs-2025-11-13", "task-budgets-2026-03-13", "thinking-binding-controls-2026-08-01",
        "thinking-display-updates-2026-08-18", "thinking-token-count-2026-05-13", "token-counting-2024-11-01",
        "token-efficient-tools-2025-02-19", "web-fetch-2025-09-10",
        # only let the body name something: what it then names is bounded, or is what a hard budget refuses
        "advisor-tool-2026-03-01", "code-execution-2025-05-22", "code-execution-2025-08-25", "compact-2026-01-12", "compact-2026-09-04",
        "fallback-credit-2026-06-01", "fallback-credit-2026-07-01", "files-api-2025-04-14", "inline-tools-2026-09-15",
        "mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15", "server-side-fallback-2026-06-01",
        "server-side-fallback-2026-07-01", "skills-2025-10-02",
    }
)  # fmt: skip
"""Anthropic betas that need no thought beside their call's body (`anthropic.types.AnthropicBetaParam`; `claude-code-20250219` and
`effort-2025-11-24` are what Claude Code and the effort guide send, and older SDKs list). Another one may change what the same body costs."""


def read_messages(request: Request, body: bytes, *, counting: bool = False) -> Call:
    """Anthropic messages; `counting`: the same body without an output, for count_tokens."""
    fields = read_object(body)
    model = check_model(fields.get("model"))
    thread = fields.get("thread")
    if type(thread) not in (dict, type(None)):
        raise BadRequest("'thread' must be an object.", param="thread", code="invalid_type")
    if counting and thread:
        raise BadRequest("Tokens are counted of a whole conversation.", param="thread", code="field_not_allowed")
    # a thread goes on from messages that lie at the provider, also after an answer that wants nothing said
    _check_list(fields.get("messages"), "messages", least=0 if thread and "previous_message_id" in thread else 1)
    if not counting and fields.get("max_tokens") is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens", code="missing_max_tokens")
    call = Call(request, body, fields, model, not counting and read_streamed(fields), thread=thread)
    beta = unknown_beta(request)
    if beta:
        call.doubt = f"the beta {beta!r}"
    return call


def read_gemini(request: Request, body: bytes, *, model: str, verb: str, streamed: bool = False) -> Call:
    """Gemini's verbs: the model and the manner of the answer are in the path."""
    fields = read_object(body, refuse=())
    model = check_model(model)
    if verb == "embedContent":
        if not isinstance(fields.get("content"), dict | str):
            raise BadRequest("'content' must be an object with parts.", param="content", code="invalid_content")
    elif verb == "batchEmbedContents":
        _check_embeddings(fields, model)
    elif verb == "countTokens" and "generateContentRequest" in fields:
        pass
    else:
        contents = fields.get("contents")
        _check_list([contents] if isinstance(contents, dict | str) and contents else contents, "contents")
    for name in ("generationConfig", "generation_config"):
        if not isinstance(fields.get(name), dict | None):
            raise BadRequest(f"'{name}' must be an object.", param=name, code="invalid_type")
    if "generationConfig" in fields and "generation_config" in fields:
        raise BadRequest(
            "Send generationConfig or generation_config, not both.", param="generation_config", code="invalid_value"
        )
    return Call(request, body, fields, model, streamed)


def read_responses(request: Request, body: bytes, *, counting: bool = False) -> Call:
    fields = read_object(body)
    model = check_model(fields.get("model"))
    given = fields.get("input")
    if isinstance(given, list):
        _check_list(given, "input", least=0)
    elif not isinstance(given, str | None):
        raise BadRequest("'input' must be a string or a list of items.", param="input", code="invalid_type")
    background = fields.get("background")
    if type(background) not in (bool, type(None)):
        raise BadRequest("'background' must be true or false.", param="background", code="invalid_type")
    streamed = not counting and read_streamed(fields)
    return Call(request, body, fields, model, streamed, later=background is True and not streamed and not counting)


def read_completion(request: Request, body: bytes) -> Call:
    fields = read_object(body)
    model = check_model(fields.get("model"))
    prompt = fields.get("prompt")
    if not isinstance(prompt, str | list | None):
        raise BadRequest("'prompt' must be a string or a list.", param="prompt", code="invalid_type")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        _check_list(prompt, "prompt")
    check_choices(fields)
    return Call(request, body, fields, model, read_streamed(fields))


def read_embedding(request: Request, body: bytes) -> Call:
    fields = read_object(body)
    model = check_model(fields.get("model"))
    if not isinstance(fields.get("input"), str | list) or not fields["input"]:
        raise BadRequest("'input' must be a string or a list that is not empty.", param="input", code="invalid_input")
    if fields.get("stream") not in (None, False):
        raise BadRequest("Embeddings are not streamed.", param="stream", code="invalid_value")
    return Call(request, body, fields, model, False)


def read_moderation(request: Request, body: bytes) -> Call:
    fields = read_object(body)
    return Call(request, body, fields, check_model(fields.get("model") or MODERATION_MODEL), False)


def read_images(request: Request, body: bytes) -> Call:
    fields = read_object(body)
    model = check_model(fields.get("model"))
    if not isinstance(fields.get("prompt"), str):
        raise BadRequest("'prompt' must be a string.", param="prompt", code="invalid_type")
    check_choices(fields)
    return Call(request, body, fields, model, read_streamed(fields))


def read_speech(request: Request, body: bytes) -> Call:
    """Text to speech. The answer is sound, or events where `stream_format` says so."""
    fields = read_object(body)
    model = check_model(fields.get("model"))
    if not isinstance(fields.get("input"), str):
        raise BadRequest("'input' must be a string.", param="input", code="invalid_type")
    manner = fields.get("stream_format")
    if manner not in (None, "audio", "sse"):
        raise BadRequest("'stream_format' must be audio or sse.", param="stream_format", code="invalid_value")
    return Call(request, body, fields, model, manner == "sse" or read_streamed(fields))


def _check_list(value: Any, name: str, *, least: int = 1) -> None:
    if type(value) is not list or len(value) < least:
        raise BadRequest(f"'{name}' must be a list with at least one item.", param=name, code=f"invalid_{name}")
    if len(value) > MAX_MESSAGES:
        raise BadRequest(f"'{name}' has more than {MAX_MESSAGES:,} items.", param=name, code=f"too_many_{name}")


def _check_embeddings(fields: dict[str, Any], model: str) -> None:
    """Each of a batch's requests names its model: another than the path's would be billed unseen."""
    requests = fields.get("requests")
    _check_list(requests, "requests")
    for asked in requests or ():
        named = asked.get("model") if type(asked) is dict else 0
        if named is not None and (type(named) is not str or named.removeprefix("models/") != model):
            raise BadRequest(
                "Every request of a batch must name the model of the path.", param="requests", code="invalid_requests"
            )


def unknown_beta(request: Request) -> str:
    """The first beta in the headers that is not one of BETAS; empty where there is none."""
    for name, value in request.forwarded:
        if name == b"anthropic-beta":
            for beta in value.decode("latin-1").split(","):
                if beta.strip() and beta.strip() not in BETAS:
                    return beta.strip()[:80]
    return ""


def check_betas(request: Request) -> None:
    """For what is held long before it is billed (batches): nothing that we do not know. Raises BadRequest."""
    beta = unknown_beta(request)
    if beta:
        raise BadRequest(
            f"The beta '{beta}' is not offered: what it costs cannot be bounded before the call.",
            param="anthropic-beta",
            code="beta_not_allowed",
            hint="Leave it out of the anthropic-beta header, or ask the operator to have it priced.",
        )

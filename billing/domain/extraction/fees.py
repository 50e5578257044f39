"""Fees that are not tokens: searches, sessions, tool calls. Counted from the answer, never from the request alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from billing.domain.extraction import media
from billing.domain.extraction.common import Call
from billing.domain.extraction.record import Tally, UsageContext, text_of


def chat_search_model(tally: Tally, body: Mapping[str, Any], call: Call) -> None:
    """Chat Completions' search models search once for every request."""
    model = text_of(body, "model") or text_of(call.request, "model")
    if call.provider in ("openai", "azure") and re.search(r"-search-(?:preview|api)", model):
        tally.fee("web_search" if "search-api" in model else "web_search_preview", 1)


def openai_tools(tally: Tally, body: Mapping[str, Any], call: Call) -> None:
    """Responses' server tools: the provider's own count where it gives one, else the output items that it bills."""
    items = (
        [item for item in body.get("output") or () if isinstance(item, Mapping)]
        if isinstance(body.get("output"), list)
        else []
    )
    kinds = [text_of(item, "type") for item in items]
    tools = [tool for tool in _list(body.get("tools")) + _list(call.request.get("tools")) if isinstance(tool, Mapping)]
    preview = any(text_of(tool, "type").startswith("web_search_preview") for tool in tools)
    tool_usage = tally.section(body, "tool_usage")
    tally.expect(tool_usage, frozenset({"web_search", "image_gen"}), "tool_usage.")
    stated = tally.section(tool_usage, "web_search")
    if "num_requests" in stated:
        searches = tally.count(stated, "num_requests")
    else:  # open_page and find_in_page are free; an item without an action is an older search
        actions = [item.get("action") for item in items if text_of(item, "type") == "web_search_call"]
        searches = sum(
            1 for action in actions if not isinstance(action, Mapping) or action.get("type", "search") == "search"
        )
    tally.fee("web_search_preview" if preview else "web_search", searches)
    tally.fee("file_search", kinds.count("file_search_call"))
    _containers(tally, items, tools, call)
    pictures = tally.section(tool_usage, "image_gen")
    if not pictures and any(_drawn(item) for item in items):
        tally.missing.append(
            "image_tool_usage_unstated"
        )  # "calls with missing usage may be skipped", says the provider
    _pictures(tally, pictures, tools, call)


def _drawn(item: Mapping[str, Any]) -> bool:
    return text_of(item, "type") == "image_generation_call" and text_of(item, "status") != "failed"


def _containers(tally: Tally, items: list[Mapping[str, Any]], tools: list[Mapping[str, Any]], call: Call) -> None:
    """A fee for each container session of 20 minutes. Whether a container was already running is state: without it, all count as new."""
    used = {
        text_of(item, "container_id") or "?"
        for item in items
        if text_of(item, "type") in ("code_interpreter_call", "shell_call")
    }
    if not used:
        return
    started = call.account.get("container_sessions_started")
    if type(started) is not int:
        tally.missing.append("container_session_state_unknown")
        started = len(used)
    limits = [tool["container"].get("memory_limit") for tool in tools if isinstance(tool.get("container"), Mapping)]
    size = next((f"_{limit}" for limit in limits if limit in ("4g", "16g", "64g")), "")
    tally.fee(f"container_session{size}", max(0, min(started, len(used))))


def _pictures(tally: Tally, usage: Mapping[str, Any], tools: list[Mapping[str, Any]], call: Call) -> None:
    """The image tool's tokens, at the image model's own rates. `tools` has the answer's echo first: it names the model that was used."""
    part = Tally()
    if not usage:
        return
    prompt = media.tokens_of(part, usage, plain_output="output_image")
    if not part.buckets:
        return
    named = next(
        (text_of(tool, "model") for tool in tools if tool.get("type") == "image_generation" and text_of(tool, "model")),
        "",
    )
    if not named:
        tally.missing.append("image_model_assumed")
    context = UsageContext(
        tier=call.tier(None), batch=call.batch, prompt_total=prompt, model_served=named or "gpt-image-1"
    )
    tally.parts.append(part.usage(context, usage))
    tally.measured &= part.measured
    for flag in part.flags:
        tally.flag(flag)


def xai(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    """Server-side tools, by name, as xAI counts them."""
    details = tally.section(usage, "server_side_tool_usage_details")
    names = {
        "web_search_calls": "web_search",
        "x_search_calls": "x_search",
        "code_interpreter_calls": "code_interpreter",
    }
    names |= {
        "file_search_calls": "file_search",
        "document_search_calls": "file_search",
        "collections_search_calls": "file_search",
    }
    tally.expect(details, frozenset(names) | {"mcp_calls", "view_image_calls", "view_x_video_calls"}, "tools.")
    for key, fee in names.items():
        tally.fee(fee, tally.count(details, key))
    if isinstance(
        call.request.get("search_parameters"), Mapping
    ):  # Live Search bills by source; the tools that followed it by call
        tally.fee("live_search_source", tally.count(usage, "num_sources_used"))


def perplexity(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    """Sonar: a fee a request by search context size. Deep research: citations, reasoning and queries instead."""
    model = text_of(body, "model") or text_of(call.request, "model")
    if "deep-research" in model:
        tally.fee("search_query", tally.count(usage, "num_search_queries"))
        tally.fee("citation", tally.count(usage, "citation_tokens"))
        tally.fee("reasoning", tally.count(usage, "reasoning_tokens"))
    elif "sonar" in model:
        asked = call.request.get("web_search_options")
        size = text_of(usage, "search_context_size") or (
            text_of(asked, "search_context_size") if isinstance(asked, Mapping) else ""
        )
        tally.fee(f"request_{size or 'low'}", 1)


def mistral(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    if usage.get("prompt_audio_seconds"):
        tally.add("audio_milliseconds", tally.count(usage, "prompt_audio_seconds") * 1000)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""Fees that are not tokens: searches, sessions, tool calls. Counted from the answer, never from the request alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.domain.extraction.common import Call
from billing.domain.extraction.record import Tally, text_of


def chat_search_model(tally: Tally, body: Mapping[str, Any], call: Call) -> None:
    """Chat Completions' search models search once for every request."""
    if call.provider in ("openai", "azure") and "search" in (text_of(body, "model") or text_of(call.request, "model")):
        tally.fee("web_search" if "search-api" in text_of(body, "model") else "web_search_preview", 1)


def openai_tools(tally: Tally, body: Mapping[str, Any], call: Call) -> None:
    """Responses' server tools: the provider's own count where it gives one, else the output items that it bills."""
    items = [item for item in body.get("output") or () if isinstance(item, Mapping)] if isinstance(body.get("output"), list) else []
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
        searches = sum(1 for action in actions if not isinstance(action, Mapping) or action.get("type", "search") == "search")
    tally.fee("web_search_preview" if preview else "web_search", searches)
    tally.fee("file_search", kinds.count("file_search_call"))
    sessions = {text_of(item, "container_id") or "?" for item in items if text_of(item, "type") in ("code_interpreter_call", "shell_call")}
    tally.fee("container_session", len(sessions))


def xai(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    """Server-side tools, by name, as xAI counts them."""
    details = tally.section(usage, "server_side_tool_usage_details")
    names = {"web_search_calls": "web_search", "x_search_calls": "x_search", "code_interpreter_calls": "code_interpreter"}
    names |= {"file_search_calls": "file_search", "document_search_calls": "file_search", "collections_search_calls": "file_search"}
    tally.expect(details, frozenset(names) | {"mcp_calls", "view_image_calls", "view_x_video_calls"}, "tools.")
    for key, fee in names.items():
        tally.fee(fee, tally.count(details, key))
    tally.fee("live_search_source", tally.count(usage, "num_sources_used"))


def perplexity(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    size = text_of(usage, "search_context_size") or "low"
    tally.fee(f"request_{size}", 1)
    tally.fee("search_query", tally.count(usage, "num_search_queries"))
    tally.fee("citation", tally.count(usage, "citation_tokens"))
    tally.fee("reasoning", tally.count(usage, "reasoning_tokens"))


def mistral(tally: Tally, usage: Mapping[str, Any], body: Mapping[str, Any], call: Call) -> None:
    if usage.get("prompt_audio_seconds"):
        tally.add("audio_milliseconds", tally.count(usage, "prompt_audio_seconds") * 1000)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""What a request asks the provider to do beside answering: tools it runs, features it bills. Bounded by a declared number, or not at all.

Each use of a server tool costs a fee and bills the context again. A field nobody has taught us, whose name smells of money, has no bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from billing.domain.modalities import CLIENT_TOOL_PREFIXES, CLIENT_TOOLS, TOOL_OVERHEAD_TOKENS, Contents

MAX_USES = 1_000
SMELLS_OF_MONEY = re.compile(
    r"num_return|candidate|ensemble|draft|premium|turbo|boost|priorit|search|tool|plugin|agent|retriev|cache|tier|speed|fallback|advis|context_manag|mcp|container|image|audio|video|modalit|geo|region|ground|fetch|browse|skill|route|compact"
)
KNOWN_FIELDS = frozenset(
    {
        # read by the bound
        "service_tier", "serviceTier", "speed", "inference_geo", "tools", "max_tool_calls", "web_search_options", "mcp_servers", "plugins",
        "search_parameters", "modalities", "audio", "cachedContent", "cached_content", "cache_control", "prompt_cache_retention",
        "prompt_cache_options", "context_management", "image", "input_image",
        # cost nothing by themselves
        "tool_choice", "toolConfig", "tool_config", "parallel_tool_calls", "functions", "function_call", "prompt_cache_key",
        "disable_parallel_tool_use", "tool_resources", "image_config", "safe_prompt", "search_domain_filter", "search_recency_filter",
        "return_images", "search_mode", "search_context_size", "enable_search_classifier", "search_after_date_filter",
        "search_before_date_filter", "disable_search", "image_detail", "response_modalities", "user_agent", "tool_stream",
        "background",
    }
)  # fmt: skip


@dataclass(slots=True)
class ToolBound:
    """What a request's server tools can cost at most."""

    fees: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    """How many more times the context can be billed."""
    overhead_tokens: int = 0
    reasons: list[str] = field(default_factory=list)

    def fee(self, name: str, quantity: int) -> None:
        self.fees[name] = self.fees.get(name, 0) + quantity


def bound_tools(provider: str, model: str, body: Mapping[str, Any], contents: Contents) -> ToolBound:
    bound = ToolBound()
    calls = body.get("max_tool_calls")
    cap = calls if type(calls) is int and 0 < calls <= MAX_USES else None
    for tool in contents.tools:
        bound.overhead_tokens += 16
        _one(provider, model, tool, cap, bound)
    if isinstance(body.get("web_search_options"), Mapping) or "search-preview" in model or "search-api" in model:
        bound.fee("web_search" if "search-api" in model else "web_search_preview", 1)
    servers = body.get("mcp_servers")
    if isinstance(servers, list) and servers:
        bound.reasons.append("mcp_servers: the provider calls tools without a limit")
    management = body.get("context_management")
    if management and "compact" in str(management):
        bound.reasons.append("context_management: compaction is billed apart")
    for name in body:
        if _may_cost(name):
            bound.reasons.append(f"the field {str(name)[:40]!r} is not known here and may cost money")
    if provider == "xai" and isinstance(body.get("search_parameters"), Mapping):
        most = body["search_parameters"].get("max_search_results", 20)
        bound.fee("live_search_source", most if type(most) is int and 0 < most <= MAX_USES else MAX_USES)
    if body.get("plugins") or (provider == "openrouter" and model.endswith(":online")):
        bound.reasons.append("plugins: they are billed apart")
    return bound


@lru_cache(maxsize=1024)
def _may_cost(name: str) -> bool:
    return name not in KNOWN_FIELDS and SMELLS_OF_MONEY.search(str(name)) is not None


def _one(provider: str, model: str, tool: Mapping[str, Any], cap: int | None, bound: ToolBound) -> None:
    kind = tool.get("type")
    if kind is None:
        _untyped(model, tool, bound)
        return
    name = kind if isinstance(kind, str) else "?"
    if name in CLIENT_TOOLS:
        return
    bound.overhead_tokens += sum(tokens for prefix, tokens in TOOL_OVERHEAD_TOKENS.items() if name.startswith(prefix))
    if name.startswith(CLIENT_TOOL_PREFIXES):
        return
    if name.startswith(("web_search_20", "web_fetch_20")) and not name.startswith("web_search_2025_"):
        _anthropic_web(name, tool, bound)
    else:
        _hosted(provider, name, tool, cap, bound)


def _anthropic_web(name: str, tool: Mapping[str, Any], bound: ToolBound) -> None:
    uses = tool.get("max_uses")
    if type(uses) is not int or not 0 < uses <= MAX_USES:
        bound.reasons.append(f"{name} without max_uses")
        return
    bound.rounds += uses
    if name.startswith("web_search"):
        bound.fee("web_search", uses)


def _hosted(provider: str, name: str, tool: Mapping[str, Any], cap: int | None, bound: ToolBound) -> None:
    fee = {
        "web_search": "web_search",
        "web_search_2025_08_26": "web_search",
        "file_search": "file_search",
        "x_search": "x_search",
    }.get(name)
    if name.startswith("web_search_preview"):
        fee = "web_search_preview"
    if name in ("code_interpreter", "shell") and provider in ("openai", "azure"):
        fee = f"container_session{_memory(tool)}"
    if name == "code_interpreter" and provider == "xai":
        fee = "code_interpreter"
    if fee is None:
        bound.reasons.append(f"the server tool {name[:40]!r} has no bound")
    elif cap is None:
        bound.reasons.append(f"{name} without max_tool_calls")
    else:
        bound.fee(fee, cap)
        bound.rounds = max(bound.rounds, cap)


CLIENT_TOOL_KEYS = frozenset(
    {
        "functionDeclarations",
        "function_declarations",
        "name",
        "description",
        "input_schema",
        "parameters",
        "cache_control",
        "strict",
        "function",
    }
    | {"defer_loading", "allowed_callers", "input_examples", "eager_input_streaming"}
)
GOOGLE_SEARCH = frozenset({"googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"})


def _untyped(model: str, tool: Mapping[str, Any], bound: ToolBound) -> None:
    """Gemini's tools are keyed by name; an Anthropic client tool has a schema and no type."""
    for name in tool:
        if name in CLIENT_TOOL_KEYS:
            continue
        if name in GOOGLE_SEARCH and ("gemini-2" in model or "gemini-1" in model):
            bound.fee("grounding_prompt", 1)  # one fee a prompt however many searches, and grounded text is not billed
        else:
            bound.reasons.append(f"the server tool {str(name)[:40]!r} has no bound")


def _memory(tool: Mapping[str, Any]) -> str:
    container = tool.get("container")
    limit = container.get("memory_limit") if isinstance(container, Mapping) else None
    return f"_{limit}" if limit in ("4g", "16g", "64g") else ""

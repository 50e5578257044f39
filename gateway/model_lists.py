"""The lists of models, in each surface's own shape: what a key can use there. Never blocked by a budget; a revoked key is refused."""

from __future__ import annotations

from typing import Any

import orjson

from gateway import edge, endpoints, routing
from gateway.answers import identity, send_whole
from gateway.edge import Receive, Scope, Send
from gateway.errors import UnknownModel
from gateway.routing import Offer
from gateway.runtime import Runtime
from gateway.surfaces import ANTHROPIC, GEMINI, surface_of

PATHS = ("/v1/models", "/anthropic/v1/models", "/gemini/v1beta/models", "/gemini/v1/models")
_BORN = "2026-01-01T00:00:00Z"
"""When a model was released is not in our price book; the field is mandatory."""


def lists(path: str) -> bool:
    return path in PATHS or (
        path.startswith(tuple(f"{known}/" for known in PATHS)) and ":" not in path.rpartition("/")[2]
    )


async def answer(runtime: Runtime, scope: Scope, receive: Receive, send: Send, call_id: str) -> None:
    """GET a list, or one model of it."""
    edge.require_method(scope, "GET", "HEAD")
    request = edge.read_head(scope, call_id)
    grant = await runtime.gate.policies.recognise(request.secret)
    path: str = scope["path"]
    surface = surface_of(path)
    endpoint = (
        endpoints.MESSAGES if surface is ANTHROPIC else endpoints.GENERATE if surface is GEMINI else endpoints.CHAT
    )
    show = _anthropic if surface is ANTHROPIC else _gemini if surface is GEMINI else _openai
    offers = routing.offers(grant, grant.policy.book, endpoint)
    wanted = path.partition("/models")[2].lstrip("/")
    if not wanted:
        listed = [show(offer, runtime) for offer in offers]
        await _send(send, call_id, _listing(show, listed))
        return
    for offer in offers:
        if wanted in (offer.id, f"{offer.owned_by}/{offer.id}"):
            await _send(send, call_id, show(offer, runtime))
            return
    raise UnknownModel(f"The model '{wanted[:200]}' does not exist, or this key may not use it.", param="model")


def _listing(show: Any, listed: list[dict[str, Any]]) -> dict[str, Any]:
    if show is _gemini:
        return {"models": listed}
    if show is _anthropic:
        ends = (
            {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]}
            if listed
            else {"first_id": None, "last_id": None}
        )
        return {"data": listed, "has_more": False, **ends}
    return {"object": "list", "data": listed}


async def _send(send: Send, call_id: str, body: dict[str, Any]) -> None:
    await send_whole(send, 200, [(b"content-type", b"application/json"), *identity(call_id)], orjson.dumps(body))


def _openai(offer: Offer, runtime: Runtime) -> dict[str, Any]:
    return {"id": offer.id, "object": "model", "created": 0, "owned_by": offer.owned_by}


def _anthropic(offer: Offer, runtime: Runtime) -> dict[str, Any]:
    return {"type": "model", "id": offer.id, "display_name": offer.id, "created_at": _BORN}


def _gemini(offer: Offer, runtime: Runtime) -> dict[str, Any]:
    meta = runtime.book.meta(offer.owned_by, offer.id)
    return {
        "name": f"models/{offer.id}",
        "displayName": offer.id,
        "version": "1",
        "inputTokenLimit": meta.context_window if meta is not None else 0,
        "outputTokenLimit": meta.max_output_tokens if meta is not None else 0,
        "supportedGenerationMethods": (
            ["embedContent", "batchEmbedContents"]
            if meta is not None and meta.mode == "embedding"
            else ["generateContent", "streamGenerateContent", "countTokens"]
        ),
    }

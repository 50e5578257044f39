"""The "Send a test call" button: one real call through the gateway, as an application would make it.

The browser never holds a key: a virtual key that allows one model and a short answer and lives for two minutes is made, used for this one call over
HTTP, and revoked whatever happened. The call is on the books like any other, as the agent "test-call".
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from workspaces import actions, outbound
from workspaces.models import VirtualKey
from workspaces.roles import Action
from workspaces.views import reads
from workspaces.views.frame import actor, framed, membership_of, page, url, workspace_of, workspace_page

AGENT = "test-call"
LIVES = timedelta(minutes=2)
TIMEOUT_S = 20.0
OUTPUT_TOKENS = 48
PROMPT = "In one short sentence: what is a sluice?"

# The cheapest current model of each provider that answers chats, for tests and snippets. Others are asked for their list.
CHEAP_MODELS = {
    "simulator": "sim-small",
    "openai": "gpt-4o-mini",
    "groq": "llama-3.1-8b-instant",
    "mistral": "mistral-small-latest",
    "deepseek": "deepseek-chat",
    "xai": "grok-3-mini",
    "openrouter": "openai/gpt-4o-mini",
    "fireworks": "accounts/fireworks/models/llama-v3p1-8b-instruct",
    "perplexity": "sonar",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash-lite",
}


def offered(request: HttpRequest, *, surely: bool = False) -> dict[str, Any]:
    """What the button's template needs. `surely`: calls went through before, so nobody looks for a credential."""
    return {"can_call": surely or bool(reads.usable_credentials()), "test_call_url": url(request, "test_call")}


def suggested_model() -> str:
    """A model that the entered workspace's credentials can reach; a well-known one while there are none."""
    for credential in reads.usable_credentials():
        if credential.provider in CHEAP_MODELS:
            return CHEAP_MODELS[credential.provider]
    return "gpt-4o-mini"


@workspace_page(Action.SEND_TEST_CALL, methods=("POST",))
def test_call(request: HttpRequest) -> HttpResponse:
    result = _send(request)
    if request.headers.get("HX-Request"):
        return render(request, "parts/test_call_result.html", framed(request, "overview") | {"result": result})
    return page(request, "workspaces/test_call.html", "overview", {"result": result})


def _send(request: HttpRequest) -> dict[str, Any]:
    workspace, by = workspace_of(request), actor(request)
    if not reads.usable_credentials():
        return _failed(
            "No provider to call",
            "There is no working provider key in the vault.",
            "Add one; the simulator needs none.",
        )
    minted = actions.create_virtual_key(
        workspace=workspace,
        by=by,
        name=reads.TEST_CALL_KEY,
        environment=_environment(),
        member_id=membership_of(request).id,
        agent=AGENT,
        output_limit=OUTPUT_TOKENS,
        expires_at=timezone.now() + LIVES,
    )
    try:
        return _call(request, minted.row, minted.text)
    finally:
        actions.revoke_virtual_key(workspace=workspace, by=by, key_id=minted.row.id)


def _call(request: HttpRequest, key: VirtualKey, text: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {text}", "content-type": "application/json"}
    started = time.monotonic()
    try:
        model = _model(headers)
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": OUTPUT_TOKENS}
        answer = outbound.post(
            settings.PUBLIC_URL,
            "/v1/chat/completions",
            headers=headers,
            content=json.dumps(body).encode(),
            timeout_s=TIMEOUT_S,
        )
    except outbound.OutboundFailed as failure:
        return _failed(
            "The gateway did not answer", str(failure), "Is it running at the public URL of this installation?"
        )
    took_ms = round((time.monotonic() - started) * 1000)
    content = _decoded(answer.body)
    if answer.status != 200:
        error = content.get("error") if isinstance(content.get("error"), dict) else {}
        said = str(error.get("message") or f"The gateway answered HTTP {answer.status}.")  # type: ignore[union-attr]
        return _failed("The call was refused", said, "", status=answer.status)
    call_id = answer.headers.get("sluice-call-id", "")
    return {
        "is_good": True,
        "status": answer.status,
        "answer": _text_of(content) or "(an empty answer)",
        "model": str(content.get("model", model)),
        "cost": f"${answer.headers['sluice-cost']}" if answer.headers.get("sluice-cost") else "",
        "took": f"{took_ms} ms",
        "overhead": f"{answer.headers['sluice-overhead-ms']} ms" if answer.headers.get("sluice-overhead-ms") else "",
        "call_id": call_id,
        "call_url": url(request, "call", call_id) if call_id else "",
    }


def _environment() -> str:
    """One that the first usable credential is for."""
    return reads.usable_credentials()[0].environment or "test"


def _model(headers: dict[str, str]) -> str:
    """The model to ask: a cheap one of the first usable provider, else the first that the gateway lists."""
    provider = reads.usable_credentials()[0].provider
    if provider in CHEAP_MODELS:
        return f"{provider}/{CHEAP_MODELS[provider]}"
    listed = _decoded(outbound.get(settings.PUBLIC_URL, "/v1/models", headers=headers, timeout_s=TIMEOUT_S).body)
    models = listed.get("data")
    if isinstance(models, list) and models and isinstance(models[0], dict):
        return str(models[0].get("id", ""))
    raise outbound.OutboundFailed("The gateway lists no model for these provider keys.")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _text_of(content: dict[str, Any]) -> str:
    try:
        text = content["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def _failed(title: str, message: str, hint: str, *, status: int | None = None) -> dict[str, Any]:
    return {"is_good": False, "status": status, "title": title, "message": message, "hint": hint}

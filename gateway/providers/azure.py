"""Azure OpenAI's two surfaces. The v1 API is OpenAI's, with deployments for models. Before it (`api_version`), chat, completions and embeddings
stand under their deployment's path, and every call names the version (learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle)."""

from __future__ import annotations

from urllib.parse import quote

from workspaces.domain.providers import Settings

_BY_DEPLOYMENT = frozenset(
    {
        "/chat/completions", "/completions", "/embeddings", "/images/generations", "/images/edits", "/audio/speech",
        "/audio/transcriptions", "/audio/translations",
    }
)  # fmt: skip


def azure_path(path: str, deployment: str, settings: Settings) -> str:
    """The path to ask, after the base URL."""
    version = settings.get("api_version")
    if not version:
        return path
    place = f"/deployments/{quote(deployment, safe='')}" if path in _BY_DEPLOYMENT else ""
    return f"{place}{path}{'&' if '?' in path else '?'}api-version={version}"

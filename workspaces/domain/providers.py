"""The providers a credential can be for: where they are, and how they want to be asked whether a key works.

What a provider *speaks* (dialects, metering) is the gateway's business; a test holds the two lists together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    name: str
    title: str
    base_url: str = ""
    """Empty: each credential brings its own."""
    key_optional: bool = False
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    extra_headers: tuple[tuple[str, str], ...] = ()
    check_path: str = "/models"
    """A cheap GET that only a working key gets 200 from; empty: there is none."""
    key_hint: str = ""
    """How its keys start, for forms."""

    def headers(self, key: str) -> Mapping[str, str]:
        """The request headers that carry the key."""
        own = {self.key_header: self.key_prefix + key} if key else {}
        return {**own, **dict(self.extra_headers)}


_ACCESS = (
    Access("openai", "OpenAI", "https://api.openai.com/v1", key_hint="sk-"),
    Access(
        "anthropic", "Anthropic", "https://api.anthropic.com/v1", key_header="x-api-key", key_prefix="",
        extra_headers=(("anthropic-version", "2023-06-01"),), key_hint="sk-ant-",
    ),
    Access(
        "gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta", key_header="x-goog-api-key", key_prefix="",
        key_hint="AIza",
    ),
    Access("simulator", "Simulator", key_optional=True),
    Access("openai_compatible", "OpenAI-compatible", key_optional=True),
    Access("groq", "Groq", "https://api.groq.com/openai/v1", key_hint="gsk_"),
    Access("mistral", "Mistral", "https://api.mistral.ai/v1"),
    Access("deepseek", "DeepSeek", "https://api.deepseek.com/v1", key_hint="sk-"),
    Access("xai", "xAI", "https://api.x.ai/v1", key_hint="xai-"),
    Access("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", check_path="/key", key_hint="sk-or-"),  # its /models is public
    Access("together", "Together AI", "https://api.together.xyz/v1"),
    Access("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", key_hint="fw_"),
    Access("perplexity", "Perplexity", "https://api.perplexity.ai", check_path="", key_hint="pplx-"),  # lists no models
    Access("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_optional=True),
)  # fmt: skip

PROVIDERS: dict[str, Access] = {access.name: access for access in _ACCESS}

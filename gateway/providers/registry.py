"""The providers: one declarative record each. A new one is a record here; a new family of APIs is a dialect.

`cancel_stops_billing` follows OpenRouter's published table (BILLING.md 1.5); where that table is silent, a cancel does not stop the bill.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Auth(StrEnum):
    """How a provider wants its key."""

    BEARER = "bearer"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    title: str
    base_url: str = ""
    """Empty: each credential brings its own."""
    dialect: str = "openai"
    auth: Auth = Auth.BEARER
    key_optional: bool = False
    price_provider: str = ""
    """The provider's name in the price book, where it is another."""
    output_limit_field: str = "max_tokens"
    """The body field that bounds the output on this provider; its older or newer twin is understood too."""
    stream_usage_option: bool = True
    """Understands `stream_options.include_usage`. False: it states usage in streams unasked, and refuses or ignores the option."""
    cancel_stops_billing: bool = False
    bills_errors: bool = False
    sends_attempt: bool = False
    """Gets the attempt id in `X-Sluice-Attempt`. Only the simulator does: our ids are no business of a real provider."""

    @property
    def priced_as(self) -> str:
        return self.price_provider or self.name


_RECORDS = (
    Provider("openai", "OpenAI", "https://api.openai.com/v1", output_limit_field="max_completion_tokens", cancel_stops_billing=True),
    Provider("simulator", "Simulator", key_optional=True, output_limit_field="max_completion_tokens", sends_attempt=True),
    Provider("openai_compatible", "OpenAI-compatible", key_optional=True),
    Provider("groq", "Groq", "https://api.groq.com/openai/v1", output_limit_field="max_completion_tokens"),
    Provider("mistral", "Mistral", "https://api.mistral.ai/v1", stream_usage_option=False),
    Provider("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
    Provider("xai", "xAI", "https://api.x.ai/v1", price_provider="x-ai", output_limit_field="max_completion_tokens", cancel_stops_billing=True),
    Provider("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    Provider("together", "Together AI", "https://api.together.xyz/v1", cancel_stops_billing=True),
    Provider("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", cancel_stops_billing=True),
    Provider("perplexity", "Perplexity", "https://api.perplexity.ai", stream_usage_option=False),
    Provider("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_optional=True),
)  # fmt: skip

PROVIDERS: dict[str, Provider] = {record.name: record for record in _RECORDS}

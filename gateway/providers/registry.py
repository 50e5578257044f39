"""The providers as the gateway sees them: one declarative record each. A new one is a record here; a new family of APIs is a dialect.

Where they are and how they take a key is `workspaces.domain.providers`; what they speak, and how they bill, is here. The order is the order
of preference where several know a model. `cancel_stops_billing` follows OpenRouter's published table (BILLING.md 1.5); where that table is
silent, a cancel does not stop the bill.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.providers.dialect import Dialect
from gateway.providers.openai_chat import OpenAIChat
from workspaces.domain import providers

OPENAI = OpenAIChat()


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    dialect: Dialect = OPENAI
    stream_usage_option: bool = True
    """Understands `stream_options.include_usage`. False: it states usage in streams unasked, and refuses or ignores the option."""
    cancel_stops_billing: bool = False
    bills_errors: bool = False
    sends_attempt: bool = False
    """Gets the attempt id in `X-Sluice-Attempt`. Only the simulator does: our ids are no business of a real provider."""

    @property
    def access(self) -> providers.Access:
        return providers.PROVIDERS[self.name]


_RECORDS = (
    Provider("openai", cancel_stops_billing=True),
    Provider("simulator", sends_attempt=True),
    Provider("openai_compatible"),
    Provider("groq"),
    Provider("mistral", stream_usage_option=False),
    Provider("deepseek"),
    Provider("xai", cancel_stops_billing=True),
    Provider("openrouter"),
    Provider("together", cancel_stops_billing=True),
    Provider("fireworks", cancel_stops_billing=True),
    Provider("perplexity", stream_usage_option=False),
    Provider("ollama"),
)

PROVIDERS: dict[str, Provider] = {record.name: record for record in _RECORDS}

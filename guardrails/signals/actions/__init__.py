"""Writing what people decide about signals. Keyword-only, atomic, audited."""

from guardrails.signals.actions.alerts import archive, archive_all
from guardrails.signals.actions.endpoints import (
    create_endpoint,
    delete_endpoint,
    replay,
    rotate_secret,
    test_endpoint,
    update_endpoint,
)
from guardrails.signals.actions.preferences import mark_seen, set_preference, unsubscribe
from guardrails.signals.actions.spend_line import set_spend_line

__all__ = [
    "archive",
    "archive_all",
    "create_endpoint",
    "delete_endpoint",
    "mark_seen",
    "replay",
    "rotate_secret",
    "set_preference",
    "set_spend_line",
    "test_endpoint",
    "unsubscribe",
    "update_endpoint",
]

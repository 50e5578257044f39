"""Writing what a workspace configures of admission. Every action is atomic, audited, and takes effect on the next call of every replica."""

from guardrails.actions.bars import bar_model, lift_bar
from guardrails.actions.budgets import (
    create_budget,
    daily_hard_stop,
    delete_budget,
    draft_budget,
    draft_change,
    follow_time_zone,
    member_caps,
    monthly_control,
    spend_alert,
    update_budget,
)
from guardrails.actions.raises import decide_raise, grant_raise, request_raise, withdraw_raise
from guardrails.actions.rate_limits import create_rate_limit, delete_rate_limit, each_key_limit, update_rate_limit

__all__ = [
    "bar_model",
    "create_budget",
    "create_rate_limit",
    "daily_hard_stop",
    "decide_raise",
    "delete_budget",
    "delete_rate_limit",
    "draft_budget",
    "draft_change",
    "each_key_limit",
    "follow_time_zone",
    "grant_raise",
    "lift_bar",
    "member_caps",
    "monthly_control",
    "request_raise",
    "spend_alert",
    "update_budget",
    "update_rate_limit",
    "withdraw_raise",
]

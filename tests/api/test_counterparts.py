"""Whatever the browser can do, a script can: every page that takes a POST has its operation in the API, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from workspaces import reference

PAGES = "w/<str:slug>/"
NONE_BECAUSE = {
    "invitation": "joining is the invited person's own act, signed in under the invited address",
    "profile": "a person's name is not the workspace's to change",
    "unsubscribe": "the link of a mail, for who has no token at hand; alert-preferences/ is the same for who has",
    "test_call": "it spares the browser a key; a script has one and calls the gateway",
    "budget_try": "budgets/preview/ and budgets/backtest/ in one page; each is an operation of its own",
    "budget_try_change": "as budget_try, for a budget that exists",
}
OPERATIONS = {
    # page: the operation that does the same
    "workspace_new": "workspaces_create",
    "key_new": "virtual_keys_create",
    "key": "virtual_keys_change",
    "key_rotate": "virtual_keys_rotate",
    "key_revoke": "virtual_keys_revoke",
    "credential_new": "credentials_add",
    "credential_check": "credentials_verify",
    "credential_rotate": "credentials_rotate",
    "credential_disable": "credentials_disable",
    "credential_enable": "credentials_enable",
    "credential_delete": "credentials_delete",
    "member_invite": "invitations_create",
    "member_role": "members_change",
    "member_department": "members_change",
    "member_remove": "members_remove",
    "invitation_withdraw": "invitations_withdraw",
    "department_new": "departments_create",
    "department_remove": "departments_delete",
    "agent_new": "agents_create",
    "agent_remove": "agents_delete",
    "audit_export": "audit_export",
    "tokens": "api_tokens_create",
    "token_revoke": "api_tokens_revoke",
    "settings": "workspaces_change",
    "workspace_display": "display_set",
    "alias_new": "aliases_create",
    "alias_edit": "aliases_change",
    "alias_delete": "aliases_delete",
    "fallbacks": "routing_change",
    "workspace_delete": "workspaces_delete",
    "view_save": "saved_views_create",
    "view_delete": "saved_views_delete",
    "preset": "budgets_daily_hard_stop budgets_monthly_control budgets_member_caps budgets_spend_alert",
    "budget_new": "budgets_create",
    "budget_edit": "budgets_change",
    "budget_delete": "budgets_delete",
    "raise_new": "raises_request",
    "raise_approve": "raises_approve",
    "raise_decline": "raises_decline",
    "raise_withdraw": "raises_withdraw",
    "bar_lift": "barred_models_lift",
    "suspend": "workspaces_suspend",
    "resume": "workspaces_resume",
    "limit_new": "rate_limits_create",
    "limit_edit": "rate_limits_change",
    "limit_delete": "rate_limits_delete",
    "alerts_archive_all": "alerts_archive_all",
    "alert_preferences": "alert_preferences_change",
    "spend_line": "spend_alert_set",
    "alert_archive": "alerts_archive",
    "endpoints": "webhooks_create",
    "endpoint": "webhooks_change",
    "endpoint_pause": "webhooks_change",
    "endpoint_test": "webhooks_test",
    "endpoint_secret": "webhooks_rotate_secret",
    "endpoint_delete": "webhooks_delete",
    "delivery_replay": "webhooks_replay",
    "key_pause": "virtual_keys_pause virtual_keys_resume",
    "anomaly_settings": "anomaly_settings_change",
    "anomaly_feedback": "anomalies_feedback",
    "waste_fingerprints": "waste_settings",
    "anomaly_pause_key": "anomalies_pause_key",
    "anomaly_throttle": "anomalies_throttle",
    "anomaly_lift_limit": "anomalies_lift_limit",
}


def posting() -> Iterator[tuple[str, str]]:
    """(name, path) of every page of ours that takes a POST. The pages of sign-in (allauth) are a person's own."""

    def walk(prefix: str, patterns: list[Any]) -> Iterator[tuple[str, str]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                if not path.startswith(("accounts/", "api/")):
                    yield from walk(path, pattern.url_patterns)
            elif not path.startswith("^api/") and _takes_posts(path, pattern):
                yield str(pattern.name), path

    return walk("", get_resolver().url_patterns)


def _takes_posts(path: str, pattern: URLPattern) -> bool:
    methods = getattr(pattern.callback, "methods", None)
    assert methods is not None or not path.startswith(PAGES), f"{path} is no workspace_page"
    return "POST" in methods if methods is not None else pattern.name in {*NONE_BECAUSE, *OPERATIONS}


def shape(path: str) -> str:
    """An address without the names of its ids."""
    return re.sub(r"<[^>]*>|\{[^}]*\}", "*", path).strip("/")


def test_whatever_a_page_can_do_an_operation_of_the_api_can_or_there_is_a_reason() -> None:
    paths = reference.document()["paths"]
    operations = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    same_address = {
        shape(path).removeprefix("api/v1/workspaces/*/") for path, methods in paths.items() if "post" in methods
    }
    missing = []
    for name, path in posting():
        named = OPERATIONS.get(name, "").split()
        alike = shape(path).removeprefix("w/*/") in same_address
        if name not in NONE_BECAUSE and not alike and (not named or not set(named) <= operations):
            missing.append(f"{name} ({path}): {' '.join(named) or 'no operation, no reason'}")
    assert not missing, "\n".join(missing)


def test_the_tables_name_only_pages_that_are_there() -> None:
    assert {*OPERATIONS, *NONE_BECAUSE} <= {name for name, _ in posting()}

"""How the operations of the API are grouped and called for people: a group is the first part of the address after the workspace."""

from __future__ import annotations

from collections.abc import Iterable

GROUPS: dict[str, tuple[str, str]] = {
    # part of the address: (name, what it is about); in the order of the reference
    "": ("Workspace", "The workspace itself, its time zone, its kill switch and its end."),
    "virtual-keys": ("Virtual keys", "What applications hold instead of a provider's key."),
    "credentials": ("Provider keys", "Your own keys at the providers, sealed. They go in and never come out."),
    "aliases": ("Routing", "Your own names for models, and what is done when an attempt fails."),
    "budgets": ("Budgets", "Caps that hold, with what is settled, held and left."),
    "raises": ("Raises", "Temporary raises of a cap: asked for, decided, ending by themselves."),
    "rate-limits": ("Rate limits", "Requests, tokens or calls at once, per scope."),
    "barred-models": ("Barred models", "Models kept from hard budgets until somebody has looked."),
    "usage": ("Usage and calls", "Spend by any dimension, and the calls behind it."),
    "saved-views": ("Saved views", "Questions to the explorer, kept under a name."),
    "ledger": ("Ledger", "Every line of the books, to take along."),
    "prices": ("Prices", "Your own rates and discounts, and what a model costs now."),
    "alerts": ("Alerts", "What happened that somebody should know, and who hears of it."),
    "waste": ("Waste", "What bought nothing, with evidence, levers, and what they saved."),
    "webhooks": ("Webhooks", "Where alerts are posted, signed, with a log of deliveries."),
    "members": ("People", "Members, invitations, departments and agents."),
    "api-tokens": ("API tokens", "Tokens of this API. None is stronger than its maker."),
    "audit": ("Audit log", "Every write, who did it, from where, before and after; in a chain of hashes."),
}
_SAME = {
    "suspend": "", "resume": "", "delete": "", "display": "", "test-call": "virtual-keys", "routing": "aliases", "calls": "usage",
    "invitations": "members",    "departments": "members", "agents": "members", "alert-preferences": "alerts", "spend-alert": "alerts",
}  # fmt: skip
_SAID = {
    "usage": "Spend, calls and tokens, grouped and over time",
    "audit_list": "List the audit log",
    "audit_export": "Export the audit log",
    "virtual_keys_pause": "Pause a virtual key",
    "display_show": "Read how amounts are shown",
    "display_set": "Set how amounts are shown",
    "workspaces_create": "Make another workspace",
    "alerts_archive_all": "Archive every alert up to one",
    "prices_lookup": "Read what a model costs now",
    "prices_unpriced": "List models without a price",
    "budgets_standing": "Read how far each value of a budget is",
    "budgets_preview": "Preview a new budget",
    "budgets_preview_change": "Preview a change of a budget",
    "budgets_backtest": "Replay history against a new budget",
    "budgets_backtest_change": "Replay history against a change of a budget",
    "budgets_daily_hard_stop": "Set the daily hard stop",
    "budgets_monthly_control": "Set the monthly control",
    "budgets_member_caps": "Set the cap of every member",
    "budgets_spend_alert": "Set the alert on spend",
    "spend_alert_set": "Set the line of the Monthly Spend Alert",
    "alert_preferences_show": "Read one's own alert preferences",
    "alert_preferences_change": "Change one's own alert preferences",
    "waste_list": "List what was wasted",
    "waste_show": "Read a finding of waste",
    "waste_dismiss": "Dismiss a finding of waste",
    "waste_restore": "Let a dismissed finding count again",
    "waste_pull": "Pull a lever on a finding of waste",
    "waste_undo": "Take a lever back",
    "waste_summary": "Read all waste and savings in sum",
    "waste_settings": "Switch call fingerprints on or off",
    "waste_look": "Look for waste now",
    "webhooks_deliveries": "List the deliveries of a webhook",
    "webhooks_replay": "Send a delivery once more",
    "webhooks_rotate_secret": "Rotate the signing secret of a webhook",
    "workspaces_show": "Read the workspace",
    "workspaces_change": "Change the workspace",
    "workspaces_delete": "Delete the workspace",
    "workspaces_suspend": "Suspend the workspace: the kill switch",
    "workspaces_resume": "Resume the workspace",
}
_VERBS = {
    "show": "Read {a}",
    "create": "Make {a}",
    "add": "Add {a}",
    "change": "Change {a}",
    "delete": "Delete {a}",
    "revoke": "Revoke {a}",
    "rotate": "Rotate {a}",
    "verify": "Check {a} at its provider",
    "enable": "Enable {a}",
    "disable": "Disable {a}",
    "approve": "Approve {a}",
    "decline": "Decline {a}",
    "withdraw": "Withdraw {a}",
    "request": "Ask for {a}",
    "archive": "Archive {a}",
    "restore": "Restore {a}",
    "remove": "Remove {a}",
    "end": "End {a}",
    "test": "Test {a}",
    "pause": "Pause {a}",
    "lift": "Lift the bar on {a}",
    "suspend": "Suspend {a}",
    "resume": "Resume {a}",
    "export": "Export the {all}",
}


def tag_of(path: str) -> str:
    """`/api/v1/workspaces/{slug}/virtual-keys/{key_id}/` -> "Virtual keys". An address no group knows is a group of its own."""
    parts = [part for part in path.split("/") if part and not part.startswith(("{", "<"))]
    part = parts[3] if len(parts) > 3 else ""
    part = _SAME.get(part, part)
    return GROUPS[part][0] if part in GROUPS else _words(part)


def listed(used: Iterable[str]) -> list[dict[str, str]]:
    """The groups in the order of the reference; those it does not know at the end."""
    wanted = set(used)
    known = [{"name": name, "description": text} for name, text in GROUPS.values() if name in wanted]
    others = wanted - {one["name"] for one in known}
    return known + [{"name": name, "description": ""} for name in sorted(others)]


def summary_of(operation_id: str, is_list: bool) -> str:
    """ "virtual_keys_revoke" -> "Revoke a virtual key"."""
    if operation_id in _SAID:
        return _SAID[operation_id]
    noun, _, verb = operation_id.rpartition("_")
    if noun and is_list and verb == "list":
        return f"List {_plain(noun)}"
    if noun and verb in _VERBS:
        plain = _plain(noun)
        one = "alias" if plain == "aliases" else plain.removesuffix("s")
        article = "the" if one == plain else "an" if one[0] in "aeiouA" else "a"
        return _VERBS[verb].format(a=f"{article} {one}", all=plain)
    return _words(operation_id)


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("api ", "API ")


def _words(name: str) -> str:
    text = name.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]

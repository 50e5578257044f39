"""Who may do what: ONE table, role x action, read by pages, API and templates. A token needs the action's scope besides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from workspaces.models import Role


class Scope(StrEnum):
    """What an API token may be used for. There is no wildcard (SECURITY.md S23)."""

    READ = "read"
    KEYS = "keys"
    CREDENTIALS = "credentials"
    BUDGETS = "budgets"
    PEOPLE = "people"
    WORKSPACE = "workspace"
    REPORT = "report"


class Action(StrEnum):
    SEE_WORKSPACE = "see_workspace"
    SEE_SPEND = "see_spend"
    SEE_CALLS = "see_calls"
    SEE_KEYS = "see_keys"
    SEE_BUDGETS = "see_budgets"
    SEE_ANOMALIES = "see_anomalies"
    SEE_CREDENTIALS = "see_credentials"
    SEE_PEOPLE = "see_people"
    SEE_AUDIT = "see_audit"
    EXPORT = "export"
    REPORT_OUTCOMES = "report_outcomes"
    SEND_TEST_CALL = "send_test_call"
    REQUEST_RAISE = "request_raise"
    SAVE_VIEWS = "save_views"
    MANAGE_KEYS = "manage_keys"
    MANAGE_BUDGETS = "manage_budgets"
    MANAGE_LIMITS = "manage_limits"
    MANAGE_ROUTES = "manage_routes"
    MANAGE_ALERTS = "manage_alerts"
    MANAGE_ANOMALIES = "manage_anomalies"
    MANAGE_WASTE = "manage_waste"
    MANAGE_CREDENTIALS = "manage_credentials"
    MANAGE_DIRECTORY = "manage_directory"
    MANAGE_PEOPLE = "manage_people"
    MANAGE_TOKENS = "manage_tokens"
    MANAGE_PRICES = "manage_prices"
    MANAGE_PLAN = "manage_plan"
    RENAME_WORKSPACE = "rename_workspace"
    SUSPEND_WORKSPACE = "suspend_workspace"
    DELETE_WORKSPACE = "delete_workspace"


@dataclass(frozen=True, slots=True)
class Rule:
    roles: frozenset[Role]
    scope: Scope
    narrowed: frozenset[Role] = frozenset()
    """Roles that may do it only where the handler narrows what it shows to their department (`workspaces.narrowing`)."""


_O, _A, _M, _V, _B, _L = Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER, Role.BILLING, Role.LEAD


def _rule(scope: Scope, *roles: Role, narrowed: tuple[Role, ...] = ()) -> Rule:
    return Rule(frozenset(roles), scope, frozenset(narrowed))


TABLE: dict[Action, Rule] = {
    #                                            scope              roles
    Action.SEE_WORKSPACE:      _rule(Scope.READ,        _O, _A, _M, _V, _B),
    Action.SEE_SPEND:          _rule(Scope.READ,        _O, _A, _M, _V, _B, narrowed=(_L,)),
    Action.SEE_CALLS:          _rule(Scope.READ,        _O, _A, _M, _V, narrowed=(_L,)),
    Action.SEE_KEYS:           _rule(Scope.READ,        _O, _A, _M, _V),
    Action.SEE_BUDGETS:        _rule(Scope.READ,        _O, _A, _M, _V, _B),
    Action.SEE_ANOMALIES:      _rule(Scope.READ,        _O, _A, _M, _V, _B),
    Action.SEE_CREDENTIALS:    _rule(Scope.READ,        _O, _A),
    Action.SEE_PEOPLE:         _rule(Scope.READ,        _O, _A, _M, _V, _B, narrowed=(_L,)),
    Action.SEE_AUDIT:          _rule(Scope.READ,        _O, _A),
    Action.EXPORT:             _rule(Scope.READ,        _O, _A, _B),
    Action.REPORT_OUTCOMES:    _rule(Scope.REPORT,      _O, _A, _M),
    Action.SEND_TEST_CALL:     _rule(Scope.KEYS,        _O, _A, _M),
    Action.REQUEST_RAISE:      _rule(Scope.BUDGETS,     _O, _A, _M, _B),
    Action.SAVE_VIEWS:         _rule(Scope.REPORT,      _O, _A, _M, _V, _B),
    Action.MANAGE_KEYS:        _rule(Scope.KEYS,        _O, _A, _M),
    Action.MANAGE_BUDGETS:     _rule(Scope.BUDGETS,     _O, _A, _B),
    Action.MANAGE_LIMITS:      _rule(Scope.BUDGETS,     _O, _A),
    Action.MANAGE_ROUTES:      _rule(Scope.WORKSPACE,   _O, _A),
    Action.MANAGE_ALERTS:      _rule(Scope.BUDGETS,     _O, _A, _B),
    Action.MANAGE_ANOMALIES:   _rule(Scope.BUDGETS,     _O, _A, _B),
    Action.MANAGE_WASTE:       _rule(Scope.BUDGETS,     _O, _A, _B),
    Action.MANAGE_CREDENTIALS: _rule(Scope.CREDENTIALS, _O, _A),
    Action.MANAGE_DIRECTORY:   _rule(Scope.PEOPLE,      _O, _A),
    Action.MANAGE_PEOPLE:      _rule(Scope.PEOPLE,      _O, _A),
    Action.MANAGE_TOKENS:      _rule(Scope.WORKSPACE,   _O, _A, _M, _L),
    Action.MANAGE_PRICES:      _rule(Scope.BUDGETS,     _O, _A, _B),
    Action.MANAGE_PLAN:        _rule(Scope.WORKSPACE,   _O, _B),
    Action.RENAME_WORKSPACE:   _rule(Scope.WORKSPACE,   _O, _A),
    Action.SUSPEND_WORKSPACE:  _rule(Scope.WORKSPACE,   _O),
    Action.DELETE_WORKSPACE:   _rule(Scope.WORKSPACE,   _O),
}  # fmt: skip


def may(role: Role | str, action: Action, *, narrows: bool = False) -> bool:
    """Whether a role may do an action; `narrows`: where what is shown is narrowed to a lead's department. An unknown role may nothing."""
    rule = TABLE[action]
    return role in rule.roles or (narrows and role in rule.narrowed)


def scopes_of(role: Role | str) -> frozenset[Scope]:
    """The scopes a token of this role's holder can carry: those of at least one action the role may do."""
    return frozenset(rule.scope for rule in TABLE.values() if role in rule.roles or role in rule.narrowed)


# A role may give only roles of its own rank or below: nobody can make somebody stronger than themselves.
RANK: dict[Role, int] = {_O: 3, _A: 2, _M: 1, _B: 1, _V: 0, _L: 0}


def may_give(giver: Role | str, role: Role | str) -> bool:
    return may(giver, Action.MANAGE_PEOPLE) and RANK[Role(giver)] >= RANK[Role(role)]

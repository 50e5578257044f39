"""What a member has used of the caps on them, beside each member on the Members page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.http import urlencode

from billing.domain.dimensions import Dimension
from guardrails import page_parts, queries, shown
from guardrails.domain.budgets import Budget
from guardrails.queries import Standing
from workspaces.roles import Action
from workspaces.views import people
from workspaces.views.frame import url, workspace_of


def register() -> None:
    people.CAPS["budgets"] = caps


def caps(request: HttpRequest, emails: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """E-mail of a member -> the cap on them that is used most (of those on each member, and on this one), or where to set one.

    Empty for those who see no budgets.
    """
    if not page_parts.allowed(request, Action.SEE_BUDGETS):
        return {}
    changes = page_parts.allowed(request, Action.MANAGE_BUDGETS)
    met: dict[str, list[tuple[Standing, Budget]]] = {email: [] for email in emails}
    for rule, standing in _standings(request, emails):
        met[standing.value].append((standing, rule))
    return {
        email: _shown(request, *max(found, key=lambda one: one[0].percent), changes)
        if found
        else {"set_url": f"{url(request, 'budget_new')}?{urlencode({'scope': 'member', 'value': email})}" if changes else ""}
        for email, found in met.items()
    }  # fmt: skip


def _standings(request: HttpRequest, emails: Sequence[str]) -> list[tuple[Budget, Standing]]:
    workspace, now = workspace_of(request), timezone.now()
    found: list[tuple[Budget, Standing]] = []
    for status in queries.budgets(workspace, now, values=False):
        rule = status.budget
        if rule.scope.by != Dimension.MEMBER:
            continue
        if rule.scope.each:
            standings, _ = queries.some_values(workspace, rule, emails, now)
            found += [(rule, standing) for standing in standings]
        elif status.standing is not None and rule.scope.value in emails:
            one = status.standing
            found.append((rule, Standing(rule.scope.value or "", one.settled, one.held, one.cap, one.stage)))
    return found


def _shown(request: HttpRequest, standing: Standing, rule: Budget, changes: bool) -> dict[str, Any]:
    return page_parts.line(standing, rule, {}) | {
        "used": shown.amount(standing.used, rule.unit),
        "cap": shown.amount(standing.cap, rule.unit),
        "period": page_parts.period(rule.period),
        "name": rule.name,
        "url": url(request, "budget_edit", rule.id) if changes else url(request, "guardrails"),
    }

"""The audit log: searched, read newest first, exported whole. Nobody can change it, here or anywhere."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import urlencode

from workspaces import audit_export as export
from workspaces import audit_search
from workspaces.audit import Actor
from workspaces.audit_search import Asked
from workspaces.models import AuditRecord
from workspaces.roles import Action
from workspaces.views.frame import page, url, workspace_of, workspace_page

PAGE = 50
SHOWN = 4
"""Changes of a record that stand in the list; what else it says opens below them."""
_FIRST = ("name", "role", "cap", "period", "state", "provider", "environment")
_NOTHING: tuple[Any, ...] = (None, "", [], {})


@workspace_page(Action.SEE_AUDIT)
def audit(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip()[: audit_search.LONGEST] for name in ("q", "action")}
    rows = audit_search.matching(workspace_of(request), Asked(asked["q"], asked["action"])).order_by("-number")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 18:
        rows = rows.filter(number__lt=int(before))
    found = list(rows[: PAGE + 1])
    kinds = AuditRecord.objects.filter(workspace_id=workspace_of(request).id).order_by("action")
    context = {
        "records": [_shown(row) for row in found[:PAGE]],
        "asked": asked,
        "searched": any(asked.values()),
        "kinds": list(kinds.values_list("action", flat=True).distinct()),
        "audit_url": url(request, "audit"),
        "older_url": f"?{urlencode({**asked, 'before': str(found[PAGE - 1].number)})}" if len(found) > PAGE else "",
        "newest_url": f"?{urlencode(asked)}" if before else "",
        "export_url": url(request, "audit_export"),
    }
    return page(request, "workspaces/audit.html", "audit", context)


@workspace_page(Action.SEE_AUDIT, methods=("POST",))
def audit_export(request: HttpRequest) -> HttpResponse:
    """The records that match, all of them, oldest first, as CSV. A POST, because taking the log away is itself on the record."""
    asked = {name: request.POST.get(name, "").strip()[: audit_search.LONGEST] for name in ("q", "action")}
    return export.answer(workspace_of(request), Actor.of(request), Asked(asked["q"], asked["action"]), "csv")  # type: ignore[return-value]


def _shown(row: AuditRecord) -> dict[str, Any]:
    changes = [
        {
            "name": name.replace("_", " "),
            "before": _said(row, name, row.before.get(name)) if row.before else "",
            "after": _said(row, name, row.after.get(name)),
        }
        for name in sorted({*row.before, *row.after}, key=_leading)
        if row.before.get(name) not in _NOTHING or row.after.get(name) not in _NOTHING
    ]
    return {
        "number": row.number,
        "at": row.at,
        "actor": row.actor,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "changes": changes[:SHOWN],
        "more": changes[SHOWN:],
        "hash": bytes(row.hash).hex()[:12],
    }


def _leading(name: str) -> tuple[bool, str]:
    """What somebody looks for first: names, roles and amounts; the rest by the alphabet."""
    return name not in _FIRST, name


def _said(row: AuditRecord, name: str, value: Any) -> str:
    if value in _NOTHING:
        return "–"
    if name == "cap" and isinstance(value, int) and row.after.get("unit") == "usd":  # nano-dollars, as the books count
        return f"${value // 10**9:,}.{value % 10**9 // 10**7:02}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

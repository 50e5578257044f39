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
    return {
        "number": row.number,
        "at": row.at,
        "actor": row.actor,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "changes": [
            {"name": name, "before": _said(row.before.get(name)), "after": _said(row.after.get(name))}
            for name in sorted({*row.before, *row.after})
        ],
        "hash": bytes(row.hash).hex()[:12],
    }


def _said(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

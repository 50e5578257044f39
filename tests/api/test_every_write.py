"""Every write of the API is on the audit log: who, from where, what, and never a secret."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Final

import pytest
from django.db import connection, transaction

from tests.api.conftest import World, soon
from tests.cast import Cast
from workspaces import openapi_examples, reference, tenancy
from workspaces.models import AuditRecord

pytestmark = pytest.mark.django_db
NOWHERE: Final = "01932f6e-7c1a-7b3e-9f52-3f1d2c4b5a69"
ADDRESS: Final = "203.0.113.9"
CHANGES_NOTHING: Final = {
    "budgets_backtest": "a question", "budgets_backtest_change": "a question", "budgets_preview": "a question",
    "budgets_preview_change": "a question",
}  # fmt: skip
FIRST: Final = {
    "alerts_archive": "alerts_restore", "alerts_archive_all": "alerts_restore", "anomalies_lift_limit": "anomalies_throttle",
    "credentials_enable": "credentials_disable", "virtual_keys_resume": "virtual_keys_pause", "waste_restore": "waste_dismiss",
    "waste_undo": "waste_pull", "workspaces_resume": "workspaces_suspend",
}  # fmt: skip
"""What has to be done for there to be something to do."""
BODIES: Final[dict[str, dict[str, Any]]] = {
    "aliases_change": {"targets": ["anthropic/claude-haiku-4-5"]}, "waste_settings": {"fingerprints": False},
}  # fmt: skip
ELSEWHERE: Final = {
    "anomalies_pause_key": "needs an incident of one key: tests/guardrails/anomalies/test_incidents.py",
    "barred_models_lift": "needs a model that a batch barred",
    "webhooks_replay": "needs a delivery that ended: tests/signals/test_webhooks.py",
    "workspaces_create": "stands in the new workspace's log",
}  # fmt: skip


def test_every_write_leaves_a_record_with_its_actor_and_address_and_no_secret(world: World, cast: Cast) -> None:
    operations = {
        operation["operationId"]: (path, method)
        for path, methods in reference.document()["paths"].items()
        for method, operation in methods.items()
        if method in ("post", "put", "patch", "delete")
    }
    assert operations.keys() >= {*CHANGES_NOTHING, *FIRST, *FIRST.values(), *BODIES, *ELSEWHERE}
    ids, silent, failed, secrets = defaultdict(lambda: NOWHERE, world.ids), [], [], set()

    def asked(name: str) -> Any:
        path, method = operations[name]
        body = {**openapi_examples.REQUESTS.get(name, {}), **BODIES.get(name, {})}
        alive = {"budget_id": ids["budget_id"], "up_to": ids["notice_id"]}
        body = {field: alive.get(field, value) for field, value in body.items()}
        if name == "raises_request":
            body["expires_at"] = soon()
        if "secret" in body:
            secrets.add(body["secret"])
        return getattr(world.client, method)(path.format_map(ids), body, format="json", REMOTE_ADDR=ADDRESS)

    for name in operations.keys() - ELSEWHERE.keys():
        sid = transaction.savepoint()
        if name in FIRST:
            asked(FIRST[name])
        before = len(records(cast))
        answer = asked(name)
        made = records(cast)[before:]
        if not 200 <= answer.status_code < 300:
            failed.append((name, answer.status_code, answer.content[:200]))
        elif bool(made) == (name in CHANGES_NOTHING):
            silent.append(name)
        for record in made:
            assert (record.actor, record.address) == ("alice@example.com", ADDRESS), (name, record.actor)
            kept = json.dumps([record.target, record.before, record.after])
            assert not any(secret in kept for secret in secrets), name
        transaction.savepoint_rollback(sid)
        with connection.cursor() as cursor:  # to remove a schema makes the whole transaction check at once
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    assert not failed
    assert not silent


def records(cast: Cast) -> list[AuditRecord]:
    with tenancy.entered(cast.acme):
        return list(AuditRecord.objects.filter(workspace_id=cast.acme.id).order_by("number"))

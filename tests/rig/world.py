"""What a test needs of an installation's inside, as a command in that installation's environment: `python -m tests.rig.world VERB`, JSON on
standard input and output; or `... serve`, a line for each question and answer. Only the application's own actions are used.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402

from billing import tasks as billing_tasks  # noqa: E402 - needs the apps
from billing.domain.keys import PARTITIONS  # noqa: E402
from guardrails import actions as guardrails_actions  # noqa: E402
from guardrails import reconciliation, recovery  # noqa: E402
from guardrails import tasks as guardrails_tasks  # noqa: E402
from guardrails.limiter import control  # noqa: E402
from guardrails.limiter.connection import sync_store  # noqa: E402
from workspaces import actions  # noqa: E402
from workspaces.audit import SYSTEM, Actor  # noqa: E402
from workspaces.models import User, Workspace  # noqa: E402


def make(given: dict[str, Any]) -> dict[str, Any]:
    """A workspace from {"slug", "plan"?, "time_zone"?, "provider_url", "provider_key"?, "keys"?: n or [settings], "budgets"?, "rate_limits"?}.
    Budgets and rate limits are keywords of their actions. Answers ids and the keys' texts."""
    slug = given["slug"]
    owner, _ = User.objects.get_or_create(email=f"owner@{slug}.example.com", defaults={"name": slug.title()})
    person = Actor.person(owner)
    workspace = actions.create_workspace(
        slug=slug,
        name=slug.title(),
        owner=owner,
        by=person,
        plan=given.get("plan", "team"),
        time_zone=given.get("time_zone", "UTC"),
    )
    credential = actions.add_credential(
        workspace=workspace,
        by=SYSTEM,
        provider="simulator",
        secret=given.get("provider_key", ""),
        base_url=given["provider_url"],
        verify=False,
    )
    wanted = given.get("keys", 1)
    settings = [{"name": f"key {n}"} for n in range(wanted)] if isinstance(wanted, int) else wanted
    keys = [actions.create_virtual_key(workspace=workspace, by=SYSTEM, **one) for one in settings]
    budgets = [
        guardrails_actions.create_budget(workspace=workspace, by=SYSTEM, **budget)
        for budget in given.get("budgets", [])
    ]
    for limit in given.get("rate_limits", []):
        guardrails_actions.create_rate_limit(workspace=workspace, by=SYSTEM, **limit)
    return {
        "id": workspace.pk,
        "slug": slug,
        "credential": str(credential.pk),
        "keys": [{"id": str(key.row.pk), "text": key.text} for key in keys],
        "budgets": [{"id": str(budget.pk), "cap": budget.cap, "unit": str(budget.unit)} for budget in budgets],
    }


def cap(given: dict[str, Any]) -> None:
    """Set a budget's cap: {"workspace", "budget", "cap"} (dollars as text, or a count)."""
    guardrails_actions.update_budget(
        workspace=_workspace(given), by=SYSTEM, budget_id=given["budget"], cap=given["cap"]
    )


def revoke(given: dict[str, Any]) -> None:
    actions.revoke_virtual_key(workspace=_workspace(given), by=SYSTEM, key_id=given["key"])


def suspend(given: dict[str, Any]) -> None:
    actions.suspend_workspace(workspace=_workspace(given), by=SYSTEM)


def drain(_: Any) -> int:
    """Book everything that is in the stream. Answers how many lines were new."""
    return billing_tasks.drain_now().booked


def sweep(given: Any) -> None:
    """As the worker does, or with {"ahead_s"}: as if that much time had passed."""
    if not given:
        guardrails_tasks.sweep()
        return
    for partition in range(PARTITIONS):
        control.sweep(sync_store(), partition, most=1000, grace_ms=-1000 * given["ahead_s"])


def rebuild(given: dict[str, Any]) -> dict[str, int] | None:
    done = recovery.rebuild(given["workspace"])
    return None if done is None else {"epoch": done.epoch, "counters": done.counters, "holds": done.holds}


def reconcile(given: dict[str, Any]) -> list[str]:
    """What `manage.py reconcile` finds different."""
    return list(reconciliation.report(_workspace(given)).differences)


def _workspace(given: dict[str, Any]) -> Workspace:
    return Workspace.objects.get(pk=given["workspace"])


VERBS: dict[str, Callable[[Any], Any]] = {
    verb.__name__: verb for verb in (make, cap, revoke, suspend, drain, sweep, rebuild, reconcile)
}


def main() -> None:
    if sys.argv[1] == "serve":
        serve()
    else:
        json.dump(VERBS[sys.argv[1]](json.loads(sys.stdin.read() or "null")), sys.stdout)


def serve() -> None:
    """Starting Python and Django takes longer than what is asked."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        verb, given = json.loads(line)
        try:
            answer = {"answer": VERBS[verb](given)}
        except Exception:  # noqa: BLE001 - whatever it was, the asker is told
            answer = {"error": traceback.format_exc()}
        finally:
            connection.close()
            connection.close_pool()  # PostgreSQL may be killed before the next question
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

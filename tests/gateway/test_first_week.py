"""The first week of a new customer as a script: after sign-up everything through the API and the gateway, by HTTP alone."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from billing.domain.keys import partition_of
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from tests.gateway.world import GatewayProcess, Shop
from workspaces import actions
from workspaces.audit import Actor
from workspaces.models import Membership, Workspace


class Script:
    """What a customer's script has: an address, a token."""

    def __init__(self, base: str, token: str, slug: str = "") -> None:
        self.base, self.token = base, token
        self.place = f"/api/v1/workspaces/{slug}/" if slug else "/api/v1/workspaces/"

    def do(self, method: str, path: str = "", body: Any = None, *, status: int = 200, **headers: str) -> Any:
        headers["Authorization"] = f"Bearer {self.token}"
        answer = httpx.request(method, self.base + self.place + path, json=body, headers=headers, timeout=30)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json else answer.text

    def call(self, base: str, key: str, *, customer: str = "initech") -> httpx.Response:
        asked = {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
        headers = {"Authorization": f"Bearer {key}", "Sluice-Customer": customer}
        return httpx.post(f"{base}/v1/chat/completions", json=asked, headers=headers, timeout=30)


def signed_up(shop: Shop) -> str:
    """The token that a person makes in the browser; the script's only secret."""
    with shop.world.at_home():
        owner = Membership.objects.select_related("user", "workspace").get(workspace=shop.workspace, user=shop.owner)
        scopes = ["read", "keys", "credentials", "budgets", "people", "workspace", "report"]
        return actions.create_api_token(
            workspace=shop.workspace, by=Actor.member(owner), membership=owner, name="script", scopes=scopes
        ).text


def test_a_script_does_the_whole_first_week_through_the_api_alone(gateway: GatewayProcess, shop: Shop) -> None:
    base, slug = gateway.url, f"week-{shop.workspace.pk}"

    # Monday: a workspace, a provider's key in the vault, a virtual key, the first call.
    made = Script(base, signed_up(shop)).do("POST", body={"slug": slug, "name": "Week"}, status=201)
    week = Script(base, made["api_token"], slug)
    credential = week.do("POST", "credentials/", {"provider": "simulator", "secret": "", "verify": False}, status=201)
    assert week.do("POST", f"credentials/{credential['id']}/verify/")["state"] == "verified"
    wanted = {"name": "backend", "may_override": ["agent"]}
    key = week.do("POST", "virtual-keys/", wanted, status=201, **{"Idempotency-Key": "first"})
    again = week.do("POST", "virtual-keys/", wanted, status=201, **{"Idempotency-Key": "first"})
    assert again["virtual_key"] == key["virtual_key"], "asked twice, made once"
    first = week.call(base, key["virtual_key"])
    assert first.status_code == 200, first.text

    # Tuesday: a budget that holds, and a raise of it.
    budget = week.do("POST", "budgets/", {"name": "Calls", "cap": "1", "unit": "calls", "period": "day"}, status=201)
    assert week.call(base, key["virtual_key"]).status_code == 200
    refused = week.call(base, key["virtual_key"])
    assert refused.status_code == 402, refused.text
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    asked = {"budget_id": budget["id"], "amount": "1", "reason": "launch day", "expires_at": ends}
    raised = week.do("POST", "raises/", asked, status=201)
    assert week.do("POST", f"raises/{raised['id']}/approve/")["in_force"]
    assert week.call(base, key["virtual_key"]).status_code == 200
    assert week.do("GET", f"budgets/{budget['id']}/")["stage"] == "kill"
    week.do("DELETE", f"budgets/{budget['id']}/", status=204)

    # Wednesday: a rate limit.
    limit = week.do("POST", "rate-limits/", {"metric": "rpm", "limit": 1}, status=201)
    statuses = [week.call(base, key["virtual_key"]).status_code for _ in range(2)]
    assert statuses == [200, 429]
    week.do("DELETE", f"rate-limits/{limit['id']}/", status=204)

    # Thursday: what it cost, whom for. (The worker books continuously; here it is asked to.)
    with shop.world.at_home():
        workspace_id = Workspace.objects.get(slug=slug).pk
        drain(money_stream(), partition_of(workspace_id))
    [row] = week.do("GET", "usage/?group_by=customer")["results"]
    assert (row["group"], row["calls"]) == ({"customer": "initech"}, 4)
    assert row["cost_nano"] > 0
    calls = week.do("GET", "calls/")["results"]
    assert sum(one["cost_nano"] for one in calls) == row["cost_nano"]
    assert week.do("GET", f"calls/{first.headers['sluice-call-id']}/")["attempts"][0]["lines"][0]["breakdown"]

    # Friday: who hears of it.
    assert week.do("PATCH", "alert-preferences/", {"mail": "daily"})["mail"] == "daily"
    assert week.do("PUT", "spend-alert/", {"line": "1500"})["line"] == "1500"
    hook = week.do("POST", "webhooks/", {"name": "pager", "url": "http://127.0.0.1:9/hook"}, status=201)
    assert hook["signing_secret"].startswith("whsec_")
    week.do("POST", f"webhooks/{hook['id']}/test/", status=202)
    assert len(week.do("GET", f"webhooks/{hook['id']}/deliveries/")["results"]) == 1

    # The weekend: people, the books and the log taken along, the key taken back.
    week.do("POST", "invitations/", {"email": "ada@example.com", "role": "viewer"}, status=201)
    lines = list(csv.DictReader(io.StringIO(week.do("GET", "ledger/export/"))))
    assert len(lines) == len(calls)
    focus = list(csv.DictReader(io.StringIO(week.do("GET", "ledger/export/?as=focus"))))
    assert {one["BillingCurrency"] for one in focus} == {"USD"}
    done = [json.loads(line)["action"] for line in week.do("GET", "audit/export/?as=jsonl").splitlines()]
    assert done[0] == "workspace.create"
    assert {"credential.add", "virtual_key.create", "budget.create", "raise.approved"} <= set(done)
    week.do("POST", f"virtual-keys/{key['id']}/revoke/")
    assert week.call(base, key["virtual_key"]).status_code == 401
    [token] = week.do("GET", "api-tokens/")["results"]
    week.do("POST", f"api-tokens/{token['id']}/revoke/", status=204)
    week.do("GET", status=401)

"""Acme with one of everything, so that what is asked at random finds something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from guardrails.anomalies.models import Incident
from guardrails.domain.waste.values import Category, Subject
from guardrails.waste.models import Finding
from tests.billing.ledger.conftest import Books, Events
from tests.cast import Cast, token_of
from workspaces import tenancy
from workspaces.models import Plan, Workspace

ACME = "/api/v1/workspaces/acme/"


def soon() -> str:
    return (datetime.now(UTC) + timedelta(days=30)).isoformat()


@dataclass(frozen=True, slots=True)
class World:
    token: str
    ids: dict[str, str]
    """By the name of the path parameter that takes it."""
    client: APIClient


@pytest.fixture
def world(cast: Cast, settings: Any, money_redis_url: str) -> Iterator[World]:
    """One of each kind of object, made through the API with Alice's token. The API's rate is not limited meanwhile."""
    settings.API_REQUESTS_A_MINUTE = 0
    Workspace.objects.filter(pk=cast.acme.pk).update(plan=Plan.TEAM)
    events, books = Events(money_redis_url), Books.at(money_redis_url)
    events.call(cast.acme.id, cost=1_500, held=9_000, dims={"customer": "ada", "feature": "chat"}, tags={"team": "x"})
    rid = events.emit("hold", cast.acme.id, held=9_000)
    events.emit("expire", cast.acme.id, rid, cost=9_000, held=9_000)
    events.emit("adjust", cast.acme.id, rid, cost=-7_999, held=9_000)
    books.drain(cast.acme.id)
    token = token_of(cast.alice)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    def made(path: str, **body: Any) -> str:
        answer = client.post(ACME + path, body, format="json")
        assert answer.status_code in (201, 202), (path, answer.content)
        return str(answer.json()["id"])

    budget = made("budgets/", name="everything", cap="50", period="month")
    endpoint = made("webhooks/", name="siren", url="http://127.0.0.1:9/hook")
    now = datetime.now(UTC)
    with tenancy.entered(cast.acme):
        incident = Incident.objects.create(
            workspace_id=cast.acme.id, kind="loop", dimension="session", value="s-1", started_at=now, last_seen_at=now, observed=90, usual=2
        )  # fmt: skip
    ids = {
        "slug": "acme",
        "incident_id": str(incident.pk),
        "key_id": made("virtual-keys/", name="backend"),
        "credential_id": made("credentials/", provider="openai", secret="sk-" + "q" * 40, base_url="http://127.0.0.1:9/v1", verify=False),
        "alias_id": made("aliases/", name="quick", targets=["openai/gpt-4o-mini"]),
        "token_id": made("api-tokens/", name="another", scopes=["read"]),
        "department_id": made("departments/", name="Sales"),
        "agent_id": made("agents/", name="bot"),
        "budget_id": budget,
        "limit_id": made("rate-limits/", metric="rpm", limit=600),
        "raise_id": made("raises/", budget_id=budget, amount="5", reason="launch", expires_at=soon()),
        "price_id": made("prices/", provider="openai", model="*", discount_percent="10", valid_from="2099-01-01T00:00:00Z"),
        "endpoint_id": endpoint,
        "delivery_id": made(f"webhooks/{endpoint}/test/"),
        "invitation_id": made("invitations/", email="new@example.com", role="member"),
        "membership_id": str(cast.ann.membership.id) if cast.ann.membership else "",
        "view_id": made("saved-views/", name="By model", query="by=model"),
        "call_id": client.get(ACME + "calls/").json()["results"][0]["call_id"],
        "notice_id": client.get(ACME + "alerts/?state=all").json()["results"][0]["id"],
    }  # fmt: skip
    with tenancy.entered(cast.acme):
        about = Subject(feature="chat", provider="openai", model="gpt-4o").key
        today = datetime.now(UTC).date()
        found = Finding.objects.create(
            workspace_id=cast.acme.pk, category=Category.DUPLICATES, subject=about, first_day=today, last_day=today
        )
        ids["finding_id"] = str(found.pk)
    yield World(token, ids, client)
    events.redis.close()
    books.stream.close()

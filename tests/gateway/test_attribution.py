"""Whom a call was for: the pure rule, and its way into the ledger."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from billing.domain.attribution import Attribution, BadAttribution, attribute
from tests.gateway.world import GatewayProcess, Shop

CALL: dict[str, Any] = {"model": "sim-small", "messages": [{"role": "user", "content": "hi"}]}


def test_headers_win_over_body_fields_and_those_over_metadata() -> None:
    body = {
        "user": "from-body",
        "session_id": "s-1",
        "metadata": {"user": "from-metadata", "customer": "acme", "feature": "chat"},
    }
    assert attribute({}, (), {"sluice-customer": "globex"}, body).dims == {
        "user": "from-body",
        "session": "s-1",
        "customer": "globex",
        "feature": "chat",
    }


@pytest.mark.parametrize("field", ["user", "safety_identifier", "user_id"])
def test_every_spelling_of_the_user_counts(field: str) -> None:
    assert attribute({}, (), {}, {field: "u-1"}).dims == {"user": "u-1"}


def test_a_dimension_that_the_key_pins_cannot_be_changed_unless_the_key_allows_it() -> None:
    pins = {"agent": "bot", "environment": "production", "member": ""}
    headers = {"sluice-agent": "other", "sluice-environment": "test", "sluice-member": "ann"}
    assert attribute(pins, (), headers, {}).dims == {"agent": "bot", "environment": "production", "member": "ann"}
    assert attribute(pins, {"agent"}, headers, {"metadata": {"environment": "x"}}).dims["agent"] == "other"


def test_tags_come_from_the_header_and_from_free_metadata() -> None:
    found = attribute(
        {}, (), {"sluice-tags": "Team=blue, run = 7,"}, {"metadata": {"trace": "t-1", "customer_id": "acme"}}
    )
    assert found == Attribution({"customer": "acme"}, {"trace": "t-1", "team": "blue", "run": "7"})


def test_metadata_that_is_no_tag_of_ours_is_left_to_the_provider() -> None:
    metadata = {
        "a key with spaces": "x",
        "long": "y" * 500,
        "lines": "a\nb",
        "number": 5,
        "nested": {},
        "empty": "",
        **{f"t{n}": "v" for n in range(20)},
    }
    tags = attribute({}, (), {}, {"metadata": metadata}).tags
    assert len(tags) == 10
    assert set(tags) <= {f"t{n}" for n in range(20)}


@pytest.mark.parametrize(
    "headers,body",
    [
        ({"sluice-user": "a\r\nb"}, {}),
        ({"sluice-user": "a\x00b"}, {}),
        ({"sluice-user": "a\u202eb"}, {}),
        ({"sluice-user": "a\u200bb"}, {}),
        ({"sluice-user": ""}, {}),
        ({"sluice-user": "x" * 129}, {}),
        ({"sluice-user": "__other__"}, {}),
        ({"sluice-custommer": "typo"}, {}),
        ({"sluice-tags": "novalue"}, {}),
        ({"sluice-tags": "a=1,a=2"}, {}),
        ({"sluice-tags": "sp ace=1"}, {}),
        ({"sluice-tags": ",".join(f"t{n}=1" for n in range(11))}, {}),
        ({"sluice-tags": "é=1"}, {}),
        ({}, {"user": "a\nb"}),
        ({}, {"metadata": {"customer": "a\rb"}}),
        ({}, {"safety_identifier": "x" * 129}),
        ({"sluice-tags": f"{'k' * 33}=1"}, {}),
    ],
)
def test_values_that_could_hide_forge_or_flood_are_refused(headers: dict[str, str], body: dict[str, Any]) -> None:
    with pytest.raises(BadAttribution):
        attribute({}, (), headers, body)


def test_names_of_all_scripts_are_kept_in_one_spelling() -> None:
    assert attribute({}, (), {"sluice-customer": " Zoe\u0308 & 株式会社 "}, {}).dims == {"customer": "Zoë & 株式会社"}


def test_everything_about_a_call_is_on_its_ledger_entry_and_none_of_it_reaches_the_provider(
    gateway: GatewayProcess, shop: Shop
) -> None:
    key = shop.new_key(agent="night-bot", department="Support", environment="staging")
    headers = {
        "authorization": f"Bearer {key}",
        "sluice-customer": "acme",
        "sluice-feature": "summary",
        "sluice-session": "s-9",
        "sluice-tags": "team=blue",
        "sluice-agent": "forged",
        "openai-organization": "org-evil",
        "cookie": "a=b",
        "x-forwarded-for": "1.2.3.4",
    }
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={**CALL, "user": "u-7"}, headers=headers)
    assert answer.status_code == 200
    [entry] = shop.entries(1)
    assert (entry.agent, entry.department, entry.environment) == ("night-bot", "Support", "staging")
    assert (entry.customer, entry.feature, entry.session, entry.user) == ("acme", "summary", "s-9", "u-7")
    assert entry.tags == {"team": "blue"}


def test_only_what_is_meant_for_the_provider_is_sent_to_it(
    gateway: GatewayProcess, shop: Shop, echo_upstream: Any
) -> None:
    other = shop.world.shop(provider="openai_compatible", base_url=echo_upstream.base_url, secret="sk-provider-secret")
    headers = {
        "authorization": f"Bearer {other.key}",
        "sluice-customer": "acme",
        "sluice-tags": "a=b",
        "cookie": "a=b",
        "x-forwarded-for": "1.2.3.4",
        "forwarded": "for=x",
        "openai-organization": "org",
        "openai-project": "proj",
        "x-api-key": "k",
        "connection": "x-secret, keep-alive",
        "x-secret": "1",
        "te": "trailers",
        "proxy-authorization": "Basic x",
        "openai-beta": "assistants=v2",
        "idempotency-key": "once",
        "accept-encoding": "gzip",
        "x-stainless-os": "Linux",
    }
    body = b'{ "model":"any-model",  "messages":'
    body += b'[{"role":"user","content":"caf\\u00e9 \xf0\x9f\x98\x80"}],"x_unknown":1.50, "seed":12345678901234567890 }'
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", content=body, headers={**headers, "content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.content == echo_upstream.answered, "the answer's bytes are the provider's"
    head, sent = echo_upstream.received
    assert sent == body, "the body's bytes are the client's"
    assert set(head) == {
        "host",
        "authorization",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        "openai-beta",
        "idempotency-key",
        "content-length",
    }
    assert head["authorization"] == "Bearer sk-provider-secret"
    assert head["accept-encoding"] == "identity"

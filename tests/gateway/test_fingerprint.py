"""What was asked, as a number: equal for equal questions of one workspace, and no way back."""

from __future__ import annotations

import json
from typing import Any

import openai

from billing.ledger.lines import fingerprint_of
from gateway import fingerprint
from gateway.edge import Call, Request
from guardrails.waste import actions
from tests.gateway.world import GatewayProcess, Shop
from workspaces import keys

ACME, GLOBEX = keys.fingerprint_key(1), keys.fingerprint_key(2)
ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a ledger?"}]}


def call(
    fields: dict[str, Any], *, endpoint: str = "/v1/chat/completions", content_type: bytes = b"application/json"
) -> Call:
    request = Request("c", 0.0, endpoint, endpoint, "", {}, [], None, content_type)
    return Call(request, json.dumps(fields).encode(), fields, str(fields.get("model", "")), streamed=False)


def test_equal_questions_of_a_workspace_have_equal_fingerprints_and_others_have_none_in_common() -> None:
    mine = fingerprint.of(call(ASKED), ACME)
    assert mine == fingerprint.of(call(ASKED), ACME)
    others = [
        fingerprint.of(call(ASKED), GLOBEX), fingerprint.of(call({**ASKED, "temperature": 0}), ACME),
        fingerprint.of(call({**ASKED, "model": "gpt-4o"}), ACME), fingerprint.of(call(ASKED, endpoint="/v1/responses"), ACME),
    ]  # fmt: skip
    assert len({mine, *others}) == 5
    assert isinstance(fingerprint_of(mine), int)


def test_for_whom_it_is_asked_and_whether_it_streams_makes_no_other_question() -> None:
    for_bob = fingerprint.of(call({**ASKED, "user": "bob", "stream": True, "metadata": {"trace": "1"}}), ACME)
    for_eve = fingerprint.of(call({**ASKED, "user": "eve", "stream": False, "metadata": {"trace": "2"}}), ACME)
    assert for_bob == for_eve


def test_without_a_key_for_forms_and_for_very_long_bodies_there_is_none() -> None:
    assert fingerprint.of(call(ASKED), b"") == ""
    assert fingerprint.of(call(ASKED, content_type=b"multipart/form-data; boundary=x"), ACME) == ""
    long = {**ASKED, "input": "x" * fingerprint.LONGEST}
    assert fingerprint.of(call(long), ACME) == ""
    assert fingerprint_of("") is None
    assert fingerprint_of("zz00zz00zz00zz00") is None


def test_a_call_is_booked_with_its_fingerprint_until_the_workspace_wants_none(
    gateway: GatewayProcess, shop: Shop
) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0)

    def ask(user: str) -> None:
        client.chat.completions.create(model="sim-small", messages=[{"role": "user", "content": "hello"}], user=user)

    ask("bob")
    ask("eve")
    one, other = (entry.fingerprint for entry in shop.entries(2))
    assert one is not None
    assert one == other
    shop.do(actions.set_fingerprints, on=False)
    ask("bob")
    assert [entry.fingerprint for entry in shop.entries(3) if entry.fingerprint is None] == [None]

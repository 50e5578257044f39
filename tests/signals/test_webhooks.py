"""Webhooks and Slack: signed, tried again, replayed, and never led inside, around or into the sand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.test import Client

from guardrails.domain import webhooks
from guardrails.signals import actions, hooks
from guardrails.signals.models import Delivery, Endpoint, Notice
from tests.cast import Cast
from tests.signals.conftest import Spending
from workspaces import tenancy
from workspaces.errors import Invalid
from workspaces.vault import door

pytestmark = pytest.mark.django_db


@dataclass
class Receiver:
    """A server of a customer: remembers what it got, answers as told."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """For the coming requests: a status, "redirect", "drip", "huge" or "headers" (which drips those); afterwards 200."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    known = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = known.answers.pop(0) if known.answers else "200"
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._answer(answer)

        def _answer(self, answer: str) -> None:
            if answer == "redirect":
                self.send_response(302)
                self.send_header("Location", known.url + "/elsewhere")
                self.end_headers()
            elif answer == "headers":
                for letter in b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 400:
                    self.wfile.write(bytes([letter]))
                    time.sleep(0.05)
            elif answer in ("drip", "huge"):
                self.send_response(200)
                self.send_header("Content-Length", str(10 * 2**30))
                self.end_headers()
                for _ in range(400):
                    self.wfile.write(b"x" * (65536 if answer == "huge" else 1))
                    time.sleep(0 if answer == "huge" else 0.05)
            else:
                self.send_response(int(answer))
                self.end_headers()
                self.wfile.write(b"said <b>no</b>\r\n")

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield known
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook(cast: Cast, receiver: Receiver) -> Endpoint:
    return actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind="webhook", name="Ops", url=f"{receiver.url}/in?team=1"
    ).row


def log(cast: Cast) -> list[Delivery]:
    with tenancy.entered(cast.acme):
        return list(Delivery.objects.exclude(endpoint=None).order_by("id"))


def due_now(cast: Cast) -> None:
    with tenancy.entered(cast.acme):
        Delivery.objects.filter(state="waiting").update(due_at=datetime.now(UTC) - timedelta(seconds=1))


def test_the_signature_is_that_of_the_specification_s_example() -> None:
    """The published test vector of Standard Webhooks."""
    secret = webhooks.SECRET_PREFIX + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = webhooks.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_notice_arrives_signed_with_all_its_facts(spending: Spending, cast: Cast, receiver: Receiver) -> None:
    made = actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind="webhook", name="Ops", url=f"{receiver.url}/in?team=1"
    )
    spending.spend(spending.budget(), 95, customer="initech")
    spending.tell()
    hooks.post_due()
    ((headers, body),) = receiver.got
    key = base64.b64decode(made.text.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    told = json.loads(body)
    assert told["type"] == "alert.threshold"
    assert told["data"]["threshold"] == 90
    assert told["data"]["workspace"] == "acme"
    assert told["data"]["drivers"][0]["rows"][0]["name"] == "initech"
    assert told["data"]["links"]["raise"].startswith("http://testserver/w/acme/")
    assert log(cast)[0].state == "sent"


def test_what_fails_is_tried_again_with_the_same_id_and_the_log_says_why(
    spending: Spending, cast: Cast, receiver: Receiver, hook: Endpoint
) -> None:
    receiver.answers = ["500", "redirect"]
    spending.spend(spending.budget(), 60)
    spending.tell()
    for _ in range(4):
        hooks.post_due()
        due_now(cast)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    (row,) = log(cast)
    assert (row.state, row.tries, row.status) == ("sent", 3, 200)


def test_the_log_keeps_what_came_back_and_a_redirect_is_not_followed(
    spending: Spending, cast: Cast, receiver: Receiver, hook: Endpoint
) -> None:
    receiver.answers = ["redirect"]
    spending.spend(spending.budget(), 60)
    spending.tell()
    hooks.post_due()
    assert len(receiver.got) == 1
    (row,) = log(cast)
    assert (row.state, row.status) == ("waiting", 302)
    assert "redirect" in row.answer
    with tenancy.entered(cast.acme):
        assert Endpoint.objects.get().failing_since is not None


def test_gone_pauses_the_endpoint_and_says_so_in_the_inbox(
    spending: Spending, cast: Cast, receiver: Receiver, hook: Endpoint
) -> None:
    receiver.answers = ["410"]
    spending.spend(spending.budget(), 60)
    spending.tell()
    hooks.post_due()
    with tenancy.entered(cast.acme):
        assert Endpoint.objects.get().paused_at is not None
        assert Notice.objects.filter(kind="endpoint_paused").count() == 1
    assert log(cast)[0].state == "failed"


@pytest.mark.parametrize("kind", ["webhook", "slack"])
@pytest.mark.parametrize("answer", ["drip", "huge", "headers", "redirect"])
def test_a_receiver_that_drips_floods_or_points_elsewhere_costs_a_bounded_time_and_memory(
    spending: Spending, cast: Cast, receiver: Receiver, kind: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind=kind, name="Ops", url=f"{receiver.url}/services/T0/B0/x"
    )
    monkeypatch.setattr(hooks, "TIMEOUT_S", 0.3)
    receiver.answers = [answer]
    spending.spend(spending.budget(), 60)
    spending.tell()
    began = time.monotonic()
    hooks.post_due()
    assert time.monotonic() - began < 10
    (row,) = log(cast)
    assert row.state == ("waiting" if answer in ("headers", "redirect") else "sent")
    assert len(receiver.got) == 1


@pytest.mark.parametrize("kind", ["webhook", "slack"])
@pytest.mark.parametrize(
    "url",
    [
        "http://testserver/w/acme/",
        "https://TestServer:8443/",
        "https://testserver:8443/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://[::ffff:169.254.169.254]/",
        "ftp://example.com/x",
        "https://user:pw@example.com/x",
        "https://example.com/x#y",
        "https://example.com/\r\nx: y",
        "javascript:alert(1)",
        "",
        "https://" + "a" * 600 + ".com/",
    ],
)
def test_addresses_that_are_us_reserved_or_no_addresses_are_refused_with_a_sentence(
    cast: Cast, url: str, kind: str
) -> None:
    with pytest.raises(Invalid) as refused:
        actions.create_endpoint(workspace=cast.acme, by=cast.alice.actor, kind=kind, name="x", url=url)
    assert refused.value.field == "url"


def test_private_addresses_are_refused_where_private_ones_are_not_allowed(cast: Cast, settings: Any) -> None:
    settings.ALLOW_PRIVATE_UPSTREAMS = False
    for url in ("http://127.0.0.1:9/", "https://10.0.0.5/", "https://localhost/", "https://hooks.internal/"):
        with pytest.raises(Invalid):
            actions.create_endpoint(workspace=cast.acme, by=cast.alice.actor, kind="webhook", name="x", url=url)
    with pytest.raises(Invalid, match=r"hooks\.slack\.com"):
        actions.create_endpoint(
            workspace=cast.acme, by=cast.alice.actor, kind="slack", name="x", url="https://example.com/services/1"
        )


def test_slack_gets_blocks_in_which_no_name_is_a_mention_or_a_link(
    spending: Spending, cast: Cast, receiver: Receiver
) -> None:
    actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind="slack", name="Finance", url=f"{receiver.url}/services/T0/B0/x"
    )
    spending.spend(spending.budget(name="<!channel> *Prod*"), 95, customer="<https://evil.example|click>")
    spending.tell()
    hooks.post_due()
    ((_, body),) = receiver.got
    told = json.loads(body)
    assert [block["type"] for block in told["blocks"]] == ["header", "section", "section", "actions", "context"]
    mrkdwn = json.dumps([block for block in told["blocks"] if block["type"] == "section"])
    assert "<!channel>" not in mrkdwn
    assert "<https://evil" not in mrkdwn
    assert all(element["url"].startswith("http://testserver/") for element in told["blocks"][3]["elements"])


def test_neither_secret_nor_slack_s_address_is_ever_shown_again(
    cast: Cast, receiver: Receiver, alice_client: Client
) -> None:
    address = f"{receiver.url}/services/T0/B0/verysecretpart"
    slack = actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind="slack", name="Finance", url=address
    ).row
    answer = alice_client.post(
        "/w/acme/alerts/webhooks/", {"kind": "webhook", "name": "Ops", "url": f"{receiver.url}/in"}
    )
    assert "whsec_" in answer.content.decode()
    with tenancy.entered(cast.acme):
        hook = Endpoint.objects.get(name="Ops")
    for path in ("", f"{slack.pk}/", f"{hook.pk}/"):
        shown = alice_client.get(f"/w/acme/alerts/webhooks/{path}").content.decode()
        assert "whsec_" not in shown
        assert "verysecret" not in shown
    with tenancy.entered(cast.acme):
        assert door.open_note(cast.acme, slack.pk, "slack address") == address


def test_secrets_survive_that_a_provider_key_is_deleted_and_die_with_the_endpoint(
    cast: Cast, receiver: Receiver
) -> None:
    made = actions.create_endpoint(
        workspace=cast.acme, by=cast.alice.actor, kind="webhook", name="Ops", url=receiver.url
    )
    with tenancy.entered(cast.acme):
        door.renew_data_key(cast.acme)
        assert door.open_note(cast.acme, made.row.pk, "webhook secret") == made.text
        with pytest.raises(door.SecretUnreadable):
            door.open_note(cast.acme, made.row.pk, "slack address")
    actions.delete_endpoint(workspace=cast.acme, by=cast.alice.actor, endpoint_id=made.row.pk)
    with tenancy.entered(cast.acme), pytest.raises(door.SecretUnreadable):
        door.open_note(cast.acme, made.row.pk, "webhook secret")


def test_a_test_and_a_replay_go_like_any_other(
    cast: Cast, receiver: Receiver, hook: Endpoint, alice_client: Client
) -> None:
    assert alice_client.post(f"/w/acme/alerts/webhooks/{hook.pk}/test/").status_code == 302
    hooks.post_due()
    (row,) = log(cast)
    assert (row.state, json.loads(receiver.got[0][1])["type"]) == ("sent", "alert.test")
    assert alice_client.post(f"/w/acme/alerts/webhooks/{hook.pk}/deliveries/{row.pk}/replay/").status_code == 302
    hooks.post_due()
    assert len(receiver.got) == 2
    page = alice_client.get(f"/w/acme/alerts/webhooks/{hook.pk}/").content.decode()
    assert page.count("Send again") >= 2
    assert "A test from Sluice" in page

"""Credentials that need more than a key: settings are validated and kept in the clear, addresses follow from them, checks ask in each cloud's way."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from django.test import override_settings

from tests.cast import Cast
from tests.gateway.dialects.service_accounts import private_key, service_account
from workspaces import actions, tenancy
from workspaces.domain import google_keys, sigv4
from workspaces.domain.providers import PROVIDERS, BadSetting, deployment_of, model_of
from workspaces.errors import Invalid
from workspaces.models import AuditRecord
from workspaces.vault import door

PAIR = "AKIDEXAMPLE:" + "s" * 30


class Cloud(ThreadingHTTPServer):
    """Answers what its test wants and remembers what it was asked."""

    status, headers = 200, {}
    body = b'{"access_token": "ya29.x", "expires_in": 3599}'

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Cloud

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, sent))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    server = Cloud()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def add(cast: Cast, provider: str, secret: str, **more: object):  # type: ignore[no-untyped-def]
    return actions.add_credential(workspace=cast.acme, by=cast.alice.actor, provider=provider, secret=secret, **more)  # type: ignore[arg-type]


# --- Addresses --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("provider", "settings", "address"),
    [
        ("azure", {"resource": "acme-ai"}, "https://acme-ai.openai.azure.com/openai/v1"),
        ("azure", {"resource": "acme-ai", "api_version": "2024-10-21"}, "https://acme-ai.openai.azure.com/openai"),
        ("bedrock", {"region": "eu-central-1"}, "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("bedrock", {"region": "us-gov-west-1"}, "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("vertex", {"project": "acme-1234"}, "https://aiplatform.googleapis.com/v1/projects/acme-1234/locations/global"),
        ("vertex", {"project": "acme-1234", "location": "eu"},
         "https://aiplatform.eu.rep.googleapis.com/v1/projects/acme-1234/locations/eu"),
        ("vertex", {"project": "acme-1234", "location": "europe-west4"},
         "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme-1234/locations/europe-west4"),
    ],
)  # fmt: skip
def test_an_address_follows_from_the_settings(provider: str, settings: dict[str, str], address: str) -> None:
    access = PROVIDERS[provider]
    assert access.address(access.checked_settings(settings)) == address


@pytest.mark.parametrize(
    ("provider", "settings"),
    [
        ("azure", {"resource": "evil.example.com/"}),
        ("azure", {"resource": "a@b"}),
        ("azure", {"resource": "acme", "api_version": "2024-10-21&x=1"}),
        ("azure", {"resource": "acme", "deployments": "gpt-4o=../../x"}),
        ("azure", {"resource": "acme\n"}),
        ("bedrock", {"region": "us-east-1.evil.example.com/#"}),
        ("bedrock", {"region": "169.254.169.254"}),
        ("bedrock", {}),
        ("vertex", {"location": "us-central1/../.."}),
        ("vertex", {"project": "a/b/c/d"}),
        ("vertex", {"zone": "x"}),
        ("vertex", {"location": ["eu"]}),
        ("openai", {"region": "us-east-1"}),
    ],
)
def test_a_setting_that_could_move_the_key_elsewhere_is_refused(provider: str, settings: dict[str, object]) -> None:
    access = PROVIDERS[provider]
    if settings.get("resource") == "acme\n":  # white space around is what people paste
        assert access.checked_settings(settings) == {"resource": "acme"}
        return
    with pytest.raises(BadSetting):
        access.checked_settings(settings)


def test_a_deployment_is_named_like_its_model_unless_said_otherwise() -> None:
    assert deployment_of("gpt-4o", {}) == "gpt-4o"
    assert deployment_of("gpt-4o", {"deployments": "prod"}) == "prod"
    named = {"deployments": "gpt-4o=my-4o, gpt-4.1=big"}
    assert [deployment_of(name, named) for name in ("gpt-4o", "gpt-4.1", "o3")] == ["my-4o", "big", "o3"]
    assert [model_of(name, named) for name in ("my-4o", "big", "o3")] == ["gpt-4o", "gpt-4.1", "o3"]
    assert model_of("prod", {"deployments": "prod"}) == "prod"


# --- Keeping ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_settings_are_kept_in_the_clear_and_the_key_is_not(cast: Cast) -> None:
    kept = add(cast, "bedrock", PAIR, access_settings={"region": "us-east-1"}, verify=False)
    assert (kept.settings, kept.last_four) == ({"region": "us-east-1"}, "MPLE")
    assert b"ssss" not in bytes(kept.sealed)
    with tenancy.entered(cast.acme):
        written = AuditRecord.objects.filter(action="credential.add").latest("at")
    assert written.after["settings"] == {"region": "us-east-1"}


@pytest.mark.django_db
def test_a_service_account_is_kept_as_one_line_of_what_is_used_of_it(cast: Cast) -> None:
    kept = add(cast, "vertex", service_account(google_keys.TOKEN_URL), verify=False)
    assert kept.settings == {"project": "acme-project"}
    assert kept.last_four == "1234"
    opened = door.open_secret(cast.acme, kept)
    assert "\n" not in opened
    assert "client_id" not in opened
    assert google_keys.parse(opened).email == "sluice@acme-project.example.com"


@pytest.mark.django_db
@override_settings(ALLOW_PRIVATE_UPSTREAMS=False)
def test_a_service_account_cannot_name_a_token_endpoint_of_its_own(cast: Cast) -> None:
    with pytest.raises(Invalid, match="token_uri") as caught:
        add(cast, "vertex", service_account("https://tokens.example.com/token"), verify=False)
    assert caught.value.field == "secret"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("provider", "secret", "settings", "field"),
    [
        ("azure", "k" * 32, {}, "resource"),
        ("bedrock", PAIR, {}, "region"),
        ("bedrock", "AKIAONLYHALF", {"region": "us-east-1"}, "secret"),
        ("vertex", "k" * 32, {}, "secret"),
        ("vertex", '{"type": "authorized_user"}', {}, "secret"),
        ("vertex", service_account(google_keys.TOKEN_URL, private_key="-----BEGIN NOTHING-----"), {}, "secret"),
        ("vertex", service_account(google_keys.TOKEN_URL, project_id=None), {}, "project"),
        ("vertex", service_account(google_keys.TOKEN_URL), {"location": "mars"}, "location"),
    ],
)
def test_what_cannot_work_is_refused_beside_its_field(
    cast: Cast, provider: str, secret: str, settings: dict[str, str], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        add(cast, provider, secret, access_settings=settings, verify=False)
    assert caught.value.field == field


@pytest.mark.django_db
def test_settings_change_only_together_with_the_key(cast: Cast) -> None:
    kept = add(cast, "bedrock", PAIR, access_settings={"region": "us-east-1"}, verify=False)
    turned = actions.rotate_credential(
        workspace=cast.acme, by=cast.alice.actor, credential_id=kept.id, secret=PAIR + "x", verify=False
    )
    assert turned.settings == {"region": "us-east-1"}
    moved = actions.rotate_credential(
        workspace=cast.acme, by=cast.alice.actor, credential_id=kept.id, secret=PAIR, verify=False,
        access_settings={"region": "eu-west-1"},
    )  # fmt: skip
    assert moved.settings == {"region": "eu-west-1"}


# --- Checking ---------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_an_azure_key_is_checked_in_its_own_header(cast: Cast, cloud: Cloud) -> None:
    kept = add(cast, "azure", "k" * 32, base_url=f"{cloud.url}/openai/v1")
    assert kept.state == "verified"
    path, headers, _ = cloud.asked[0]
    assert (path, headers["api-key"]) == ("/openai/v1/models", "k" * 32)
    assert "authorization" not in headers


@pytest.mark.django_db
def test_an_aws_pair_is_checked_with_a_signature_that_holds(cast: Cast, cloud: Cloud) -> None:
    kept = add(cast, "bedrock", f"{PAIR}:a-session", base_url=cloud.url, access_settings={"region": "eu-west-1"})
    assert kept.state == "verified"
    path, headers, body = cloud.asked[0]
    keys = sigv4.parse(f"{PAIR}:a-session")
    assert keys is not None
    expected = sigv4.headers(
        keys, method="GET", path=path, sent={"host": headers["host"]}, body=body, region="eu-west-1", service="bedrock",
        now=datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ"),
    )  # fmt: skip
    assert {name: headers[name] for name in expected} == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "state"),
    [("InvalidSignatureException", "rejected"), ("AccessDeniedException:http://internal/", "unverified"), ("", "rejected")],
)  # fmt: skip
def test_an_aws_key_that_may_only_call_models_is_not_called_wrong(
    cast: Cast, cloud: Cloud, kind: str, state: str
) -> None:
    cloud.status, cloud.headers = 403, {"x-amzn-errortype": kind} if kind else {}
    assert add(cast, "bedrock", PAIR, base_url=cloud.url, access_settings={"region": "eu-west-1"}).state == state


@pytest.mark.django_db
def test_a_bedrock_api_key_is_a_bearer_token(cast: Cast, cloud: Cloud) -> None:
    add(cast, "bedrock", "ABSK" + "x" * 40, base_url=cloud.url, access_settings={"region": "eu-west-1"})
    assert cloud.asked[0][1]["authorization"] == "Bearer ABSK" + "x" * 40


@pytest.mark.django_db
@pytest.mark.parametrize(("status", "state"), [(200, "verified"), (400, "rejected"), (500, "unverified")])
def test_a_service_account_is_checked_by_an_exchange_that_google_could_verify(
    cast: Cast, cloud: Cloud, status: int, state: str
) -> None:
    cloud.status = status
    assert add(cast, "vertex", service_account(f"{cloud.url}/token")).state == state
    path, _, form = cloud.asked[0]
    given = parse_qs(form.decode())
    head, claims, signature = given["assertion"][0].split(".")
    assert (path, given["grant_type"]) == ("/token", [google_keys.GRANT])
    private_key().public_key().verify(
        decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "f00dfeedcafe1234"}
    told = json.loads(decoded(claims))
    assert (told["aud"], told["exp"] - told["iat"], told["scope"]) == (f"{cloud.url}/token", 3600, google_keys.SCOPE)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

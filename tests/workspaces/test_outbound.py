"""Provider keys are checked through one guarded door: right places only, no redirects, no environment, no waiting."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import override_settings

from gateway.providers.registry import PROVIDERS as GATEWAY_PROVIDERS
from tests.cast import Cast
from workspaces import actions, outbound
from workspaces.domain.addresses import BadBaseUrl, may_contact, parse_base_url
from workspaces.domain.providers import PROVIDERS
from workspaces.errors import Invalid
from workspaces.outbound import OutboundFailed

SECRET = "sk-test-" + "v" * 32


class Provider(ThreadingHTTPServer):
    """A provider on loopback that does what its test wants and remembers what it was asked."""

    status, body, headers, drip_s = 200, b'{"data": []}', {}, 0.0

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        try:
            step = 1 if self.server.drip_s else 65536
            for start in range(0, len(self.server.body), step):
                time.sleep(self.server.drip_s)
                self.wfile.write(self.server.body[start : start + step])
        except OSError:
            pass  # the other side had enough

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def add(cast: Cast, url: str, name: str = "openai"):  # type: ignore[no-untyped-def]
    return actions.add_credential(workspace=cast.acme, by=cast.alice.actor, provider=name, secret=SECRET, base_url=url)


# --- Checking a key ---------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_key_that_works_is_verified_with_one_cheap_call(cast: Cast, provider: Provider) -> None:
    credential = add(cast, provider.url)
    assert (credential.state, credential.check_message) == ("verified", "")
    (path, headers), *others = provider.asked
    assert others == []
    assert path == "/v1/models"
    assert headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.django_db
def test_anthropic_and_gemini_are_asked_in_their_own_way(cast: Cast, provider: Provider) -> None:
    add(cast, provider.url, "anthropic")
    add(cast, provider.url, "gemini")
    assert [headers.get("x-api-key") or headers.get("x-goog-api-key") for _, headers in provider.asked] == [
        SECRET,
        SECRET,
    ]
    assert all("authorization" not in headers for _, headers in provider.asked)
    assert provider.asked[0][1]["anthropic-version"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "state"),
    [(401, "rejected"), (403, "rejected"), (404, "unverified"), (429, "unverified"), (500, "unverified")],
)
def test_a_refusal_is_kept_as_a_sentence_that_does_not_repeat_the_providers_text(
    cast: Cast, provider: Provider, status: int, state: str
) -> None:
    provider.status, provider.body = status, f"Incorrect API key provided: {SECRET}".encode()
    credential = add(cast, provider.url)
    assert credential.state == state
    assert str(status) in credential.check_message
    assert SECRET not in credential.check_message


@pytest.mark.django_db
def test_a_redirect_is_not_followed(cast: Cast, provider: Provider) -> None:
    provider.status, provider.headers = 302, {"location": f"{provider.url}/elsewhere"}
    credential = add(cast, provider.url)
    assert credential.state == "unverified"
    assert "redirect" in credential.check_message
    assert len(provider.asked) == 1


@pytest.mark.django_db
def test_a_provider_that_is_down_leaves_the_key_unverified(cast: Cast, provider: Provider) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        credential = add(cast, f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert credential.state == "unverified"
    assert "could not be reached" in credential.check_message


@pytest.mark.django_db
def test_checking_again_after_the_provider_was_fixed(cast: Cast, provider: Provider) -> None:
    provider.status = 401
    credential = add(cast, provider.url)
    provider.status = 200
    checked = actions.verify_credential(workspace=cast.acme, by=cast.alice.actor, credential_id=credential.id)
    assert checked.state == "verified"


@pytest.mark.django_db
@pytest.mark.parametrize("secret", ["", "   ", "a b", "sk-\nx", "sk-é", "x" * 5000, "slk_whatever", None])
def test_what_is_no_key_is_refused_before_anything_is_stored_or_sent(cast: Cast, secret: str) -> None:
    with pytest.raises(Invalid) as caught:
        actions.add_credential(workspace=cast.acme, by=cast.alice.actor, provider="openai", secret=secret)
    assert caught.value.field == "secret"


@pytest.mark.django_db
def test_a_key_is_stored_without_the_white_space_it_was_pasted_with(cast: Cast, provider: Provider) -> None:
    actions.add_credential(
        workspace=cast.acme, by=cast.alice.actor, provider="openai", secret=f"\n {SECRET}\t", base_url=provider.url
    )
    assert provider.asked[0][1]["authorization"] == f"Bearer {SECRET}"


@pytest.mark.django_db
def test_the_simulator_needs_no_key(cast: Cast, provider: Provider) -> None:
    with override_settings(SIMULATOR_URL=provider.url):
        credential = actions.add_credential(workspace=cast.acme, by=cast.alice.actor, provider="simulator", secret="")
    assert credential.state == "verified"
    assert credential.sealed is None
    assert "authorization" not in provider.asked[0][1]


@pytest.mark.django_db
def test_without_a_simulator_the_provider_is_not_offered(cast: Cast) -> None:
    with override_settings(SIMULATOR_URL=""), pytest.raises(Invalid):
        actions.add_credential(workspace=cast.acme, by=cast.alice.actor, provider="simulator", secret="")


def test_the_gateway_and_the_vault_know_the_same_providers() -> None:
    assert set(GATEWAY_PROVIDERS) <= set(PROVIDERS)


# --- The door ---------------------------------------------------------------------------------------------------------
def test_the_environments_proxies_are_ignored(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert outbound.get(provider.url, "/models", headers={}, timeout_s=5).status == 200


def test_an_answer_that_drips_is_cut_off_in_time(provider: Provider) -> None:
    provider.body, provider.drip_s = b"x" * 1000, 0.05
    started = time.monotonic()
    answer = outbound.get(provider.url, "/models", headers={}, timeout_s=0.5)
    assert time.monotonic() - started < 3
    assert len(answer.body) < 1000


def test_a_huge_answer_is_cut_off(provider: Provider) -> None:
    provider.body = b"y" * (outbound.MOST_BYTES * 3)
    assert len(outbound.get(provider.url, "/models", headers={}, timeout_s=20).body) == outbound.MOST_BYTES


def test_a_name_is_resolved_once_and_every_address_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's resolver is the edge that is faked here: a rebinding name answers differently each time."""
    answers = iter([["93.184.216.34", "127.0.0.1"], ["93.184.216.34"]])
    asked = []

    def resolver(host: str, port: int, **_: object) -> list[tuple]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with (
        override_settings(ALLOW_PRIVATE_UPSTREAMS=False),
        pytest.raises(OutboundFailed, match="may not be contacted") as caught,
    ):
        outbound.get("https://rebind.example.com/v1", "/models", headers={}, timeout_s=2)
    assert caught.value.permanent
    assert asked == ["rebind.example.com"]


def test_the_connection_goes_to_the_checked_address_under_the_original_name(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = provider.server_address[1], []
    real = socket.getaddrinfo

    def resolver(host: str, *arguments: object, **named: object) -> list[tuple]:
        if host == "provider.example.com":
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        return real(host, *arguments, **named)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    answer = outbound.get(f"http://provider.example.com:{port}/v1", "/models", headers={}, timeout_s=5)
    assert answer.status == 200
    assert provider.asked[0][1]["host"] == f"provider.example.com:{port}"
    assert asked == ["provider.example.com"]


def test_a_certificate_nobody_vouches_for_is_refused(provider: Provider, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    provider.socket = context.wrap_socket(provider.socket, server_side=True)
    provider.handle_error = lambda *_: None  # type: ignore[method-assign] - a refused handshake is expected
    with pytest.raises(OutboundFailed, match="could not be reached"):
        outbound.get(provider.url.replace("http:", "https:"), "/models", headers={}, timeout_s=5)
    assert provider.asked == []


# --- Where a call may go ----------------------------------------------------------------------------------------------
PUBLIC_ONLY = [
    "http://api.openai.com/v1", "https://api.openai.com:8443/v1", "https://localhost/v1", "https://localhost./v1", "https://a.localhost/",
    "https://intranet/v1", "https://x.local/", "https://metadata.google.internal/", "https://127.0.0.1/", "https://10.0.0.1/", "https://192.168.1.1/",
    "https://[::1]/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://100.64.0.1/",
]  # fmt: skip
NEVER = [
    "", "api.openai.com", "ftp://api.openai.com/", "file:///etc/passwd", "https://", "https:///v1", "https://user@host.com/", "https://u:p@host.com/",
    "https://host.com@169.254.169.254/", "https://169.254.169.254/", "https://0.0.0.0/", "https://[::]/", "https://224.0.0.1/", "https://[fe80::1]/",
    "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::]/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/",
    "https://127.0.0.1./", "https://exämple.com/", "https://host.com/v1?key=x", "https://host.com/#x", "https://host.com/a/../b", "https://host.com//a",
    "https://host.com/%2e%2e/", "https://host.com/a;b", "https://host.com:0/", "https://host.com:99999/", "https://host.com:x/", "https://ho st.com/",
    "https://host.com/\r\nX: y", "https://host.com\\@evil.com/", "https://[::1", "https://" + "a" * 64 + ".com/", "https://x.com/" + "a" * 400,
    "https://-x.com/", "https://ⓔxample.com/", "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("url", PUBLIC_ONLY + NEVER)
def test_a_base_url_that_leads_inside_or_lies_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(BadBaseUrl) as caught:
        parse_base_url(url, allow_private=False)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("url", NEVER)
def test_some_places_are_refused_even_where_private_ones_are_allowed(url: str) -> None:
    with pytest.raises(BadBaseUrl):
        parse_base_url(url, allow_private=True)


@pytest.mark.parametrize(
    "access", [access for access in PROVIDERS.values() if access.base_url], ids=lambda access: access.name
)
def test_every_known_provider_is_at_an_address_that_passes(access) -> None:  # type: ignore[no-untyped-def]
    parse_base_url(access.base_url, allow_private=access.name == "ollama")


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "::", "fe80::1", "ff02::1", "64:ff9b::7f00:1", "2002:7f00:1::",
     "2001:db8::1", "2001::1", "::ffff:169.254.169.254"],
)  # fmt: skip
def test_an_address_nobody_should_contact_is_refused_everywhere(address: str) -> None:
    assert not may_contact(ipaddress.ip_address(address), allow_private=True)
    assert not may_contact(ipaddress.ip_address(address), allow_private=False)

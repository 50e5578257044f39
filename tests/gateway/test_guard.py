"""Where the gateway may connect: base URLs, addresses, and names that change their mind."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from gateway.upstream import AddressRefused, BadBaseUrl, Door, Limits, NotSent, Origin, parse_base_url
from workspaces.domain.addresses import may_contact

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
]
NEVER = [
    "169.254.169.254",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "240.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.0.0.1",
    "::",
    "fe80::1",
    "ff02::1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::1",
    "2001:db8::1",
    "100::1",
]
OUTSIDE = ["1.1.1.1", "104.18.6.192", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450::1"]


@pytest.mark.parametrize("address", [*INSIDE, *NEVER])
def test_private_and_reserved_addresses_are_refused_in_production(address: str) -> None:
    assert not may_contact(ipaddress.ip_address(address), allow_private=False)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_multicast_and_tunnels_are_refused_everywhere(address: str) -> None:
    assert not may_contact(ipaddress.ip_address(address), allow_private=True)


def test_public_addresses_pass_everywhere_and_private_ones_where_they_are_allowed() -> None:
    for address in OUTSIDE:
        assert may_contact(ipaddress.ip_address(address), allow_private=False)
    for address in INSIDE:
        assert may_contact(ipaddress.ip_address(address), allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com",
        "ftp://api.openai.com",
        "file:///etc/passwd",
        "gopher://x",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://user@api.openai.com/v1",
        "https://user:key@api.openai.com",
        "https://api.openai.com@evil.example/v1",
        "https://api.openai.com/v1?x=1",
        "https://api.openai.com/v1#x",
        "https://api.openai.com/../admin",
        "https://api.openai.com//v1",
        "https://api.openai.com/v1;x",
        "https://api.openai.com/%2e%2e",
        "https://localhost/v1",
        "https://localhost./v1",
        "https://api.localhost",
        "https://api.openai.com./v1",
        "https://127.0.0.1/v1",
        "https://[::1]/v1",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://1.2.3.4.5/",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]/",
        "https://metadata.google.internal/",
        "https://аpi.openai.com/v1",
        "https://api.openai.com\\@evil.example",
        "https://",
        "https:///v1",
        "https://api.openai.com:0x1bb/",
        "https://api.openai.com:99999/",
        "https://api openai.com",
        "https://api.openai.com/v1\r\nx: y",
        "https://-bad.example/",
        "https://[fe80::1%25eth0]/",
        "https://.example",
        "https://a..b",
    ],
)
def test_base_urls_that_lead_somewhere_else_than_they_seem_are_refused(url: str) -> None:
    with pytest.raises(BadBaseUrl):
        parse_base_url(url, allow_private=False)


def test_base_urls_of_providers_pass() -> None:
    assert parse_base_url("https://api.openai.com/v1/", allow_private=False) == (
        Origin("https", "api.openai.com", 443),
        "/v1",
    )
    assert parse_base_url("https://API.Groq.com:443/openai/v1", allow_private=False)[0].host_header == "api.groq.com"
    origin, prefix = parse_base_url("http://127.0.0.1:8090/simulator/v1", allow_private=True)
    assert (origin.host_header, prefix) == ("127.0.0.1:8090", "/simulator/v1")
    with pytest.raises(BadBaseUrl):
        parse_base_url("http://169.254.169.254/", allow_private=True)


class FakeNames:
    """What the resolver of the machine answers, call by call; the last answer repeats."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


async def connect(names: FakeNames, monkeypatch: pytest.MonkeyPatch, tried: list[str]) -> None:
    loop = asyncio.get_running_loop()

    async def create_connection(factory: Any, host: str, port: int, **_: Any) -> Any:
        tried.append(host)
        raise ConnectionRefusedError

    monkeypatch.setattr(loop, "getaddrinfo", names)
    monkeypatch.setattr(loop, "create_connection", create_connection)
    door = Door()
    try:
        await door.exchange(Origin("https", "provider.example", 443), b"", b"", Limits(connect_s=1))
    finally:
        await door.close()


async def test_a_name_with_one_private_address_among_public_ones_is_refused_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []
    with pytest.raises(AddressRefused):
        await connect(FakeNames(["1.1.1.1", "10.0.0.1"]), monkeypatch, tried)
    assert tried == []


async def test_a_name_that_turns_private_after_the_check_is_never_contacted_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, tried = FakeNames(["1.1.1.1"], ["127.0.0.1"]), []
    with pytest.raises(NotSent):
        await connect(names, monkeypatch, tried)
    assert tried == ["1.1.1.1"], "the checked address, not the name"
    with pytest.raises(AddressRefused):
        await connect(names, monkeypatch, tried)
    assert tried == ["1.1.1.1"]

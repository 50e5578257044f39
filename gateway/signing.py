"""The key of a call, where it is not the same header each time: AWS signs every request, Google wants an access token that lives an hour.

Tokens are fetched through the same door as calls, one fetch at a time for each key, and renewed in the background while the old one still
holds: a call waits for one only when there is none. Nothing here is kept longer than the token lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from gateway.errors import ProviderUnreachable
from gateway.upstream import BadBaseUrl, Door, Limits, Origin, UpstreamFailure, parse_base_url
from workspaces.domain import google_keys, sigv4
from workspaces.domain.providers import Access, Auth

TOKEN_LIMITS = Limits(connect_s=5.0, first_byte_s=10.0, idle_s=10.0, total_s=15.0)
RENEW_BEFORE_S = 600
"""Before a token ends, the next one is fetched beside the calls."""
TRY_AGAIN_S = 10
SPARE_S = 30
"""A token this near its end is not used: the call would take longer to arrive."""
MAX_TOKENS = 4_096
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(slots=True)
class _Held:
    token: str = ""
    ends_at: float = 0.0
    fetch: asyncio.Task[None] | None = None
    try_again_at: float = 0.0
    """After a renewal that failed while the old token still holds."""


class Signer:
    """Makes the headers of one request that depend on its bytes or on the time."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.time) -> None:
        self._door = door
        self._clock = clock
        self._held: dict[bytes, _Held] = {}

    async def headers(
        self, access: Access, chosen: Mapping[str, str], secret: str, origin: Origin, target: str, body: bytes
    ) -> bytes:
        """Header lines, each with its end. `target` is the path and query as sent. Raises ProviderUnreachable: then nothing was sent."""
        if access.auth is Auth.HEADER:
            return b""
        try:
            if access.auth is Auth.AWS:
                return _lines(self._aws(chosen, secret, origin, target, body))
            return _lines({"authorization": f"Bearer {await self._google(secret)}"})
        except (google_keys.BadKey, sigv4.BadKey) as error:
            raise _bad_key(access.title, str(error)) from None

    def _aws(self, chosen: Mapping[str, str], secret: str, origin: Origin, target: str, body: bytes) -> dict[str, str]:
        keys = sigv4.parse(secret)
        if keys is None:
            return {"authorization": f"Bearer {secret}"}
        path, _, query = target.partition("?")
        return sigv4.headers(
            keys,
            method="POST",
            path=path,
            query=query,
            sent={"host": origin.host_header, "content-type": "application/json"},
            body=body,
            region=chosen.get("region", ""),
            service="bedrock",
            now=datetime.fromtimestamp(self._clock(), UTC),
        )

    async def _google(self, secret: str) -> str:
        name = hashlib.sha256(secret.encode()).digest()
        held = self._held.get(name)
        if held is None:
            if len(self._held) >= MAX_TOKENS:
                self._forget_old()
            held = self._held[name] = _Held()
        now = self._clock()
        usable = held.ends_at - now >= SPARE_S
        if held.fetch is None and held.ends_at - now < RENEW_BEFORE_S and (not usable or now >= held.try_again_at):
            held.fetch = asyncio.ensure_future(self._fetch(secret, held))
            held.fetch.add_done_callback(_heard)
        if not usable and held.fetch is not None:
            await asyncio.shield(held.fetch)  # a caller that hangs up does not end the fetch of the others
        return held.token

    async def _fetch(self, secret: str, held: _Held) -> None:
        try:
            token = await self._exchanged(google_keys.parse(secret))
            held.token, held.ends_at = token.text, self._clock() + token.lives_s
        except (ProviderUnreachable, google_keys.BadKey):
            held.try_again_at = self._clock() + TRY_AGAIN_S
            raise
        finally:
            held.fetch = None

    async def _exchanged(self, account: google_keys.ServiceAccount) -> google_keys.Token:
        now_s = int(self._clock())
        form = google_keys.exchange(account, now_s)
        try:
            if account.token_url != google_keys.TOKEN_URL and not settings.ALLOW_PRIVATE_UPSTREAMS:
                raise google_keys.BadKey("The service account names a token endpoint that is not Google's.")
            origin, path = parse_base_url(account.token_url, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
        except BadBaseUrl as error:
            raise google_keys.BadKey(str(error)) from None
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {origin.host_header}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
            f"accept: application/json\r\naccept-encoding: identity\r\nuser-agent: sluice\r\ncontent-length: {len(form)}\r\n\r\n"
        ).encode()
        try:
            async with await self._door.exchange(origin, head, form, TOKEN_LIMITS) as answer:
                status, body = answer.status, await answer.read(MAX_ANSWER_BYTES)
        except UpstreamFailure as failure:
            raise ProviderUnreachable(
                "Google's token endpoint could not be reached, so the call was not sent.",
                code="provider_token_unavailable",
                facts={"provider": "vertex"},
            ) from failure
        token = google_keys.read_token(body) if status == 200 else None
        if token is not None:
            return token
        if status in (400, 401, 403):
            raise google_keys.BadKey(f"Google refused the service account (HTTP {status}).")
        raise ProviderUnreachable(
            f"Google's token endpoint answered with status {status}, so the call was not sent.",
            code="provider_token_unavailable",
            facts={"provider": "vertex"},
        )

    def _forget_old(self) -> None:
        now = self._clock()
        for name in [name for name, held in self._held.items() if held.ends_at <= now and held.fetch is None]:
            del self._held[name]
        while len(self._held) >= MAX_TOKENS:
            self._held.pop(next(iter(self._held)))

    async def close(self) -> None:
        for held in self._held.values():
            if held.fetch is not None:
                held.fetch.cancel()
                with suppress(asyncio.CancelledError, ProviderUnreachable, google_keys.BadKey):
                    await held.fetch
        self._held.clear()


def _heard(fetch: asyncio.Task[None]) -> None:
    """A renewal in the background may fail unheard: the old token still holds, and another try follows."""
    if not fetch.cancelled():
        fetch.exception()


def _lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _bad_key(title: str, why: str) -> ProviderUnreachable:
    return ProviderUnreachable(
        f"The credential for {title} cannot be used. {why}",
        code="bad_credential",
        hint="An administrator should paste the provider key again.",
    )

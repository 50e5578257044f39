"""`Idempotency-Key` on a POST: what was done once is answered again, not done again (draft-ietf-httpapi-idempotency-key-header).

The row of the key is inserted first and its answer written last, both in the transaction of the act itself. Hence: when the act is
committed, so is its answer, and a crash in between leaves neither; of two requests at once the second waits at the unique index until the
first has ended, then finds its answer, or finds nothing and does the act. Only success is remembered: after an error the same key may be
tried again. An answer that shows a secret once (a virtual key) is replayed with it to whoever has token and key, therefore it is sealed
(AES-256-GCM) under HMAC(pepper, token and key), of which the database holds neither.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from workspaces import tenancy
from workspaces.errors import Invalid, Refused
from workspaces.keys import peppers
from workspaces.models import ApiToken, IdempotentAnswer

HEADER = "Idempotency-Key"
LASTS = timedelta(hours=24)
LONGEST = 255
_KEY = re.compile(rf"[!-~]{{1,{LONGEST}}}")
WAIT_MS = 10_000


class KeyReused(Refused):
    status = 422  # type: ignore[assignment]
    code = "idempotency_key_reused"


class StillRunning(Refused):
    status = 409  # type: ignore[assignment]
    code = "idempotency_key_in_use"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    data: Any


class Once:
    """One POST under a key. Use inside a transaction: `begin`, then the act, then `remember`."""

    def __init__(self, token: ApiToken, key: str, method: str, address: str, body: bytes) -> None:
        """Raises Invalid for a key that is none."""
        if not _KEY.fullmatch(key):
            raise Invalid(f"An {HEADER} has 1 to {LONGEST} visible ASCII characters, and no space.", field=HEADER)
        self._token = token
        asked = b"\0".join((method.encode(), address.encode(), body))
        self._request = hashlib.sha256(asked).digest()
        self._digest = self._derived(b"digest", key)
        self._cipher = AESGCM(self._derived(b"seal", key))

    def begin(self) -> Answer | None:
        """The answer of the first time, or None: then this is it. Raises KeyReused, StillRunning."""
        wanted = {"token": self._token, "key": self._digest}
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{WAIT_MS}ms"])
        try:
            with transaction.atomic():
                IdempotentAnswer.objects.filter(**wanted, made_at__lt=timezone.now() - LASTS).delete()
                made = {"workspace_id": self._token.workspace_id, "request": self._request, "made_at": timezone.now()}
                row, is_new = IdempotentAnswer.objects.get_or_create(**wanted, defaults=made)
        except OperationalError:
            raise StillRunning(
                "The first request with this key is still running.", hint="Ask again in a few seconds."
            ) from None
        finally:
            if not connection.needs_rollback:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('lock_timeout', '0', true)")
        if is_new:
            return None
        if not hmac.compare_digest(bytes(row.request), self._request):
            raise KeyReused(
                f"This {HEADER} was used for another request.", hint="Make a new one for everything that is new."
            )
        return Answer(row.status, self._opened(bytes(row.sealed)))

    def remember(self, status: int, data: Any) -> None:
        nonce = os.urandom(12)
        sealed = nonce + self._cipher.encrypt(nonce, orjson.dumps(data, default=str), self._digest)
        IdempotentAnswer.objects.filter(token=self._token, key=self._digest).update(status=status, sealed=sealed)

    def _opened(self, sealed: bytes) -> Any:
        return orjson.loads(self._cipher.decrypt(sealed[:12], sealed[12:], self._digest))

    def _derived(self, purpose: bytes, key: str) -> bytes:
        about = b"\0".join((b"sluice idempotency", purpose, str(self._token.id).encode(), key.encode()))
        return hmac.new(peppers().current, about, "sha256").digest()


def purge() -> int:
    """Forget answers older than a day; how many."""
    with tenancy.every_workspace("old answers of every workspace are forgotten"):
        return IdempotentAnswer.objects.filter(made_at__lt=timezone.now() - LASTS).delete()[0]

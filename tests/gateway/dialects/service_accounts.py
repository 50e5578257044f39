"""A service account's key for tests, made on the spot: no real-looking secret is in the repository."""

from __future__ import annotations

import json
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@lru_cache(maxsize=1)
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account(token_url: str, **changed: object) -> str:
    pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "acme-project",
            "private_key_id": "f00dfeedcafe1234",
            "private_key": pem,
            "client_email": "sluice@acme-project.example.com",
            "client_id": "1",
            "token_uri": token_url,
            **changed,
        },
        indent=2,
    )

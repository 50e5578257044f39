"""The web process of `config.stack.web` that believes one certificate more: no setting of the product can do that (SECURITY.md S32)."""

from __future__ import annotations

import os
from pathlib import Path

import certifi

from tests.bench import certificates

_bundle = certificates.trusted(Path(os.environ["SLUICE_HOME"]).parent)
certifi.where = lambda: str(_bundle)

from config.stack import web  # noqa: E402 - reads the bundle's place when it starts

if __name__ == "__main__":
    web.main()

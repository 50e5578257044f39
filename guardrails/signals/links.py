"""Whole addresses of pages, for mails and webhooks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse


def address(name: str, *args: Any) -> str:
    return f"{settings.PUBLIC_URL}{reverse(name, args=args)}"

"""What waste adds to pages and mails, at start-up."""

from __future__ import annotations


def connect() -> None:
    return

"""EMAIL_URL -> Django's mail settings: an SMTP server, or a provider's API through django-anymail.

    smtp://user:password@host:587?tls=1      smtps://user:password@host
    postmark://TOKEN@      sendgrid://KEY@      resend://KEY@      brevo://KEY@      mailjet://KEY:SECRET@
    mailgun://KEY@mg.example.com[?region=eu]

Amazon SES is reached over its SMTP interface.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from config.env import BadEnvironment

TIMEOUT_S: Final = 10

_KEYED: Final = {
    "postmark": "POSTMARK_SERVER_TOKEN",
    "sendgrid": "SENDGRID_API_KEY",
    "resend": "RESEND_API_KEY",
    "brevo": "BREVO_API_KEY",
    "mailjet": "MAILJET_API_KEY",
    "mailgun": "MAILGUN_API_KEY",
}
"""Scheme -> the setting of django-anymail that its key goes to."""


def mail_settings(url: str) -> dict[str, Any]:
    """Raises BadEnvironment for an address that means nothing. Empty: mails are printed to the log."""
    parts = urlsplit(url)
    if parts.scheme == "":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if parts.scheme in ("smtp", "smtps"):
        return _smtp(parts)
    if parts.scheme in _KEYED:
        return _keyed(parts)
    known = ", ".join(f"{name}://" for name in ("smtp", "smtps", *_KEYED))
    raise BadEnvironment(f"EMAIL_URL: write smtp://user:password@host:port or a provider's, one of {known}")


def _smtp(parts: SplitResult) -> dict[str, Any]:
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname or "localhost",
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 25),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parse_qs(parts.query).get("tls") == ["1"],
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": TIMEOUT_S,
    }


def _keyed(parts: SplitResult) -> dict[str, Any]:
    key = unquote(parts.username or "")
    if not key:
        raise BadEnvironment(f"EMAIL_URL: write {parts.scheme}://KEY@ with the provider's key before the @")
    anymail: dict[str, Any] = {_KEYED[parts.scheme]: key, "REQUESTS_TIMEOUT": TIMEOUT_S}
    if parts.scheme == "mailjet":
        anymail["MAILJET_SECRET_KEY"] = unquote(parts.password or "")
    if parts.scheme == "mailgun":
        if not parts.hostname:
            raise BadEnvironment("EMAIL_URL: write mailgun://KEY@your.domain")
        anymail["MAILGUN_SENDER_DOMAIN"] = parts.hostname
        if parse_qs(parts.query).get("region") == ["eu"]:
            anymail["MAILGUN_API_URL"] = "https://api.eu.mailgun.net/v3"
    return {"EMAIL_BACKEND": f"anymail.backends.{parts.scheme}.EmailBackend", "ANYMAIL": anymail}

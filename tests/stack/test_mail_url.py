"""EMAIL_URL becomes Django's settings, or a sentence that says what to write."""

from __future__ import annotations

import pytest
from django.utils.module_loading import import_string

from config.env import BadEnvironment
from config.mail_url import mail_settings


def test_an_smtp_server_with_and_without_tls() -> None:
    plain = mail_settings("smtp://me%40x:p%2Fw@mail.example:587?tls=1")
    assert (plain["EMAIL_HOST"], plain["EMAIL_PORT"], plain["EMAIL_HOST_USER"], plain["EMAIL_HOST_PASSWORD"]) == (
        "mail.example",
        587,
        "me@x",
        "p/w",
    )
    assert plain["EMAIL_USE_TLS"]
    assert mail_settings("smtps://mail.example")["EMAIL_PORT"] == 465
    assert mail_settings("")["EMAIL_BACKEND"].endswith("console.EmailBackend")


@pytest.mark.parametrize("scheme", ["postmark", "sendgrid", "resend", "brevo", "mailjet", "mailgun"])
def test_a_provider_s_backend_exists_and_gets_its_key(scheme: str) -> None:
    made = mail_settings(f"{scheme}://key:two@mg.example.com")
    assert import_string(made["EMAIL_BACKEND"])
    assert "key" in made["ANYMAIL"].values()


@pytest.mark.parametrize("url", ["postmark://", "mailgun://key@", "pigeon://coop", "http://example.com"])
def test_what_means_nothing_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(BadEnvironment, match="EMAIL_URL: write"):
        mail_settings(url)

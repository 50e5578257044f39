"""The development inbox: stores what is sent, shows it without running any of it, and shows it to this machine only."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from smtplib import SMTP, SMTPDataError, SMTPSenderRefused

import httpx
import pytest

from config.env import ROOT
from config.stack.inbox import KEPT, Box
from config.stack.part import answers_http
from config.stack.process import end, free_port, spawn, wait_until

NASTY = '<script>alert(1)</script><img src="http://tracker.example/x.png"><form action="http://thief.example"></form>'


class Inbox:
    def __init__(self, folder: Path) -> None:
        self.smtp_port, self.http_port = free_port(), free_port()
        words = [
            "-m",
            "config.stack.inbox",
            f"--smtp-port={self.smtp_port}",
            f"--http-port={self.http_port}",
            f"--folder={folder}",
        ]
        self.process: subprocess.Popen[bytes] = spawn([sys.executable, *words], cwd=ROOT)
        wait_until(lambda: answers_http(self.http_port), timeout_s=30, process=self.process, what="inbox")
        self.web = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", trust_env=False)

    def send(
        self, subject: str = "Confirm your address", text: str = "Open http://127.0.0.1/c/1", html: str = ""
    ) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "sluice@localhost", "alice@acme.example", subject
        message.set_content(text)
        if html:
            message.add_alternative(html, subtype="html")
        with SMTP("127.0.0.1", self.smtp_port) as smtp:
            smtp.send_message(message)


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    running = Inbox(tmp_path_factory.mktemp("inbox") / "mails")
    try:
        yield running
    finally:
        running.web.close()
        end(running.process, steps=[(15, 5)])


def newest(inbox: Inbox, subject: str) -> dict[str, object]:
    return next(mail for mail in inbox.web.get("/messages.json").json() if mail["subject"] == subject)


def test_a_mail_is_listed_with_its_text_and_its_links(inbox: Inbox) -> None:
    inbox.send("Willkommen in Zürich", "Bitte: http://127.0.0.1:8000/confirm/abc?x=1&y=2 danke")
    mail = newest(inbox, "Willkommen in Zürich")
    whole = inbox.web.get(f"/messages/{mail['id']}.json").json()
    assert whole["to"] == "alice@acme.example"
    assert whole["links"] == ["http://127.0.0.1:8000/confirm/abc?x=1&y=2"]
    page = inbox.web.get(f"/messages/{mail['id']}").text
    assert '<a href="http://127.0.0.1:8000/confirm/abc?x=1&amp;y=2"' in page
    assert "Willkommen in Zürich" in inbox.web.get("/").text


def test_what_a_mail_brings_along_is_never_run(inbox: Inbox) -> None:
    inbox.send(NASTY, NASTY, html=NASTY)
    mail = newest(inbox, NASTY)
    for path in ("/", f"/messages/{mail['id']}"):
        answer = inbox.web.get(path)
        assert "<script" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<iframe sandbox " in inbox.web.get(f"/messages/{mail['id']}").text
    frame = inbox.web.get(f"/messages/{mail['id']}/html")
    assert frame.headers["content-security-policy"].startswith("sandbox;")


def test_a_foreign_host_name_reads_nothing(inbox: Inbox) -> None:
    assert inbox.web.get("/messages.json", headers={"Host": "rebound.example:80"}).status_code == 421


@pytest.mark.parametrize(
    "path", ["/messages/..%2f..%2fsecrets.env", "/messages/../secrets.env.eml", "/messages/1.eml", "/nothing"]
)
def test_only_messages_can_be_asked_for(inbox: Inbox, path: str) -> None:
    assert inbox.web.get(path).status_code == 404


def test_the_page_is_only_read(inbox: Inbox) -> None:
    assert inbox.web.post("/messages.json").status_code == 405


def test_a_huge_mail_is_refused_and_the_next_one_taken(inbox: Inbox) -> None:
    with pytest.raises((SMTPDataError, SMTPSenderRefused)):
        inbox.send("huge", "x" * (6 * 1024 * 1024))
    inbox.send("after the huge one")
    assert newest(inbox, "after the huge one")


def test_a_client_that_hangs_up_leaves_no_half_mail(inbox: Inbox) -> None:
    before = len(inbox.web.get("/messages.json").json())
    with socket.create_connection(("127.0.0.1", inbox.smtp_port)) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nSubject: half\r\n\r\nhal")
        time.sleep(0.2)
    assert len(inbox.web.get("/messages.json").json()) == before


def test_the_oldest_mails_make_room(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for n in range(KEPT + 3):
        box.store(f"Subject: {n}\r\n\r\n".encode())
    assert len(box.ids()) == KEPT

"""An inbox for the mail that a development installation sends: an SMTP sink and a page to read it.

Every message is one `.eml` file. The page shows HTML only inside a sandboxed frame without scripts, forms or network, and everything
else escaped; it answers loopback host names only. `python -m config.stack.inbox --smtp-port N --http-port N --folder PATH`
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import time
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
from aiosmtpd.smtp import SMTP

KEPT: Final = 500
LARGEST_BYTES: Final = 5 * 1024 * 1024
_ID: Final = re.compile(r"[0-9]{13}-[0-9a-f]{8}")
_LINK: Final = re.compile(r"https?://[^\s<>\"']+")
_PAGE_POLICY: Final = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FRAME_POLICY: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #8884 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 1rem; border: 1px solid #8884; border-radius: .5rem }
iframe { width: 100%; height: 32rem; border: 1px solid #8884; border-radius: .5rem; background: #fff } .faint { opacity: .7 }
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """One stored message, read."""

    id: str
    message: EmailMessage

    @property
    def received_ms(self) -> int:
        return int(self.id.partition("-")[0])

    def header(self, name: str) -> str:
        return str(self.message.get(name, ""))

    def part(self, subtype: str) -> str:
        body = self.message.get_body(preferencelist=(subtype,))
        if body is None:
            return ""
        try:
            return str(body.get_content())
        except (LookupError, UnicodeError):  # an unknown charset: show what can be shown
            payload = body.get_payload(decode=True)
            return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""

    def summary(self) -> dict[str, Any]:
        heads = {name.lower(): self.header(name) for name in ("From", "To", "Subject")}
        return {"id": self.id, "received_ms": self.received_ms, **heads}

    def whole(self) -> dict[str, Any]:
        text, html = self.part("plain"), self.part("html")
        return {**self.summary(), "text": text, "html": html, "links": _LINK.findall(text or html)}


@dataclass
class Box:
    """The folder of messages, newest first; the oldest go when there are more than `KEPT`."""

    folder: Path

    def store(self, raw: bytes) -> str:
        mail_id = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"
        fresh = self.folder / f"{mail_id}.new"
        fresh.write_bytes(raw)
        fresh.rename(self.folder / f"{mail_id}.eml")
        for old in self.ids()[KEPT:]:
            (self.folder / f"{old}.eml").unlink(missing_ok=True)
        return mail_id

    def ids(self) -> list[str]:
        return sorted((path.stem for path in self.folder.glob("*.eml")), reverse=True)

    def raw(self, mail_id: str) -> bytes | None:
        if not _ID.fullmatch(mail_id):
            return None
        path = self.folder / f"{mail_id}.eml"
        return path.read_bytes() if path.exists() else None

    def read(self, mail_id: str) -> Mail | None:
        raw = self.raw(mail_id)
        return None if raw is None else Mail(mail_id, message_from_bytes(raw, policy=modern))

    def all(self) -> list[Mail]:
        return [mail for mail_id in self.ids() if (mail := self.read(mail_id))]


class Sink:
    """aiosmtpd's handler: takes every message and stores it."""

    def __init__(self, box: Box) -> None:
        self.box = box

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail_id = await asyncio.to_thread(self.box.store, bytes(envelope.original_content))
        return f"250 stored as {mail_id}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    body: bytes
    policy: str = _PAGE_POLICY


def page(title: str, body: str, *, refresh: bool = False) -> Answer:
    again = '<meta http-equiv="refresh" content="3">' if refresh else ""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/style.css"></head>'
        f"<body><main>{body}</main></body></html>"
    )
    return Answer(200, "text/html; charset=utf-8", html.encode())


def as_json(value: Any) -> Answer:
    return Answer(200, "application/json", orjson.dumps(value))


NOT_FOUND: Final = Answer(404, "text/plain; charset=utf-8", b"No such message.\n")


def listing(box: Box) -> Answer:
    rows = "".join(
        f'<tr><td><a href="/messages/{mail.id}">{escape(mail.header("Subject") or "(no subject)")}</a></td>'
        f"<td>{escape(mail.header('To'))}</td><td>{_clock(mail.received_ms)}</td></tr>"
        for mail in box.all()
    )
    table = f"<table><thead><tr><th>Subject</th><th>To</th><th>Received (UTC)</th></tr></thead><tbody>{rows}</tbody></table>"
    empty = '<p class="faint">No mail yet. This page looks again every three seconds.</p>'
    return page(
        "Inbox",
        f"<h1>Inbox</h1><p class=faint>Mail of this installation stays here.</p>{table if rows else empty}",
        refresh=True,
    )


def one(mail: Mail) -> Answer:
    text = mail.part("plain")
    linked = _linked(text)
    frame = (
        f'<h2>As HTML</h2><iframe sandbox title="HTML of the message" src="/messages/{mail.id}/html"></iframe>'
        if mail.part("html")
        else ""
    )
    heads = "".join(f"<tr><th>{name}</th><td>{escape(mail.header(name))}</td></tr>" for name in ("From", "To", "Date"))
    return page(
        mail.header("Subject") or "(no subject)",
        f'<p><a href="/">Inbox</a></p><h1>{escape(mail.header("Subject"))}</h1><table>{heads}</table><pre>{linked}</pre>{frame}',
    )


def answer(box: Box, path: str) -> Answer:
    """The answer to a GET: a pure routing table over the folder."""
    words = path.strip("/").split("/")
    match words:
        case [""]:
            return listing(box)
        case ["style.css"]:
            return Answer(200, "text/css; charset=utf-8", _STYLE.encode())
        case ["healthz"]:
            return Answer(200, "text/plain; charset=utf-8", b"ok\n")
        case ["messages.json"]:
            return as_json([mail.summary() for mail in box.all()])
        case ["messages", name] if name.endswith(".json"):
            mail = box.read(name.removesuffix(".json"))
            return as_json(mail.whole()) if mail else NOT_FOUND
        case ["messages", name] if name.endswith(".eml"):
            raw = box.raw(name.removesuffix(".eml"))
            return Answer(200, "text/plain; charset=utf-8", raw) if raw is not None else NOT_FOUND
        case ["messages", name]:
            mail = box.read(name)
            return one(mail) if mail else NOT_FOUND
        case ["messages", name, "html"]:
            mail = box.read(name)
            return (
                Answer(200, "text/html; charset=utf-8", mail.part("html").encode(), _FRAME_POLICY)
                if mail
                else NOT_FOUND
            )
        case _:
            return NOT_FOUND


class Application:
    """The ASGI application around `answer`."""

    def __init__(self, box: Box) -> None:
        self.box = box

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        found = await asyncio.to_thread(self._answer, scope)
        headers = [
            (b"content-type", found.kind.encode()),
            (b"content-length", str(len(found.body)).encode()),
            (b"content-security-policy", found.policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found.body})

    def _answer(self, scope: dict[str, Any]) -> Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return Answer(405, "text/plain; charset=utf-8", b"This page is only read.\n")
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):  # a foreign name that resolves here must not read our mail
            return Answer(421, "text/plain; charset=utf-8", b"Ask for 127.0.0.1.\n")
        return answer(self.box, scope["path"])


def _linked(text: str) -> str:
    """Escaped text whose addresses can be clicked."""
    parts, end = [], 0
    for match in _LINK.finditer(text):
        address = escape(match.group())
        parts += [escape(text[end : match.start()]), f'<a href="{address}" rel="noreferrer">{address}</a>']
        end = match.end()
    return "".join([*parts, escape(text[end:])])


def _clock(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000))


async def serve(*, folder: Path, smtp_port: int, http_port: int, host: str = "127.0.0.1") -> None:
    box = Box(folder)
    loop = asyncio.get_running_loop()
    sink = await loop.create_server(
        lambda: SMTP(
            Sink(box), data_size_limit=LARGEST_BYTES, enable_SMTPUTF8=True, hostname="inbox.localhost", loop=loop
        ),
        host,
        smtp_port,
    )
    config = uvicorn.Config(
        Application(box),
        host=host,
        port=http_port,
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    async with sink:
        await uvicorn.Server(config).serve()


def main() -> None:
    arguments = argparse.ArgumentParser(prog="config.stack.inbox")
    arguments.add_argument("--smtp-port", type=int, required=True)
    arguments.add_argument("--http-port", type=int, required=True)
    arguments.add_argument("--folder", type=Path, required=True)
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(folder=options.folder, smtp_port=options.smtp_port, http_port=options.http_port))


if __name__ == "__main__":
    main()

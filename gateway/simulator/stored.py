"""What the simulator keeps, in memory and bounded: files, batches of both kinds, stored and background responses.

A batch is worked off the first time that it is asked about: every line is answered as the call that it is, at half the price, each on the invoice.
A background response is done the second time that it is asked about.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from gateway.simulator import anthropic, embeddings, openai_ask, responses
from gateway.simulator.dialect import Dialect, Reading, Refused, body_object
from gateway.simulator.generate import Ask, generate
from gateway.simulator.http import Exchange, Request
from gateway.simulator.invoice import Book
from gateway.simulator.media import form_of
from gateway.simulator.openai import OpenAI

MOST = 2_000
MAX_FILE_BYTES = 32 << 20
_ID = re.compile(
    r"/v1/(responses|files|batches|messages/batches)/([A-Za-z0-9_-]+)(/content|/cancel|/results|/input_items)?"
)


@dataclass(slots=True)
class Shelf:
    """Things by id; the oldest make room."""

    things: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict)
    contents: dict[str, bytes] = field(default_factory=dict)
    made: int = 0

    def put(self, prefix: str, thing: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
        self.made += 1
        name = str(thing.get("id") or f"{prefix}-sim{time.time_ns():x}{self.made:x}")
        self.things[name] = thing = {"id": name, **{k: v for k, v in thing.items() if k != "id"}}
        self.contents[name] = content
        if len(self.things) > MOST:
            old, _ = self.things.popitem(last=False)
            self.contents.pop(old, None)
        return thing

    def get(self, name: str) -> dict[str, Any]:
        if name not in self.things:
            raise Refused(404, f"No such thing: {name}.", code="not_found")
        return self.things[name]


class Stored:
    def __init__(self, book: Book) -> None:
        self._book = book
        self.shelf = Shelf()

    def answer(self, path: str, request: Request, exchange: Exchange) -> bool:
        """Answers a path of something that is kept; False where the path is none."""
        method = request.method
        if (method, path) == ("POST", "/v1/files"):
            shown = self._file(request)
        elif (method, path) == ("POST", "/v1/batches"):
            shown = self._batch(body_object(request.body))
        elif (method, path) == ("POST", "/v1/messages/batches"):
            shown = self._message_batch(body_object(request.body))
        else:
            parsed = _ID.fullmatch(path)
            if parsed is None or parsed[2] in ("input_tokens", "compact"):
                return False
            content = self._one(method, parsed[1], parsed[2], parsed[3] or "")
            if isinstance(content, bytes):
                exchange.respond(
                    200, content, "application/octet-stream" if parsed[1] == "files" else "application/x-jsonl"
                )
                return True
            shown = content
        exchange.respond(200, msgspec.json.encode({k: v for k, v in shown.items() if not k.startswith("_")}))
        return True

    def keep_response(self, body: dict[str, Any]) -> None:
        self.shelf.put("resp", body)

    def _one(self, method: str, kind: str, name: str, action: str) -> dict[str, Any] | bytes:
        thing = self.shelf.get(name)
        if method == "DELETE" and not action:
            del self.shelf.things[name]
            return {
                "id": name,
                "object": thing.get("object", "thing"),
                "deleted": True,
                "type": "message_batch_deleted",
            }
        if action == "/input_items":
            return {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
        if action in ("/content", "/results"):
            if kind == "messages/batches":
                self._work_off_messages(thing)
            return self.shelf.contents.get(str(thing.get("_results") or name), b"")
        if kind == "responses":
            return self._progress(thing, cancel=action == "/cancel")
        if kind == "batches" and method == "GET":
            self._work_off(thing)
        elif kind == "messages/batches" and method == "GET":
            self._work_off_messages(thing)
        elif action == "/cancel":
            thing["status" if kind == "batches" else "processing_status"] = (
                "cancelled" if kind == "batches" else "ended"
            )
        return thing

    def _progress(self, thing: dict[str, Any], *, cancel: bool) -> dict[str, Any]:
        later = thing.get("_later")
        if later is None or thing["status"] not in ("queued", "in_progress"):
            return thing
        if cancel:
            thing |= {"status": "cancelled"}
        elif thing["status"] == "queued":
            thing["status"] = "in_progress"
        else:
            thing |= later()
        return thing

    # --- Files and batches --------------------------------------------------------------------------------------------

    def _file(self, request: Request) -> dict[str, Any]:
        given = form_of(request.header("content-type"), request.body)
        content = given.get("file")
        if not isinstance(content, bytes) or len(content) > MAX_FILE_BYTES:
            raise Refused(400, "'file' must be a file of at most 32 MB.", param="file")
        about = {"object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": "upload"}
        return self.shelf.put("file", {**about, "purpose": given.get("purpose"), "status": "processed"}, content)

    def _batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.shelf.get(str(body.get("input_file_id")))
        now = int(time.time())
        return self.shelf.put(
            "batch",
            {
                "object": "batch", "endpoint": body.get("endpoint"), "input_file_id": body.get("input_file_id"),
                "completion_window": body.get("completion_window") or "24h", "status": "in_progress", "created_at": now,
                "output_file_id": None, "error_file_id": None, "metadata": body.get("metadata"),
                "request_counts": {"total": 0, "completed": 0, "failed": 0},
            },
        )  # fmt: skip

    def _work_off(self, batch: dict[str, Any]) -> None:
        if batch["status"] != "in_progress":
            return
        lines, failed = [], []
        for line in self.shelf.contents[batch["input_file_id"]].splitlines():
            asked = msgspec.json.decode(line)
            try:
                answer = {
                    "status_code": 200,
                    "request_id": "",
                    "body": self._answered(batch["endpoint"], asked["body"]),
                }
                lines.append({"id": "line", "custom_id": asked["custom_id"], "response": answer, "error": None})
            except Refused as refused:
                answer = {"status_code": refused.status, "request_id": "", "body": OpenAI().error(refused)}
                failed.append({"id": "line", "custom_id": asked["custom_id"], "response": answer, "error": None})
        for name, rows in (("output_file_id", lines), ("error_file_id", failed)):
            if rows:
                made = self.shelf.put(
                    "file", {"object": "file", "purpose": "batch_output", "status": "processed"}, _jsonl(rows)
                )
                batch[name] = made["id"]
        counts = {"total": len(lines) + len(failed), "completed": len(lines), "failed": len(failed)}
        batch |= {"status": "completed", "request_counts": counts}

    def _message_batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        requests = body.get("requests")
        if not isinstance(requests, list) or not requests:
            raise Refused(400, "requests: Field required")
        thing = self.shelf.put(
            "msgbatch",
            {
                "type": "message_batch", "processing_status": "in_progress", "created_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-01-02T00:00:00Z", "ended_at": None, "results_url": None, "cancel_initiated_at": None,
                "archived_at": None, "_requests": requests,
                "request_counts": {"processing": len(requests), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
            },
        )  # fmt: skip
        thing["id"] = thing["id"].replace("-", "_")
        self.shelf.things[thing["id"]] = thing
        return thing

    def _work_off_messages(self, batch: dict[str, Any]) -> None:
        if batch["processing_status"] != "in_progress":
            return
        rows = []
        for asked in batch["_requests"]:
            try:
                message = self._message(asked["params"])
                rows.append({"custom_id": asked["custom_id"], "result": {"type": "succeeded", "message": message}})
            except Refused as refused:
                error = anthropic.Anthropic().error(refused)
                rows.append({"custom_id": asked["custom_id"], "result": {"type": "errored", "error": error}})
        done = sum(1 for row in rows if row["result"]["type"] == "succeeded")
        counts = {"processing": 0, "succeeded": done, "errored": len(rows) - done, "canceled": 0, "expired": 0}
        self.shelf.contents[batch["id"]] = _jsonl(rows)
        address = f"https://api.example/v1/messages/batches/{batch['id']}/results"
        batch |= {
            "processing_status": "ended",
            "ended_at": "2026-01-01T01:00:00Z",
            "results_url": address,
            "request_counts": counts,
        }

    # --- Answers at half the price ------------------------------------------------------------------------------------

    def _answered(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raw = msgspec.json.encode({**body, "stream": False})
        if url == "/v1/chat/completions":
            return self._whole(OpenAI(), openai_ask.read(raw, Reading()))
        if url == "/v1/responses":
            return self._whole(responses.Responses(), responses.read(raw, Reading()))
        if url == "/v1/embeddings":
            model, script, texts, asked, counted = embeddings.read(raw, Reading())
            bill = self._book.open(
                attempt=None, model=_half(model), script=script.name, input_tokens=counted, cached_tokens=0
            )
            bill.record(0, final=True)
            return embeddings.answer(model, texts, asked, counted)
        raise Refused(400, f"Batches of {url} are not simulated.")

    def _message(self, params: Mapping[str, Any]) -> dict[str, Any]:
        made = self._whole(
            anthropic.Anthropic(), anthropic.read(msgspec.json.encode({**params, "stream": False}), Reading())
        )
        return {**made, "usage": {**made["usage"], "service_tier": "batch"}}

    def _whole(self, dialect: Dialect, ask: Ask) -> dict[str, Any]:
        if ask.script.status >= 400:
            raise Refused(ask.script.status, "The server had an error while processing your request.")
        reply = generate(ask, 0)
        bill = self._book.open(
            attempt=ask.attempt,
            model=_half(ask.model),
            script=ask.script.name,
            input_tokens=reply.input_tokens,
            cached_tokens=0,
        )
        bill.record(reply.output_tokens, final=True)
        return dialect.whole(ask, reply, "chatcmpl-" + bill.invoice, int(time.time()))


def background(book: Book, ask: Ask, dialect: Dialect) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """A response that is only begun, and what makes it whole."""
    reply = generate(ask, 0)
    bill = book.open(
        attempt=ask.attempt, model=ask.model, script=ask.script.name, input_tokens=reply.input_tokens, cached_tokens=0
    )
    whole = dialect.whole(ask, reply, "chatcmpl-" + bill.invoice, int(time.time()))

    def later() -> dict[str, Any]:
        bill.record(reply.output_tokens, final=True)
        return whole

    return {**whole, "status": "queued", "output": [], "usage": None}, later


def _half(model: Any) -> Any:
    rates = {name: getattr(model, name) // 2 for name in ("input_rate", "cached_rate", "output_rate")}
    return replace(model, **rates)


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

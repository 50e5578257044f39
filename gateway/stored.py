"""What providers keep: responses, files and batches, asked for by id. Free by itself, and only for the workspace that made it (SECURITY.md S38, S71).

Lists are our own: a provider's would show what other workspaces keep under the same account. Whoever reads an answer that is still owed
for hands it to `gateway.afterwards`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson

from gateway import batches, edge, multipart, uploads
from gateway.answers import identity, send_whole
from gateway.bodies import check_betas
from gateway.edge import Receive, Request, Scope, Send
from gateway.errors import BadRequest, GatewayError, ProviderBadResponse, ProviderTimeout, UnknownModel
from gateway.forward import unanswered
from gateway.keeping import KeptThing, usable
from gateway.models import KeptKind
from gateway.provider_errors import refusal, safe_headers
from gateway.providers.registry import PROVIDERS
from gateway.routing import Route
from gateway.runtime import Runtime
from gateway.upstream import Answer, UpstreamFailure
from guardrails.policy import Grant

KEEPERS = ("openai", "simulator", "openai_compatible", "groq", "azure")
"""Who offers OpenAI's files and batches, in the order of preference; a workspace's first that it has a credential for is asked."""
MESSAGE_KEEPERS = ("anthropic", "simulator")
BUCKET_BATCHES = ("bedrock", "vertex")
"""Their batches are jobs over object storage (docs/adr/0021)."""
PURPOSES = frozenset({"batch", "user_data", "vision"})
MAX_OBJECT_BYTES = 64 * 1024 * 1024
MAX_PAGE = 100
ID = r"([A-Za-z0-9_-]{1,128})"
_QUERY = re.compile(rb"[A-Za-z0-9_.=&%\[\]-]{0,1000}")
_BODY_TYPES = (
    b"application/json",
    b"application/jsonl",
    b"application/x-jsonl",
    b"text/plain",
    b"text/event-stream",
    b"application/binary",
)
_OCTETS = b"application/octet-stream"


@dataclass(slots=True)
class Asked:
    """One request for something that is kept."""

    runtime: Runtime
    scope: Scope
    receive: Receive
    send: Send
    request: Request
    grant: Grant
    object_id: str = ""

    @property
    def query(self) -> str:
        raw: bytes = self.scope["query_string"]
        if not _QUERY.fullmatch(raw):
            raise BadRequest("The query has characters that no parameter needs.", code="invalid_query")
        return "?" + raw.decode() if raw else ""

    async def thing(self, kind: KeptKind) -> KeptThing:
        found = await self.runtime.keeper.find(self.grant.policy, kind, self.object_id)
        if found is None or usable(self.grant.policy, found) is None or not self.may_use(found):
            raise NotKept(
                f"No {kind.label.lower()} with id '{self.object_id[:80]}' was made through this workspace.", param="id"
            )
        return found

    def may_use(self, thing: KeptThing) -> bool:
        """A key that is bound to some of a provider's credentials reaches what those keep."""
        only = self.grant.key.credentials.get(thing.provider)
        return not only or thing.credential_id in only

    def route(self, thing: KeptThing) -> Route:
        credential = usable(self.grant.policy, thing)
        if credential is None:
            raise NotKept(f"The credential that made {thing.object_id} is gone.", param="id")
        return Route(PROVIDERS[thing.provider], credential, "", None)

    def first_route(self, providers: tuple[str, ...]) -> Route:
        """Where something new is made that names no model."""
        environment = self.grant.key.pins.get("environment", "")
        for name in providers:
            tiers = self.grant.policy.tiers(name, environment, self.grant.key.credentials.get(name))
            if tiers:
                return Route(PROVIDERS[name], tiers[0][0], "", None)
        clouds = [name for name in BUCKET_BATCHES if self.grant.policy.credentials.get(name)]
        if clouds and self.request.path.endswith(("/batches", "/files")):
            raise UnknownModel(
                f"Batches at {' and '.join(clouds)} read and write storage buckets of yours, and do not pass through here.",
                code="batches_not_offered",
                hint=f"Batches are offered at {', '.join(providers)}: an administrator can add a credential for one under Providers. "
                "Or send the calls one by one; a budget's throttle paces them (docs/adr/0021).",
            )
        raise UnknownModel(
            f"The workspace has no credential for a provider that offers {self.request.path}.",
            code="provider_not_configured",
            hint="An administrator can add one under Providers.",
        )

    async def reach(
        self, route: Route, method: str, path: str, body: bytes = b"", content_type: bytes = b""
    ) -> tuple[Answer, str]:
        secret = await self.runtime.gate.policies.secret(self.grant.policy, route.credential)
        extra = [(b"content-type", content_type)] if content_type else []
        if route.provider.name == "anthropic" or self.request.path.startswith("/anthropic"):
            extra += [(name, value) for name, value in self.request.forwarded if name == b"anthropic-beta"]
        return await self.runtime.forwarder.reach(route, method, path, secret, body, extra), secret

    async def object(
        self, route: Route, method: str, path: str, body: bytes = b"", content_type: bytes = b""
    ) -> dict[str, Any]:
        """Asks for one JSON object. Raises what the provider refuses with."""
        answer, secret = await self.reach(route, method, path, body, content_type)
        name = route.provider.name
        async with answer:
            try:
                if not 200 <= answer.status < 300:
                    raise await refusal(answer, name, secret)
                shown = orjson.loads(await answer.read(MAX_OBJECT_BYTES))
            except UpstreamFailure as failure:
                raise unanswered(failure, name) from failure
            except orjson.JSONDecodeError:
                shown = None
        if type(shown) is not dict:
            raise ProviderBadResponse(f"{name} answered with something that is not an answer of its API.")
        return shown

    async def tell(self, shown: dict[str, Any]) -> None:
        headers = [(b"content-type", b"application/json"), *identity(self.request.call_id)]
        await send_whole(self.send, 200, headers, orjson.dumps(shown))

    async def pass_on(self, route: Route, path: str) -> None:
        """Bytes as they come, of whatever length."""
        answer, secret = await self.reach(route, "GET", path)
        async with answer:
            if answer.status != 200:
                raise await refusal(answer, route.provider.name, secret)
            kind = answer.get(b"content-type") or _OCTETS
            kind = kind if kind.lower().startswith(_BODY_TYPES) else _OCTETS
            headers = [(b"content-type", kind), *identity(self.request.call_id), *safe_headers(answer)]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                while chunk := await answer.chunk():
                    await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
            except UpstreamFailure as failure:
                raise unanswered(failure, route.provider.name) from failure
            await self.send({"type": "http.response.body", "body": b""})


class NotKept(GatewayError):
    """The same for what another workspace made and for what nobody made (SECURITY.md S38)."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    hint = "Ids are known to the workspace whose key made them, as long as the provider keeps them."
    retry = False


Handler = Callable[[Asked], Awaitable[None]]


# --- Responses --------------------------------------------------------------------------------------------------------


async def _response(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.RESPONSE)
    path = f"/responses/{thing.object_id}{asked.query}"
    if parse_qs(asked.query[1:]).get("stream") == ["true"]:
        await asked.pass_on(asked.route(thing), path)
        return
    shown = await asked.object(asked.route(thing), "GET", path)
    asked.runtime.afterwards.seen(asked.grant.policy, thing, shown)
    await asked.tell(shown)


async def _cancel_response(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.RESPONSE)
    shown = await asked.object(asked.route(thing), "POST", f"/responses/{thing.object_id}/cancel")
    asked.runtime.afterwards.seen(asked.grant.policy, thing, shown)
    await asked.tell(shown)


async def _delete_response(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.RESPONSE)
    _refuse_owed(thing)
    shown = await asked.object(asked.route(thing), "DELETE", f"/responses/{thing.object_id}")
    await asked.runtime.keeper.forget(asked.grant.policy, thing)
    await asked.tell(shown)


async def _input_items(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.RESPONSE)
    await asked.tell(
        await asked.object(asked.route(thing), "GET", f"/responses/{thing.object_id}/input_items{asked.query}")
    )


# --- Files ------------------------------------------------------------------------------------------------------------


async def _upload(asked: Asked) -> None:
    room = asked.runtime.uploads
    with room.for_one(asked.scope):
        body = await uploads.read(asked.request, asked.scope, asked.receive, largest=room.largest, room=room)
        boundary = multipart.boundary_of(asked.request.content_type) or b""
        try:
            form = multipart.parse(body, boundary)
        except multipart.BadForm as error:
            text = str(error)
            raise BadRequest(text[:1].upper() + text[1:] + ".", param=error.param, code="invalid_form") from None
        purpose = form.texts.get("purpose")
        if purpose not in PURPOSES:
            raise BadRequest(
                f"'purpose' must be one of {', '.join(sorted(PURPOSES))}.", param="purpose", code="invalid_purpose",
                hint="Files for fine-tuning and assistants are not offered: what is done with them cannot be bounded.",
            )  # fmt: skip
        if [part.name for part in form.files] != ["file"]:
            raise BadRequest("A form must have one file, named 'file'.", param="file", code="invalid_file")
        route = asked.first_route(KEEPERS)
        shown = await asked.object(route, "POST", "/files", body, asked.request.content_type)
    await asked.runtime.keeper.keep(asked.grant.policy, new_thing(asked.grant, KeptKind.FILE, route, shown))
    await asked.tell(shown)


async def _file(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.FILE)
    shown = await asked.object(asked.route(thing), "GET", f"/files/{thing.object_id}")
    await asked.tell(shown)


async def _delete_file(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.FILE)
    parent = thing.facts.get("batch")
    if type(parent) is str:
        batch = await asked.runtime.keeper.find(asked.grant.policy, KeptKind.BATCH, parent)
        if batch is not None:
            _refuse_owed(batch)
    shown = await asked.object(asked.route(thing), "DELETE", f"/files/{thing.object_id}")
    await asked.runtime.keeper.forget(asked.grant.policy, thing)
    await asked.tell(shown)


async def _content(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.FILE)
    await asked.pass_on(asked.route(thing), f"/files/{thing.object_id}/content")


# --- Batches ----------------------------------------------------------------------------------------------------------


async def _create_batch(asked: Asked) -> None:
    edge.check_media_type(asked.scope)
    body = await edge.read_body(asked.request, asked.scope, asked.receive, asked.runtime.max_body_bytes)
    fields = edge.read_object(body)
    asked.object_id = str(fields.get("input_file_id", ""))
    if asked.object_id == "" or type(fields.get("endpoint")) is not str:
        raise BadRequest("A batch needs an input_file_id and an endpoint.", param="input_file_id", code="invalid_batch")
    file = await asked.thing(KeptKind.FILE)
    route = asked.route(file)
    answer, secret = await asked.reach(route, "GET", f"/files/{file.object_id}/content")
    async with answer:
        if answer.status != 200:
            raise await refusal(answer, route.provider.name, secret)
        try:
            lines = await answer.read(asked.runtime.uploads.largest)
        except UpstreamFailure as failure:
            raise unanswered(failure, route.provider.name) from failure
    work = await batches.read_lines(lines, fields["endpoint"])
    await _make_batch(asked, route, KeptKind.BATCH, work, "/batches", body, fields)


async def _create_message_batch(asked: Asked) -> None:
    edge.check_media_type(asked.scope)
    body = await edge.read_body(asked.request, asked.scope, asked.receive, asked.runtime.max_body_bytes)
    fields = edge.read_object(body)
    check_betas(asked.request)
    from_messages = batches.read_requests(fields)
    await _make_batch(
        asked,
        asked.first_route(MESSAGE_KEEPERS),
        KeptKind.MESSAGE_BATCH,
        from_messages,
        "/messages/batches",
        body,
        fields,
    )


async def _make_batch(
    asked: Asked, route: Route, kind: KeptKind, work: batches.Work, path: str, body: bytes, fields: dict[str, Any]
) -> None:
    """Holds the worst case of every line, then asks for the batch."""
    held = await batches.admit(asked.runtime, asked.request, asked.grant, route, work, fields)
    try:
        shown = await asked.object(route, "POST", path, body, b"application/json")
    except (ProviderTimeout, ProviderBadResponse):  # it may have been made: the hold stays until its lease ends
        held.entrust()
        raise
    except GatewayError:
        held.void()
        raise
    thing = new_thing(asked.grant, kind, route, shown, state="open", facts=held.facts, look_at=datetime.now(UTC))
    held.entrust()
    await asked.runtime.keeper.keep(asked.grant.policy, thing)
    await asked.tell(_addressed(shown))


async def _show_batch(asked: Asked, kind: KeptKind, action: str = "") -> None:
    thing = await asked.thing(kind)
    path = f"{'/batches' if kind is KeptKind.BATCH else '/messages/batches'}/{thing.object_id}{action}"
    shown = await asked.object(asked.route(thing), "POST" if action else "GET", path)
    await _noted(asked, thing, shown)
    await asked.tell(_addressed(shown))


async def _noted(asked: Asked, thing: KeptThing, shown: dict[str, Any]) -> None:
    """What a batch says of itself: its results become files of this workspace, and what it cost is booked when it has ended."""
    policy = asked.grant.policy
    if thing.kind == KeptKind.BATCH:
        named = [shown[name] for name in ("output_file_id", "error_file_id") if type(shown.get(name)) is str]
        await asked.runtime.keeper.keep(
            policy,
            *(
                KeptThing(policy.workspace_id, KeptKind.FILE.value, name[:200], thing.credential_id, thing.provider,
                          facts={"batch": thing.object_id, "shown": {"id": name, "object": "file", "purpose": "batch_output"}})
                for name in named
            ),
        )  # fmt: skip
    await asked.runtime.keeper.show(policy, thing, shown)
    asked.runtime.afterwards.seen(policy, thing, shown)


async def _batch(asked: Asked) -> None:
    await _show_batch(asked, KeptKind.BATCH)


async def _cancel_batch(asked: Asked) -> None:
    await _show_batch(asked, KeptKind.BATCH, "/cancel")


async def _message_batch(asked: Asked) -> None:
    await _show_batch(asked, KeptKind.MESSAGE_BATCH)


async def _cancel_message_batch(asked: Asked) -> None:
    await _show_batch(asked, KeptKind.MESSAGE_BATCH, "/cancel")


async def _delete_message_batch(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.MESSAGE_BATCH)
    _refuse_owed(thing)
    shown = await asked.object(asked.route(thing), "DELETE", f"/messages/batches/{thing.object_id}")
    await asked.runtime.keeper.forget(asked.grant.policy, thing)
    await asked.tell(shown)


async def _message_results(asked: Asked) -> None:
    thing = await asked.thing(KeptKind.MESSAGE_BATCH)
    asked.runtime.afterwards.seen(asked.grant.policy, thing, {"processing_status": "ended", "results_url": "here"})
    await asked.pass_on(asked.route(thing), f"/messages/batches/{thing.object_id}/results")


# --- Lists ------------------------------------------------------------------------------------------------------------


async def _list(asked: Asked, kind: KeptKind) -> None:
    query = {name: values[0] for name, values in parse_qs(asked.query[1:]).items()}
    after = query.get("after", query.get("after_id", ""))
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 10_000:
        raise BadRequest("'limit' must be a whole number of at least 1.", param="limit", code="invalid_value")
    most = min(int(limit), MAX_PAGE)
    found = await asked.runtime.keeper.page(asked.grant.policy, kind, after, most)
    page, more = found[:most], len(found) > most
    page = [thing for thing in page if asked.may_use(thing)]
    shown = [await _now(asked, thing) for thing in page]
    if "purpose" in query:
        shown = [one for one in shown if one.get("purpose") == query["purpose"]]
    ends = {"first_id": page[0].object_id if page else None, "last_id": page[-1].object_id if page else None}
    listed: dict[str, Any] = {"data": [_addressed(one) for one in shown], "has_more": more, **ends}
    await asked.tell({"object": "list", **listed} if kind is not KeptKind.MESSAGE_BATCH else listed)


async def _now(asked: Asked, thing: KeptThing) -> dict[str, Any]:
    """As the provider last showed it; a batch that has not ended is asked about again."""
    shown: dict[str, Any] = thing.facts.get("shown") or {"id": thing.object_id}
    if thing.state == "free" or usable(asked.grant.policy, thing) is None:
        return shown
    path = f"{'/batches' if thing.kind == KeptKind.BATCH else '/messages/batches'}/{thing.object_id}"
    shown = await asked.object(asked.route(thing), "GET", path)
    await _noted(asked, thing, shown)
    return shown


async def _list_files(asked: Asked) -> None:
    await _list(asked, KeptKind.FILE)


async def _list_batches(asked: Asked) -> None:
    await _list(asked, KeptKind.BATCH)


async def _list_message_batches(asked: Asked) -> None:
    await _list(asked, KeptKind.MESSAGE_BATCH)


# --- What they share --------------------------------------------------------------------------------------------------


def new_thing(
    grant: Grant,
    kind: KeptKind,
    route: Route,
    shown: dict[str, Any],
    *,
    state: str = "free",
    facts: dict[str, Any] | None = None,
    look_at: datetime | None = None,
) -> KeptThing:
    object_id = shown.get("id")
    if type(object_id) is not str or not re.fullmatch(ID, object_id):
        raise ProviderBadResponse(f"{route.provider.name} answered without an id that can be kept.")
    return KeptThing(
        grant.policy.workspace_id, kind.value, object_id, route.credential.id, route.provider.name, state=state,
        facts={**(facts or {}), "shown": shown}, look_at=look_at,
    )  # fmt: skip


def _refuse_owed(thing: KeptThing) -> None:
    if thing.state != "free":
        raise BadRequest(
            f"{thing.object_id} cannot be deleted yet: what it costs is not booked.", param="id", code="not_settled",
            hint="Read it until it has ended, or wait a moment; then delete it.",
        )  # fmt: skip


def _addressed(shown: dict[str, Any]) -> dict[str, Any]:
    """A batch of messages names where its results are: here, not at the provider."""
    if type(shown.get("results_url")) is str:
        return {**shown, "results_url": f"/v1/messages/batches/{shown.get('id')}/results"}
    return shown


BY_PATH: tuple[tuple[str, dict[str, Handler]], ...] = (
    (rf"/v1/responses/(?!input_tokens$|compact$){ID}", {"GET": _response, "DELETE": _delete_response}),
    (rf"/v1/responses/{ID}/cancel", {"POST": _cancel_response}),
    (rf"/v1/responses/{ID}/input_items", {"GET": _input_items}),
    (r"/v1/files", {"POST": _upload, "GET": _list_files}),
    (rf"/v1/files/{ID}", {"GET": _file, "DELETE": _delete_file}),
    (rf"/v1/files/{ID}/content", {"GET": _content}),
    (r"/v1/batches", {"POST": _create_batch, "GET": _list_batches}),
    (rf"/v1/batches/{ID}", {"GET": _batch}),
    (rf"/v1/batches/{ID}/cancel", {"POST": _cancel_batch}),
    (r"/anthropic/v1/messages/batches", {"POST": _create_message_batch, "GET": _list_message_batches}),
    (rf"/anthropic/v1/messages/batches/{ID}", {"GET": _message_batch, "DELETE": _delete_message_batch}),
    (rf"/anthropic/v1/messages/batches/{ID}/cancel", {"POST": _cancel_message_batch}),
    (rf"/anthropic/v1/messages/batches/{ID}/results", {"GET": _message_results}),
)
_ROUTES = tuple((re.compile(pattern, re.ASCII), handlers) for pattern, handlers in BY_PATH)


def find(scope: Scope) -> tuple[dict[str, Handler], str] | None:
    """The handlers of a path by method, and the id in it; None where the path is none of these."""
    path: str = scope["path"]
    if scope["raw_path"] != path.encode():
        return None
    for pattern, handlers in _ROUTES:
        parsed = pattern.fullmatch(path)
        if parsed is not None:
            return handlers, parsed[1] if parsed.re.groups else ""
    return None


async def answer(
    handlers: dict[str, Handler],
    object_id: str,
    runtime: Runtime,
    scope: Scope,
    receive: Receive,
    send: Send,
    call_id: str,
) -> None:
    edge.require_method(scope, *handlers)
    request = edge.read_head(scope, call_id)
    grant = await runtime.gate.policies.recognise(request.secret)
    await handlers[scope["method"]](Asked(runtime, scope, receive, send, request, grant, object_id))

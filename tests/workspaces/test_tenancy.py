"""S41: whatever happens in one workspace, the next user of the thread, the connection or the task sees their own or nothing."""

# ruff: noqa: PT012 - leaving several blocks at once by an error is what is tested here

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import ProgrammingError, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path

from config import urls as real
from tests.cast import Cast
from workspaces import actions, audit, tenancy
from workspaces.audit import Actor
from workspaces.directory.models import Department
from workspaces.models import AuditRecord, Workspace

PUBLIC = "public"


def schema_now() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return str(cursor.fetchone()[0])


def believed() -> str:
    return str(connection.schema_name)


def departments() -> list[str]:
    return list(Department.objects.order_by("name").values_list("name", flat=True))


def add(workspace: Workspace, name: str) -> None:
    actions.add_department(workspace=workspace, by=Actor("test"), name=name)


# --- The door ---------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_inside_a_workspace_queries_see_its_rows_and_no_other(cast: Cast) -> None:
    add(cast.acme, "Acme R&D")
    add(cast.globex, "Globex Sales")
    with tenancy.entered(cast.acme):
        assert departments() == ["Acme R&D"]
    with tenancy.entered(cast.globex):
        assert departments() == ["Globex Sales"]


@pytest.mark.django_db
def test_outside_any_workspace_its_tables_do_not_exist(cast: Cast) -> None:
    with pytest.raises(ProgrammingError), transaction.atomic():
        departments()


@pytest.mark.django_db
def test_entering_another_workspace_from_inside_one_is_refused(cast: Cast) -> None:
    with tenancy.entered(cast.acme):
        with pytest.raises(RuntimeError, match="leave it"), tenancy.entered(cast.globex):
            pass
        with tenancy.entered(cast.acme):
            assert schema_now() == cast.acme.schema_name
        assert schema_now() == cast.acme.schema_name
    assert schema_now() == PUBLIC


@pytest.mark.django_db
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, SystemExit])
def test_every_way_out_leaves(cast: Cast, error: type[BaseException]) -> None:
    with pytest.raises(error), tenancy.entered(cast.acme):
        assert schema_now() == cast.acme.schema_name
        raise error
    assert (schema_now(), believed()) == (PUBLIC, PUBLIC)


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_takes_no_schema_along(committed_cast: Cast) -> None:
    acme, globex = committed_cast.acme, committed_cast.globex
    with tenancy.entered(acme):
        with pytest.raises(ValueError, match="x"), transaction.atomic():
            Department.objects.create(name="never")
            raise ValueError("x")
        assert schema_now() == acme.schema_name
    with pytest.raises(ValueError, match="x"), transaction.atomic(), tenancy.entered(globex):
        assert schema_now() == globex.schema_name
        raise ValueError("x")
    assert schema_now() == PUBLIC
    with tenancy.entered(acme):
        assert departments() == []


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_database_inside_a_transaction_does_not_move_the_next_one(committed_cast: Cast) -> None:
    acme, globex = committed_cast.acme, committed_cast.globex
    with pytest.raises(ProgrammingError), tenancy.entered(acme), transaction.atomic():
        Department.objects.create(name="never")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")
    with tenancy.entered(globex):
        assert schema_now() == globex.schema_name
        with transaction.atomic():
            with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT * FROM nowhere")
            assert schema_now() == globex.schema_name


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_goes_back_to_the_pool_inside_a_workspace_serves_the_next_one_its_own_schema(
    committed_cast: Cast,
) -> None:
    """A pool of one: every connection below is the same session of PostgreSQL."""
    acme, globex = committed_cast.acme, committed_cast.globex
    with tenancy.entered(acme):
        assert schema_now() == acme.schema_name
        connection.close()
        assert schema_now() == acme.schema_name, "a new connection inside the block is inside as well"
        connection.close()
    assert schema_now() == PUBLIC
    with tenancy.entered(globex):
        connection.close()
        assert schema_now() == globex.schema_name


@pytest.mark.django_db(transaction=True)
def test_many_threads_on_few_connections_never_meet(committed_cast: Cast) -> None:
    acme, globex = committed_cast.acme, committed_cast.globex
    add(acme, "acme")
    add(globex, "globex")

    def visit(number: int) -> bool:
        workspace, name = ((acme, "acme"), (globex, "globex"))[number % 2]
        try:
            if number % 7 == 0:
                with pytest.raises(ZeroDivisionError), tenancy.entered(workspace):
                    departments()
                    raise ZeroDivisionError
            with tenancy.entered(workspace), transaction.atomic():
                mine = departments() == [name]
            return mine and schema_now() == PUBLIC
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(visit, range(400)))


# --- Row-level security -----------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_shared_table_shows_nothing_to_a_connection_that_entered_nothing(cast: Cast) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM workspaces_auditrecord")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False,), "the tests' role is bound by row-level security, as production's is"


@pytest.mark.django_db
def test_a_workspace_neither_sees_nor_writes_anothers_rows_of_a_shared_table(cast: Cast) -> None:
    with tenancy.entered(cast.acme):
        seen = set(AuditRecord.objects.values_list("workspace_id", flat=True))
        assert seen == {cast.acme.id}
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            AuditRecord.objects.create(
                workspace_id=cast.globex.id, number=999, at="2026-01-01T00:00Z", actor="x", action="x", target="x", previous_hash=b"", hash=b""
            )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_the_door_to_every_workspace_closes_with_its_block(committed_cast: Cast) -> None:
    with tenancy.every_workspace("a test"):
        assert AuditRecord.objects.count() > 2
    assert AuditRecord.objects.count() == 0
    with pytest.raises(ValueError, match="x"), tenancy.every_workspace("a test"):
        raise ValueError("x")
    assert AuditRecord.objects.count() == 0
    with pytest.raises(ValueError, match="say why"), tenancy.every_workspace(""):
        pass


# --- From asynchronous code -------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
async def test_asynchronous_code_reaches_a_workspace_through_run(committed_cast: Cast) -> None:
    acme, globex = committed_cast.acme, committed_cast.globex

    def who(workspace: Workspace, suffix: str) -> str:
        return schema_now() + suffix

    found = await asyncio.gather(*(tenancy.run((acme, globex)[number % 2], who, "!") for number in range(40)))
    assert found == [f"{(acme, globex)[number % 2].schema_name}!" for number in range(40)]


@pytest.mark.django_db(transaction=True)
async def test_a_cancelled_run_leaves_nothing_behind(committed_cast: Cast) -> None:
    entered, go_on, seen = threading.Event(), threading.Event(), []

    def slow(workspace: Workspace) -> None:
        schema_now()
        entered.set()
        go_on.wait(10)
        seen.append(schema_now())

    task = asyncio.create_task(tenancy.run(committed_cast.acme, slow))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    found = [await tenancy.run(committed_cast.globex, lambda workspace: schema_now()) for _ in range(5)]
    assert found == [committed_cast.globex.schema_name] * 5
    assert await sync_to_async(schema_now)() == PUBLIC


# --- The middleware, under ASGI, on a URL map of its own --------------------------------------------------------------
def plain(request: HttpRequest, slug: str) -> HttpResponse:
    return HttpResponse(",".join([schema_now(), *departments()]))


def failing(request: HttpRequest, slug: str) -> HttpResponse:
    departments()
    raise ZeroDivisionError


def outside(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{schema_now()} {request.workspace}")  # type: ignore[attr-defined]


async def asynchronous(request: HttpRequest, slug: str) -> HttpResponse:
    """Outside on purpose; inside through the door."""
    inside = await tenancy.run(request.workspace, lambda workspace: schema_now())  # type: ignore[attr-defined]
    return HttpResponse(inside)


def streaming(request: HttpRequest, slug: str) -> HttpResponseBase:
    def body() -> Iterator[str]:
        for _ in range(3):
            yield f"{schema_now()}:{','.join(departments())};"

    return StreamingHttpResponse(body())


def streaming_asynchronously(request: HttpRequest, slug: str) -> HttpResponseBase:
    async def body() -> AsyncIterator[str]:
        for _ in range(3):
            yield await tenancy.run(request.workspace, lambda workspace: schema_now()) + ";"  # type: ignore[attr-defined]

    return StreamingHttpResponse(body())


urls = ModuleType("urls_of_these_tests")
urls.urlpatterns = [  # type: ignore[attr-defined]
    path("outside/", outside),
    path("w/<str:slug>/plain/", plain),
    path("w/<str:slug>/failing/", failing),
    path("w/<str:slug>/async/", asynchronous),
    path("w/<str:slug>/streaming/", streaming),
    path("w/<str:slug>/streaming-async/", streaming_asynchronously),
    *real.urlpatterns,
]


@pytest.fixture
def own_urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=urls):
        yield


async def signed_in(cast: Cast, name: str) -> AsyncClient:
    client = AsyncClient(raise_request_exception=False)
    await client.aforce_login(cast[name].user)
    return client


async def body_of(response: Any) -> str:
    if not response.streaming:
        return response.content.decode()
    return b"".join([chunk async for chunk in response]).decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
async def test_a_view_its_stream_and_its_asynchronous_twin_are_inside_their_workspace(committed_cast: Cast) -> None:
    acme = committed_cast.acme
    await sync_to_async(add)(acme, "R&D")
    alice = await signed_in(committed_cast, "alice")
    assert await body_of(await alice.get("/w/acme/plain/")) == f"{acme.schema_name},R&D"
    assert await body_of(await alice.get("/w/acme/streaming/")) == f"{acme.schema_name}:R&D;" * 3
    assert await body_of(await alice.get("/w/acme/async/")) == acme.schema_name
    assert await body_of(await alice.get("/w/acme/streaming-async/")) == f"{acme.schema_name};" * 3
    assert await body_of(await alice.get("/outside/")) == "public None"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_after_an_exception_in_a_view_the_next_request_is_where_it_belongs(committed_cast: Cast) -> None:
    alice, bob = await signed_in(committed_cast, "alice"), await signed_in(committed_cast, "bob")
    for _ in range(3):
        assert (await alice.get("/w/acme/failing/")).status_code == 500
        assert await body_of(await bob.get("/w/globex/plain/")) == committed_cast.globex.schema_name
        assert await body_of(await bob.get("/outside/")) == "public None"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_requests_that_are_cancelled_at_random_moments_leave_the_others_alone(committed_cast: Cast) -> None:
    """Through Django's real ASGI handler; `receive` hangs up after a while, as a closed connection does."""
    alice, bob = await signed_in(committed_cast, "alice"), await signed_in(committed_cast, "bob")
    handler = ASGIHandler()

    async def hung_up(number: int) -> None:
        task = asyncio.create_task(
            handler(_scope(alice, "/w/acme/plain/"), _receive(hang_up_after=number * 0.0007), _ignore)
        )
        await asyncio.wait([task], timeout=10)
        assert task.done()

    for number in range(30):
        results = await asyncio.gather(hung_up(number), bob.get("/w/globex/plain/"))
        assert await body_of(results[1]) == committed_cast.globex.schema_name


def _scope(client: AsyncClient, address: str) -> dict[str, Any]:
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": address,
        "raw_path": address.encode(), "query_string": b"", "headers": [(b"host", b"testserver"), (b"cookie", cookie.encode())],
        "server": ("testserver", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip


def _receive(hang_up_after: float) -> Any:
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(hang_up_after)
        return {"type": "http.disconnect"}

    return receive


async def _ignore(message: dict[str, Any]) -> None:
    pass


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_a_stranger_gets_the_same_404_for_acme_as_for_nothing(committed_cast: Cast) -> None:
    for name in ("bob", "mallory"):
        client = await signed_in(committed_cast, name)
        theirs, nothing = await client.get("/w/acme/plain/"), await client.get("/w/nowhere/plain/")
        assert theirs.status_code == nothing.status_code == 404
        assert theirs.content.replace(b"acme", b"") == nothing.content.replace(b"nowhere", b"")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_somebody_who_is_not_signed_in_is_sent_to_the_login_whether_it_exists_or_not(
    committed_cast: Cast,
) -> None:
    client = AsyncClient()
    for slug in ("acme", "nowhere"):
        answer = await client.get(f"/w/{slug}/plain/")
        assert answer.status_code == 302
        assert "/login/" in answer["location"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_a_crafted_path_never_opens_a_workspace(committed_cast: Cast) -> None:
    bob = await signed_in(committed_cast, "bob")
    for address in (
        "/w/acme%00/plain/", "/w/ACME/plain/", "/w/acme%2f/plain/", "/w//plain/", "/w/../w/acme/plain/", "//w/acme/plain/", "/w/acme;/plain/",
        "/w/%61cme%20/plain/", "/w/" + "a" * 5000 + "/plain/", "/w/globex/../acme/plain/", "/W/acme/plain/", "/w/%61cme/plain/",
    ):  # fmt: skip
        answer = await bob.get(address)
        assert answer.status_code == 404, address
        assert b"w_" not in answer.content


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_urls")
async def test_a_removed_member_is_out_with_the_next_request_and_a_deleted_workspace_is_nowhere(
    committed_cast: Cast,
) -> None:
    ann, alice = await signed_in(committed_cast, "ann"), await signed_in(committed_cast, "alice")
    assert (await ann.get("/w/acme/plain/")).status_code == 200
    assert committed_cast.ann.membership
    await sync_to_async(actions.remove_member)(
        workspace=committed_cast.acme, by=committed_cast.alice.actor, membership_id=committed_cast.ann.membership.id
    )
    assert (await ann.get("/w/acme/plain/")).status_code == 404
    await sync_to_async(actions.delete_workspace)(
        workspace=committed_cast.acme, by=committed_cast.alice.actor, typed_slug="acme"
    )
    assert (await alice.get("/w/acme/plain/")).status_code == 404


@pytest.mark.django_db
def test_the_installations_own_chain_is_not_seen_from_inside_a_workspace(cast: Cast) -> None:
    audit.record(workspace=None, by=Actor("x"), action="login")
    with tenancy.entered(cast.acme):
        assert not AuditRecord.objects.filter(workspace_id=0).exists()
    assert audit.verify(0).records == 1

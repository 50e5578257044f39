"""The API against its own OpenAPI document, with schemathesis: no 5xx, and no answer the document does not describe.

Left out, and why: `positive_data_acceptance` (a request can fit the document and still be wrong: a name that is taken, a cap above the plan,
a day that is over); `ignored_auth` (tests/workspaces/test_rest.py walks every route without a token); `unsupported_method` (not looked at);
`use_after_free` and `ensure_resource_availability` (each request is taken back, so none follows another). The header that authorizes is not
negated, because every request here is given the true one.

Requests go through the real application to real PostgreSQL and Redis; each in a savepoint that is taken back, so that one
operation cannot spoil the next and the same seed asks the same again.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import checks as checking
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as conformance

from tests.api.conftest import World, soon
from workspaces import openapi_examples, reference

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators"),
]
NOWHERE = "01932f6e-7c1a-7b3e-9f52-3f1d2c4b5a69"
ALWAYS = [
    checking.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_headers_conformance,
    conformance.response_schema_conformance,
]
CHECKS = {
    GenerationMode.POSITIVE: ALWAYS,
    GenerationMode.NEGATIVE: [*ALWAYS, conformance.negative_data_rejection],
}


@contextmanager
def one_connection() -> Iterator[None]:
    """Requests stay on the test's connection, in its transaction, as those of Django's own test client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in signals:
            signal.connect(close_old_connections)


def conforms(
    world: World, *, examples: int, modes: tuple[GenerationMode, ...], part: int = 0, parts: int = 1
) -> list[str]:
    """What each operation did wrong, when asked `examples` times in each mode. `part` of `parts`: only every so many-th operation."""
    wrong: list[str] = []
    with one_connection():
        schema = schemathesis.openapi.from_dict(_without_authorization())
        schema.app = WSGIHandler()
        rejecting = schema.config.checks.negative_data_rejection
        rejecting.expected_statuses = [
            *rejecting.expected_statuses,
            "412",
        ]  # an If-Match of nonsense is a version of nothing
        for number, found in enumerate(schema.get_all_operations()):
            if number % parts != part:
                continue
            operation = found.ok()
            for mode in modes:
                try:
                    _asked(operation, world, examples, mode)
                except Unsatisfiable:
                    if mode is GenerationMode.POSITIVE:  # otherwise it takes nothing that could be wrong
                        wrong.append(f"{operation.label}: no request that the document allows was found")
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - a group of whatever the checks raise, told together at the end
                    wrong.append(f"{mode.value} {operation.label}: {_told(error)}")
    return wrong


def _without_authorization() -> dict[str, Any]:
    """The document, without the header that every request here is given: a generated token would be replaced and count as one accepted."""
    document = copy.deepcopy(reference.document())
    document.pop("security", None)
    document["components"].pop("securitySchemes", None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


def _asked(operation: Any, world: World, examples: int, mode: GenerationMode) -> None:
    ids = {one.name: world.ids.get(one.name, NOWHERE) for one in operation.path_parameters}

    @hypothesis.settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(mode, path_parameters=ids))
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and "verify" in case.body:
            case.body["verify"] = False  # nobody is called
        sid = transaction.savepoint()
        try:
            case.call_and_validate(headers={"Authorization": f"Bearer {world.token}"}, checks=CHECKS[mode])
        finally:
            transaction.savepoint_rollback(sid)

    ask()


def _told(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    return " / ".join(_told(one) for one in inner) if inner else str(error)[:700]


def test_no_answer_is_a_5xx_or_contradicts_the_document(world: World) -> None:
    wrong = conforms(world, examples=1, modes=(GenerationMode.POSITIVE,))
    assert not wrong, "\n\n".join(wrong)


def test_every_example_of_a_body_is_accepted_as_it_stands(world: World) -> None:
    """Those written by hand, each on its own; ids and dates are replaced by ones of this world."""
    for path, operations in reference.document()["paths"].items():
        for method, operation in operations.items():
            body = openapi_examples.REQUESTS.get(operation["operationId"])
            if body is None:
                continue
            ids = {"budget_id": world.ids["budget_id"], "up_to": world.ids["notice_id"]}
            alive = {name: ids.get(name, value) for name, value in body.items()}
            if operation["operationId"] == "raises_request":
                alive["expires_at"] = soon()
            sid = transaction.savepoint()
            answer = getattr(world.client, method)(path.format(**world.ids), alive, format="json")
            transaction.savepoint_rollback(sid)
            assert 200 <= answer.status_code < 300, (operation["operationId"], answer.content)


def test_every_example_fits_its_schema() -> None:
    document = reference.document()
    root = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"]}
    seen = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shown = [operation.get("requestBody", {}), *operation["responses"].values()]
            for media in (one for part in shown for one in part.get("content", {}).values() if "example" in one):
                seen += 1
                errors = list(Draft202012Validator({**root, **media["schema"]}).iter_errors(media["example"]))
                assert not errors, (method, path, errors[0].message)
    assert seen > 100


def test_the_document_says_what_every_operation_is_and_how_it_fails() -> None:
    document = reference.document()
    assert document["openapi"].startswith("3.1")
    ids = [one["operationId"] for operations in document["paths"].values() for one in operations.values()]
    assert len(ids) == len(set(ids))
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            assert one["summary"], (method, path)
            assert {"401", "403", "404", "429"} <= set(one["responses"]), (method, path)
            assert all(parameter.get("description") or parameter["in"] == "path" for parameter in one["parameters"]), (
                path
            )


PARTS = 8
MANY = int(os.environ.get("SLUICE_TEST_EXAMPLES", "25"))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("part", range(PARTS))
def test_nor_is_any_of_many_more(world: World, part: int, mode: GenerationMode) -> None:
    wrong = conforms(world, examples=MANY, modes=(mode,), part=part, parts=PARTS)
    assert not wrong, "\n\n".join(wrong)

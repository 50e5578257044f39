"""What tests/api/test_conformance.py does with schemathesis. Imported by the test that needs it: it takes a second and a half of a core, and
every process of a run would spend it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as checking
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as conformance

from tests.api.conftest import World
from workspaces import reference

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


def conforms(world: World, *, examples: int, modes: tuple[str, ...], part: int = 0, parts: int = 1) -> list[str]:
    """What each operation did wrong, when asked `examples` times in each mode ("positive", "negative"). `part` of `parts`: only
    every so many-th operation."""
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
            for mode in map(GenerationMode, modes):
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

"""The API against its own OpenAPI document, with schemathesis: no 5xx, and no answer the document does not describe.

Left out, and why: `positive_data_acceptance` (a request can fit the document and still be wrong: a name that is taken, a cap above the plan,
a day that is over); `ignored_auth` (tests/workspaces/test_rest.py walks every route without a token); `unsupported_method` (not looked at);
`use_after_free` and `ensure_resource_availability` (each request is taken back, so none follows another). The header that authorizes is not
negated, because every request here is given the true one.

Requests go through the real application to real PostgreSQL and Redis; each in a savepoint that is taken back, so that one
operation cannot spoil the next and the same seed asks the same again.
"""

from __future__ import annotations

import os

import pytest
from django.db import transaction
from jsonschema import Draft202012Validator

from tests.api.conftest import World, soon
from workspaces import openapi_examples, reference

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators"),
]


def test_no_answer_is_a_5xx_or_contradicts_the_document(world: World) -> None:
    from tests.api.asking import conforms

    wrong = conforms(world, examples=1, modes=("positive",))
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
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("part", range(PARTS))
def test_nor_is_any_of_many_more(world: World, part: int, mode: str) -> None:
    from tests.api.asking import conforms

    wrong = conforms(world, examples=MANY, modes=(mode,), part=part, parts=PARTS)
    assert not wrong, "\n\n".join(wrong)

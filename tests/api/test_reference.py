"""The reference for people: every operation stands in it, and it opens without signing in."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from workspaces import reference
from workspaces.views import reference as pages

pytestmark = pytest.mark.django_db


def test_every_operation_has_its_place_a_command_and_an_answer() -> None:
    client = Client()
    overview = client.get(reverse("api_reference")).content.decode()
    shown = ""
    for slug in pages._groups():
        answer = client.get(reverse("api_reference_group", args=[slug]))
        assert answer.status_code == 200
        shown += answer.content.decode()
    for path, operations in reference.document()["paths"].items():
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in shown, path
            assert f"#{operation['operationId']}" in overview, path
    assert "Authorization: Bearer $SLUICE_TOKEN" in shown
    assert "Scope <code>budgets</code>" in shown


def test_a_group_that_is_not_there_is_a_404() -> None:
    assert Client().get("/reference/nothing/").status_code == 404

"""A pepper can be retired: keys in use move to the new one by themselves, beside their calls."""

from __future__ import annotations

import asyncio
import base64
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from guardrails.domain.refusals import InvalidKey
from guardrails.gate import Gate, open_gate
from tests.cast import Cast
from workspaces import actions, keys
from workspaces.models import VirtualKey

NEW = base64.b64encode(b"n" * 32).decode()


async def test_a_virtual_key_in_use_moves_to_the_new_pepper_so_that_the_old_one_can_be_retired(
    gate: Gate, committed_cast: Cast
) -> None:
    def make() -> str:
        return actions.create_virtual_key(workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app").text

    def version() -> int:
        try:
            return VirtualKey.objects.get(workspace=committed_cast.acme).pepper_version
        finally:
            connection.close()

    def still_needed() -> int:
        try:
            call_command("peppers", stdout=StringIO(), stderr=StringIO())
        except SystemExit as ended:
            return int(str(ended.code))
        finally:
            connection.close()
        return 0

    text = await sync_to_async(make)()
    before = await sync_to_async(version, thread_sensitive=False)()
    with override_settings(PEPPER=NEW, PEPPER_PREVIOUS=settings.PEPPER):
        assert await sync_to_async(still_needed, thread_sensitive=False)() == 1
        for _ in range(50):
            await gate.policies.recognise(text)
            if await sync_to_async(version, thread_sensitive=False)() != before:
                break
            await asyncio.sleep(0.02)
        await gate.policies.close()
        assert await sync_to_async(still_needed, thread_sensitive=False)() == 0
        assert not keys.is_outdated((await gate.policies.recognise(text)).key.stored), "memory knows it too"
    with override_settings(PEPPER=NEW, PEPPER_PREVIOUS=""):
        other = open_gate()
        assert (await other.policies.recognise(text)).key.name == "app"
        await other.close(1.0)


async def test_a_key_that_was_accepted_lends_nothing_to_another_text_with_its_locator(
    gate: Gate, committed_cast: Cast
) -> None:
    def make() -> str:
        return actions.create_virtual_key(workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app").text

    text, other = await sync_to_async(make)(), keys.mint(keys.KeyKind.VIRTUAL_KEY).text
    impostor = text[:17] + other[17:]
    for _ in range(2):  # the first time by what is stored, the second by what was remembered of it
        with pytest.raises(InvalidKey):
            await gate.policies.recognise(impostor)
        assert (await gate.policies.recognise(text)).key.name == "app"
    with pytest.raises(InvalidKey):
        await gate.policies.recognise(impostor)

"""The vault in the database: bound to tenant and row, rotated under traffic, destroyed on deletion."""

from __future__ import annotations

import base64
import logging
import os
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from tests.cast import Cast
from workspaces import actions, audit, tenancy
from workspaces.models import AuditRecord, Workspace
from workspaces.vault import door
from workspaces.vault.door import SecretUnreadable, VaultUnavailable
from workspaces.vault.models import DataKey, ProviderCredential

pytestmark = pytest.mark.django_db
SECRET = "sk-test-" + "s" * 32


def new_master_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def added(workspace: Workspace, cast: Cast, name: str = "default", secret: str = SECRET) -> ProviderCredential:
    return actions.add_credential(
        workspace=workspace, by=cast.alice.actor, provider="openai", secret=secret, name=name, verify=False
    )


def opened(workspace: Workspace, credential: ProviderCredential) -> str:
    with tenancy.entered(workspace):
        return door.open_secret(workspace, ProviderCredential.objects.select_related("data_key").get(pk=credential.pk))


def actions_logged(workspace: Workspace) -> list[str]:
    with tenancy.entered(workspace):
        return list(AuditRecord.objects.order_by("number").values_list("action", flat=True))


def test_a_sealed_key_opens_for_its_workspace(cast: Cast) -> None:
    assert opened(cast.acme, added(cast.acme, cast)) == SECRET


def test_two_seals_of_one_secret_share_neither_nonce_nor_bytes(cast: Cast) -> None:
    blobs = [bytes(added(cast.acme, cast, name=f"key {number}").sealed or b"") for number in range(20)]
    assert len({blob[1:13] for blob in blobs}) == 20
    assert len({blob[13:] for blob in blobs}) == 20


def test_a_flipped_byte_in_the_row_is_one_clean_error_and_in_the_audit_log(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    whole = bytes(credential.sealed or b"")
    for place in range(len(whole)):
        broken = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with tenancy.entered(cast.acme):
            ProviderCredential.objects.filter(pk=credential.pk).update(sealed=broken)
        with pytest.raises(SecretUnreadable) as caught:
            opened(cast.acme, credential)
        assert str(caught.value) == "This provider key cannot be read."
    assert "credential.unreadable" in actions_logged(cast.acme)


def test_a_secret_moved_to_another_row_does_not_open(cast: Cast) -> None:
    one, two = added(cast.acme, cast, "one"), added(cast.acme, cast, "two", SECRET + "2")
    with tenancy.entered(cast.acme):
        ProviderCredential.objects.filter(pk=one.pk).update(sealed=two.sealed)
    with pytest.raises(SecretUnreadable):
        opened(cast.acme, one)


def test_a_row_whose_provider_was_changed_does_not_open(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    with tenancy.entered(cast.acme):
        ProviderCredential.objects.filter(pk=credential.pk).update(provider="openrouter")
    with pytest.raises(SecretUnreadable):
        opened(cast.acme, credential)


def test_a_row_copied_whole_to_another_tenant_with_its_data_key_does_not_open_there(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    with tenancy.entered(cast.acme):
        data_key = DataKey.objects.get()
        credential = ProviderCredential.objects.get(pk=credential.pk)
    with tenancy.entered(cast.globex):
        data_key.save(force_insert=True)
        credential.save(force_insert=True)
    with pytest.raises(SecretUnreadable):
        opened(cast.globex, credential)
    assert opened(cast.acme, credential) == SECRET


@pytest.mark.parametrize(
    "key", ["", "x", "A" * 44, base64.b64encode(b"k" * 32).decode(), base64.b64encode(bytes(range(16))).decode()]
)
def test_a_missing_short_or_silly_master_key_makes_the_vault_unavailable(cast: Cast, key: str) -> None:
    with override_settings(MASTER_KEY=key), pytest.raises(VaultUnavailable, match="SLUICE_MASTER_KEY"):
        added(cast.acme, cast)
    with tenancy.entered(cast.acme):
        assert not ProviderCredential.objects.exists()


def test_a_wrong_master_key_makes_the_vault_unavailable_and_spoils_nothing(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    with override_settings(MASTER_KEY=new_master_key()), pytest.raises(VaultUnavailable, match="lacks the master key"):
        opened(cast.acme, credential)
    assert opened(cast.acme, credential) == SECRET


def test_rotation_leaves_every_secret_readable_at_every_step(cast: Cast) -> None:
    old, new = settings.MASTER_KEY, new_master_key()
    mine, theirs = added(cast.acme, cast), added(cast.globex, cast, secret=SECRET + "g")

    def all_open() -> None:
        assert opened(cast.acme, mine) == SECRET
        assert opened(cast.globex, theirs) == SECRET + "g"

    with override_settings(MASTER_KEY=old, MASTER_KEY_PREVIOUS=new):
        all_open()
    with override_settings(MASTER_KEY=new, MASTER_KEY_PREVIOUS=old):
        all_open()
        with transaction.atomic():
            door.rewrap(cast.acme)  # as far as a first run came before it was killed
        all_open()
        with override_settings(MASTER_KEY=old, MASTER_KEY_PREVIOUS=new):
            all_open()  # a process that has not been swapped yet
        out = StringIO()
        call_command("rotate_master_key", stdout=out)
        assert "1 data key(s)" in out.getvalue()
        assert "can be removed" in out.getvalue()
        all_open()
        call_command("rotate_master_key", stdout=(again := StringIO()))
        assert "0 data key(s)" in again.getvalue()
    with override_settings(MASTER_KEY=new, MASTER_KEY_PREVIOUS=""):
        all_open()
    with override_settings(MASTER_KEY=old, MASTER_KEY_PREVIOUS=""), pytest.raises(VaultUnavailable):
        opened(cast.acme, mine)


def test_rotation_without_the_old_key_says_which_workspaces_still_need_it(cast: Cast) -> None:
    added(cast.acme, cast)
    with override_settings(MASTER_KEY=new_master_key()), pytest.raises(CommandError, match="acme"):
        call_command("rotate_master_key", stderr=StringIO(), stdout=StringIO())


def test_deleting_a_credential_destroys_the_data_key_that_sealed_it_and_keeps_the_others_readable(cast: Cast) -> None:
    gone, kept = added(cast.acme, cast, "gone"), added(cast.acme, cast, "kept", SECRET + "k")
    with tenancy.entered(cast.acme):
        before = DataKey.objects.get()
    actions.delete_credential(workspace=cast.acme, by=cast.alice.actor, credential_id=gone.id)
    with tenancy.entered(cast.acme):
        assert DataKey.objects.get().id != before.id
    assert opened(cast.acme, kept) == SECRET + "k"
    assert door.open_secret(cast.acme, kept) == SECRET + "k", "a row read before the renewal still opens"


def test_deleting_the_workspace_leaves_no_data_key(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    actions.delete_workspace(workspace=cast.acme, by=cast.alice.actor, typed_slug="acme")
    with tenancy.entered(cast.acme), pytest.raises(Exception, match="does not exist"), transaction.atomic():
        DataKey.objects.count()
    assert credential.pk


def test_a_rotated_credential_opens_to_the_new_key_and_is_unverified_again(cast: Cast) -> None:
    credential = added(cast.acme, cast)
    actions.rotate_credential(
        workspace=cast.acme, by=cast.alice.actor, credential_id=credential.id, secret="sk-new-" + "n" * 30, verify=False
    )
    assert opened(cast.acme, credential) == "sk-new-" + "n" * 30


def test_neither_log_nor_error_nor_audit_nor_repr_holds_the_secret(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    credential = added(cast.acme, cast)
    with tenancy.entered(cast.acme):
        ProviderCredential.objects.filter(pk=credential.pk).update(provider="groq")
    with pytest.raises(SecretUnreadable) as caught:
        opened(cast.acme, credential)
    with tenancy.entered(cast.acme):
        logged = str(list(AuditRecord.objects.values()))
    told = f"{caught.value!r} {credential!r} {vars(credential)} {logged} {caplog.text} {door.master_keys()!r}"
    assert SECRET not in told
    assert SECRET[8:20] not in told
    assert settings.MASTER_KEY not in told
    assert base64.b64decode(settings.MASTER_KEY).hex()[:12] not in told


@pytest.mark.parametrize(("length", "shown"), [(8, ""), (23, ""), (24, "tttt"), (51, "tttt")])
def test_the_last_four_are_kept_only_where_twenty_stay_hidden(cast: Cast, length: int, shown: str) -> None:
    assert added(cast.acme, cast, secret="t" * length).last_four == shown


def test_the_audit_chain_is_whole_after_all_of_it(cast: Cast) -> None:
    test_deleting_a_credential_destroys_the_data_key_that_sealed_it_and_keeps_the_others_readable(cast)
    assert audit.verify(cast.acme.id).fault == ""

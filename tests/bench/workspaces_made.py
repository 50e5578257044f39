"""What `tests.bench.workspaces` does inside Django: `make COUNT BASE_URL` prints seconds and keys, `behind` marks every schema as not up to date."""

from __future__ import annotations

import json
import sys
import time

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from workspaces import actions
from workspaces.audit import Actor
from workspaces.models import User, Workspace


def make(count: int, base_url: str) -> None:
    owner = User.objects.create(email="many@example.com", password="!")
    by = Actor.person(owner)
    seconds, keys, cpu_s = [], [], time.process_time()
    for number in range(count):
        began = time.perf_counter()
        workspace = actions.create_workspace(slug=f"many-{number}", name=f"Many {number}", owner=owner, by=by)
        actions.add_credential(
            workspace=workspace, by=by, provider="simulator", secret="", base_url=base_url, verify=False
        )
        keys.append(actions.create_virtual_key(workspace=workspace, by=by, name="only").text)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "keys": keys, "cpu_s": [time.process_time() - cpu_s]}))


def behind() -> None:
    print(json.dumps({"marked": Workspace.objects.update(schema_version="before")}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]), sys.argv[3])
    else:
        behind()

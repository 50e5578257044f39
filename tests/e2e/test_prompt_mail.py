"""The mail of a crossing, while whatever is slow in the worker stands still."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery

from config.env import ROOT, Environment
from config.queues import SLOW
from tests.e2e.conftest import Site


def settings_of(site: Site) -> dict[str, str]:
    lines = (site.home / "run.env").read_text().splitlines()
    return {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines) if value}


def post(url: str, token: str, body: dict[str, Any], **headers: str) -> None:
    given = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=given)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status in (200, 201)


def arrived(inbox: Path, name: str) -> bool:
    return any(name in path.read_text(errors="replace").partition("\n\n")[0] for path in inbox.glob("*.eml"))


def test_a_crossing_is_mailed_within_ten_seconds_while_a_look_at_waste_stands_still(site: Site) -> None:
    settings = settings_of(site)
    words = (
        "provision",
        "--email",
        "prompt@example.com",
        "--workspace",
        "prompt",
        "--provider",
        "simulator",
        "--provider-key",
        "sim",
        "--json",
    )
    made = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env={**os.environ, **settings}, check=True, capture_output=True, text=True
    )  # fmt: skip
    known = json.loads(made.stdout.splitlines()[-1])
    with psycopg.connect(settings["DATABASE_URL"]) as database:
        database.execute("LOCK TABLE waste_look IN ACCESS EXCLUSIVE MODE")
        with Celery(broker=Environment({"SLUICE_BROKER_URL": "", **settings}).redis("SLUICE_BROKER_URL", 1)) as sender:
            sender.send_task("waste.look", queue=SLOW)
        until = time.monotonic() + 20
        while database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert time.monotonic() < until, "no look began"
            time.sleep(0.05)
        budget = {
            "name": "Held up",
            "unit": "calls",
            "cap": "2",
            "period": "day",
            "scope": "feature",
            "value": "held-up",
        }
        post(f"{site.url}/api/v1/workspaces/prompt/budgets/", known["api_token"], budget)
        said = {"model": "sim-instant", "messages": [{"role": "user", "content": "Hello"}]}
        post(f"{site.url}/v1/chat/completions", known["virtual_key"], said, **{"Sluice-Feature": "held-up"})
        until = time.monotonic() + 10
        while not arrived(site.home / "inbox", '"Held up"'):
            assert time.monotonic() < until, "the mail waits for the look"
            time.sleep(0.05)
        database.rollback()

"""One run of a kind of task at a time, and soon another after one whose process was killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.db import OperationalError

from guardrails.leases import LEASE_S, alone, leased
from guardrails.rounds import go_round
from tests.cast import Cast
from workspaces.models import Workspace

NAME = "tests:lease"


def until(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_free() -> bool:
    with leased(NAME) as mine:
        return mine


def test_only_one_of_two_runs_and_the_next_begins_at_once_after_it() -> None:
    with leased(NAME) as one, leased(NAME) as other:
        assert (one, other) == (True, False)
    assert is_free()


def test_a_killed_process_keeps_others_away_no_longer_than_its_lease() -> None:
    assert LEASE_S <= 15
    child = os.fork()
    if child == 0:
        with leased(NAME, lease_s=1):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_free()
    until(is_free, 5)


def test_a_run_that_outlasts_its_lease_keeps_it_but_one_that_hangs_does_not_keep_it_for_ever() -> None:
    ended = threading.Event()

    def run() -> None:
        with leased(NAME, lease_s=1, longest_s=1.2):
            ended.wait(20)

    running = threading.Thread(target=run)
    began = time.monotonic()
    running.start()
    until(lambda: not is_free(), 5)
    until(is_free, 10)
    assert time.monotonic() - began > 1.2  # not after the second that the lease is for
    with leased(NAME) as mine:
        ended.set()
        running.join()
        assert mine
        assert not is_free(), "who comes back late takes away another's lease"


def test_a_run_without_postgresql_ends_and_says_so_and_another_error_is_not_swallowed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @alone(NAME)
    def without() -> int:
        raise OperationalError("server closed the connection\nunexpectedly")

    @alone(NAME)
    def wrong() -> int:
        raise ValueError("x")

    assert without() is None
    assert f"{NAME}: PostgreSQL does not answer: server closed the connection" in caplog.text
    with pytest.raises(ValueError, match="x"):
        wrong()
    assert cache.get(NAME) is None


@pytest.mark.django_db
def test_a_workspace_that_fails_costs_no_other_its_turn(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    def visit(workspace: Workspace) -> int:
        if workspace == cast.acme:
            raise KeyError("broken")
        return 7

    assert go_round([cast.acme.pk, cast.globex.pk], visit, what="a look") == 7
    assert f"workspace {cast.acme.pk}: a look failed" in caplog.text

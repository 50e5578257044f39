"""One run of a kind of task at a time, and soon another after one whose process was killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.db import OperationalError

from guardrails.leases import LEASE_S, alone, leased, renew
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


class Turns(threading.Event):
    """A run that goes on for so many renewals: each comes at once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(
    "whose, longest_s, is_renewed",
    [("mine", 60, True), ("mine", 0, False), ("another's", 60, False)],
    ids=["goes on", "hangs", "came too late"],
)
def test_a_lease_is_renewed_while_its_own_run_goes_on_and_does_not_hang(
    whose: str, longest_s: float, is_renewed: bool
) -> None:
    cache.set(NAME, whose, timeout=20)
    renew(cache, NAME, "mine", 90, longest_s, Turns(1))
    with redis.Redis.from_url(settings.CACHE_URL) as client:
        assert (client.ttl(cache.make_key(NAME)) > 20) is is_renewed


def test_who_comes_back_after_its_lease_ran_out_leaves_another_s_alone() -> None:
    with leased(NAME) as mine:
        assert mine
        cache.set(NAME, "another's")
    assert cache.get(NAME) == "another's"


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

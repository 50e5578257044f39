"""Which gateways are alive, as PostgreSQL knows it: each holds an advisory lock in a session of its own for as long as its process lives.

The lock is what a rebuild needs to know. The kernel closes the connection of a process that is killed, so its lock is gone at once and nobody
waits for it; a process that is only stopped, slow or cut off from the money Redis keeps it, and is waited for. It needs no row, no clock
and nothing that a FLUSHALL takes away. A pooler between must keep sessions (PgBouncer: `pool_mode = session`).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection

from billing.ledger.sequence import Gap
from billing.models import SequenceMark
from workspaces import tenancy
from workspaces.models import Workspace

log = logging.getLogger(__name__)

ADVISORY_CLASS = 0x51_0C_E3
BEAT_S = 1.0
"""How often a gateway looks whether its session still stands; a lost one is opened again within this and the half of it"""
YOUNG_S = 5.0
"""A PostgreSQL that started so lately may not have heard of every gateway yet"""
DEAD_MACHINE = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3"
"""The server ends the session of a machine that is gone after some 15 s"""


def alive() -> frozenset[int] | None:
    """The gateways that hold their lock; None while PostgreSQL is too young to say."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()), ARRAY(SELECT objid::bigint FROM pg_locks "
            "WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            [ADVISORY_CLASS],
        )
        age_s, gateways = cursor.fetchone()
    return None if age_s < YOUNG_S else frozenset(gateways)


class Presence:
    """This gateway's lock, held by a thread of its own."""

    def __init__(self) -> None:
        self.id = secrets.randbelow(2**31 - 1) + 1
        self._stopping = threading.Event()
        self._registered = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def registered(self) -> bool:
        """Once true, rebuilds know of this gateway; before, it admits nothing. A session that is lost later is opened again: see recovery.py."""
        return self._registered.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Blocks until registered."""
        return self._registered.wait(timeout_s)

    def stop(self) -> None:
        """After the last finish was answered. Blocks a moment."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(_session()) as session:
                    session.execute("SELECT pg_advisory_lock_shared(%s, %s)", [ADVISORY_CLASS, self.id])
                    self._registered.set()
                    while not self._stopping.wait(BEAT_S):
                        session.execute("SELECT 1")
            except (psycopg.Error, OSError) as error:
                log.warning("no session in PostgreSQL says that this gateway lives (%s)", type(error).__name__)
                self._stopping.wait(BEAT_S / 2)


def _session() -> psycopg.Connection[Any]:
    """A connection outside Django's pool: it lives as long as the process."""
    parameters = connection.settings_dict
    options = {name: value for name, value in parameters["OPTIONS"].items() if name not in ("pool", "options")}
    return psycopg.connect(
        dbname=parameters["NAME"],
        user=parameters["USER"],
        password=parameters["PASSWORD"],
        host=parameters["HOST"],
        port=parameters["PORT"] or None,
        autocommit=True,
        connect_timeout=2,
        application_name="sluice-presence",
        options=f"{parameters['OPTIONS'].get('options', '')} {DEAD_MACHINE}".strip(),
        **options,
    )


# --- How far the books are --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books of a workspace have seen."""

    epoch: int
    seq: int
    gaps: tuple[Gap, ...] = ()

    def has(self, epoch: int, seq: int) -> bool:
        """Whether the event with this number of this epoch is in the books. Numbers of a newer epoch go on where the books were."""
        return epoch == self.epoch and seq <= self.seq and not any(first <= seq <= last for first, last in self.gaps)


def booked(workspace_ids: Collection[int]) -> dict[int, Booked]:
    with tenancy.every_workspace("a gateway forgets the calls of all its workspaces that the books have"):
        marks = list(
            SequenceMark.objects.filter(workspace_id__in=workspace_ids).values_list("workspace_id", "seq", "gaps")
        )
        # Read after the marks: an epoch that is too new for a mark makes nobody forget anything.
        epochs = dict(Workspace.objects.filter(pk__in=workspace_ids).values_list("pk", "admission_epoch"))
    return {
        workspace_id: Booked(epochs[workspace_id], seq, tuple((first, last) for first, last in gaps))
        for workspace_id, seq, gaps in marks
        if workspace_id in epochs
    }

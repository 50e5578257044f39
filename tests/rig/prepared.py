"""The data folder of a PostgreSQL that is migrated already: made once a test run, copied by every private installation after it.

To initialise and migrate takes five to ten seconds of a core, a copy in memory a tenth of one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from config.stack.postgres import PostgresServer, rootless


def prepare(server: PostgresServer, migrate: Callable[[PostgresServer], None]) -> None:
    """Give a server that was never started a migrated database, and start it. `migrate` is called with a running server at most once a run;
    outside a test run (the rig alone), and where PostgreSQL has to be somebody else, always."""
    home = os.environ.get("SLUICE_TEST_HOME")
    if home is None or rootless() == "nobody":
        _from_nothing(server, migrate)
        return
    kept = Path(home) / "prepared"
    with (Path(home) / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            first = PostgresServer(home=Path(home) / "preparing", fast_and_unsafe=True)
            try:
                _from_nothing(first, migrate)
            finally:
                first.stop()
            first.data.rename(kept)
    server.home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kept, server.data)
    (server.home / "initialised").touch()
    server.start()


def _from_nothing(server: PostgresServer, migrate: Callable[[PostgresServer], None]) -> None:
    server.start()
    server.ensure_application_database()
    migrate(server)

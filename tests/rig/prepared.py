"""The data folder of a PostgreSQL that is migrated already: made once a test run, copied by every private installation after it.

To initialise and migrate takes five to ten seconds of a core, a copy in memory a tenth of one.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from config.env import ROOT, inherited
from config.stack.postgres import APP_ROLE, SUPERUSER, PostgresServer, rootless
from config.stack.supervisor import state_of_migrations

_SECRETS = {
    "SLUICE_SECRET_KEY": secrets.token_urlsafe(50),
    "SLUICE_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    "SLUICE_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
}
"""Of the process that migrates. Nothing that is migrated here is sealed with them."""


def prepare(server: PostgresServer) -> None:
    """Give a server that was never started a migrated database, and start it."""
    kept = _prepared_once()
    if kept is None:
        _from_nothing(server)
        return
    server.home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kept, server.data)
    (server.home / "initialised").touch()
    server.start()


def prepare_home(home: Path) -> None:
    """Make a SLUICE_HOME as `make up` leaves it whose first start was interrupted after the migrations: it has no mails, calls or people.
    Where nothing can be copied it stays as it is, and `make up` has more to do."""
    kept = _prepared_once()
    if kept is None:
        return
    postgres = home / "postgres"
    postgres.mkdir(parents=True)
    shutil.copytree(kept, postgres / "data")
    (postgres / "initialised").touch()
    (postgres / "migrated").write_text(state_of_migrations())
    known = home / "secrets.env"
    known.touch(mode=0o600)
    known.write_text(f"POSTGRES_SUPERUSER_PASSWORD={SUPERUSER}\nPOSTGRES_PASSWORD={APP_ROLE}\n")


def _prepared_once() -> Path | None:
    """The folder to copy; whoever comes first makes it. None outside a test run (the rig alone), and where PostgreSQL has to be somebody else."""
    home = os.environ.get("SLUICE_TEST_HOME")
    if home is None or rootless() == "nobody":
        return None
    kept = Path(home) / "prepared"
    with (Path(home) / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            first = PostgresServer(home=Path(home) / "preparing", fast_and_unsafe=True)
            try:
                _from_nothing(first)
            finally:
                first.stop()
            first.data.rename(kept)
    return kept


def _from_nothing(server: PostgresServer) -> None:
    server.start()
    server.ensure_application_database()
    subprocess.run(
        [sys.executable, "manage.py", "migrate_workspaces", "--shared", "-v", "0"],
        env=inherited(**_SECRETS, SLUICE_MODE="test", DATABASE_URL=server.url()),
        cwd=ROOT, check=True, timeout=300,
    )  # fmt: skip

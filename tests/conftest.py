"""Real servers for every test: one PostgreSQL and one Redis a run, a database and Redis numbers of its own for every xdist worker.

This file is imported before any other conftest and before Django: it starts the servers (in the xdist controller, or in the single
process), writes the environment that `config.env` reads, and only then sets Django up. What a test may ask for:

* `db`, `transactional_db` (pytest-django's): the worker's database. After a transactional test it is copied anew from a migrated
  template (workspaces' schemas included), so nothing leaks and nothing has to be truncated. A test that asks for the cast gets a copy
  in which the cast is committed already: making two workspaces costs ten times what most tests do.
* `money_redis_url`: this worker's money Redis; all three of its numbers are emptied before each test (override `clean_redis` to keep).
* `redis_server`, `postgres_server`, `migrated_postgres`: private servers that a test may kill and start again.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import psycopg
import pytest
import redis
from hypothesis import settings as hypothesis_settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

gc.disable()  # until everything is imported and collected: it stays, and to look for rubbish in it takes a sixth of that time
if sys.dont_write_bytecode:  # what the Makefile says of it holds for a pytest that was started by hand
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".python_cache"))

from config.stack import postgres as stack_postgres  # noqa: E402 - the path above comes first
from config.stack import redis as stack_redis  # noqa: E402
from tests.rig.effort import examples  # noqa: E402

pytest_plugins = ["tests.cast", "tests.gateway.installed"]  # Alice, Ann, Bob, Mallory; a gateway on its stores

TEMPLATE = "sluice_template"
TEMPLATES = {"empty": TEMPLATE, "cast": f"{TEMPLATE}_cast"}
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
REDIS_NUMBERS_A_WORKER = 3  # money, broker, cache


# --- The run: started once, found again by the workers through these variables ----------------------------------------
def _start_servers() -> None:
    _remove_leftovers()
    memory = _memory()
    if memory is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # the tests' own folders too: many hold servers
    home = Path(tempfile.mkdtemp(prefix=f"sluice-test-{os.getpid()}-", dir=memory))
    home.chmod(0o755)
    postgres = stack_postgres.PostgresServer(
        home=home / "postgres", fast_and_unsafe=True, settings={"max_connections": "500", "shared_buffers": "64MB"}
    )
    cache = stack_redis.RedisServer(home=home / "redis", settings={"databases": "256", "appendonly": "no"})

    def stop() -> None:
        cache.stop()
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)

    atexit.register(stop)
    # A CI that cancels a run sends SIGTERM: leave through the ordinary exit, so that the servers are stopped.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    cache.launch()
    postgres.launch()
    cache.wait()
    postgres.wait()
    postgres.ensure_application_database(may_create_databases=True)
    os.environ.update(
        SLUICE_TEST_HOME=str(home),
        SSL_CERT_FILE=str(_one_authority(home / "authority.pem")),
        SLUICE_TEST_POSTGRES_PORT=str(postgres.port),
        SLUICE_TEST_REDIS_PORT=str(cache.port),
        SLUICE_SECRET_KEY=secrets.token_urlsafe(50),
        SLUICE_MASTER_KEY=base64.b64encode(secrets.token_bytes(32)).decode(),
        SLUICE_PEPPER=base64.b64encode(secrets.token_bytes(32)).decode(),
    )


def _one_authority(path: Path) -> Path:
    """Any one of the public authorities. Every HTTP client that a test or an SDK makes reads all it is to trust, which for the usual 140
    takes longer than most tests; here there is no network, and what TLS is proved with it is given."""
    end = "-----END CERTIFICATE-----\n"
    path.write_text(certifi.contents().partition(end)[0] + end)
    return path


def _memory() -> Path | None:
    """Where files cost least: a copy of a database is five hundred of them, which in memory takes a tenth of the time. What survives
    kill -9 on a disk survives it here. None (the ordinary folder) where there is none, or little room."""
    try:
        roomy = shutil.disk_usage(MEMORY).free >= ROOM_BYTES and os.access(MEMORY, os.W_OK)
    except OSError:
        return None
    return MEMORY if roomy else None


def _remove_leftovers() -> None:
    """Folders of runs that were killed. Their servers died with them."""
    for folder in (*Path(tempfile.gettempdir()).glob("sluice-test-*"), *MEMORY.glob("sluice-test-*")):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if not _worker:
    _start_servers()
_index = int(_worker.removeprefix("gw") or 0)
_home = Path(os.environ["SLUICE_TEST_HOME"])
_postgres = stack_postgres.PostgresServer(
    home=_home / "postgres", port=int(os.environ["SLUICE_TEST_POSTGRES_PORT"]), fast_and_unsafe=True
)
_redis = stack_redis.RedisServer(home=_home / "redis", port=int(os.environ["SLUICE_TEST_REDIS_PORT"]))
_database = f"sluice_{_worker or 'main'}"
_numbers = range(_index * REDIS_NUMBERS_A_WORKER, (_index + 1) * REDIS_NUMBERS_A_WORKER)


def _environment() -> dict[str, str]:
    money, broker, cache = (_redis.url(number) for number in _numbers)
    home = _home / f"home-{_worker or 'main'}"
    (home / "static").mkdir(parents=True, exist_ok=True)  # whitenoise warns of a missing one
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SLUICE_MODE": "test",
        "SLUICE_HOME": str(home),
        "SLUICE_PORT": "8000",
        "SLUICE_PUBLIC_URL": "http://testserver",
        "DATABASE_URL": _postgres.url(_database),
        "REDIS_URL": money,
        "SLUICE_MONEY_REDIS_URL": money,
        "SLUICE_BROKER_URL": broker,
        "SLUICE_CACHE_URL": cache,
        "SLUICE_ALLOW_PRIVATE_UPSTREAMS": "1",
        "SLUICE_LOG_LEVEL": "WARNING",
    }


for _name in [
    name for name in os.environ if name.startswith(("SLUICE_", "EMAIL_")) and not name.startswith("SLUICE_TEST_")
]:
    if _name not in ("SLUICE_SECRET_KEY", "SLUICE_MASTER_KEY", "SLUICE_PEPPER"):
        del os.environ[_name]  # a developer's own settings do not reach the tests
hypothesis_settings.register_profile(  # no deadline: how long one example takes says how busy the machine is
    "sluice", deadline=None, max_examples=examples(100)
)
hypothesis_settings.load_profile("sluice")
os.environ.update(_environment())

import django  # noqa: E402 - reads the environment written above

django.setup()

from django.conf import settings as django_settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402
from django.test import TransactionTestCase  # noqa: E402

# Each test's client makes the middleware anew, which otherwise looks through all static files there are, for a page that asks for none.
django_settings.WHITENOISE_AUTOREFRESH = True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The controller's workers inherit its environment: were Django's variable in it, pytest-django would load the settings in each
    worker before this file gives it its own database."""
    if not _worker and session.config.getoption("dist", "no") != "no":
        os.environ.pop("DJANGO_SETTINGS_MODULE", None)
        gc.enable()  # the controller collects nothing


# --- The order ----------------------------------------------------------------------------------------------------
# What takes long waits more than it works. It begins first, each row in a worker of its own and one test after the other: so they leave
# each other alone, the browser tests share one installation, and no core is left with a long test when the others are done. What is
# within a row, and all the rest, stays in random order.
FIRST = (
    ("tests/e2e/", "tests/gateway/test_crash_points.py"),
    ("tests/stack/test_up.py", "tests/billing/ledger/test_kill.py", "tests/guardrails/test_cluster.py"),
    ("tests/chaos/", "tests/gateway/test_faults.py"),
)


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the collector need not walk through it between tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`--dist worksteal` gives each worker a run of neighbours, and takes from the end of the longest: the rows stand where the runs begin."""
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    rows: list[list[pytest.Item]] = [[] for _ in range(workers)]
    rest: list[pytest.Item] = []
    places = [path for paths in FIRST for path in paths]
    for item in items:
        row = next((number for number, paths in enumerate(FIRST) if item.nodeid.startswith(paths)), None)
        (rest if row is None else rows[row % workers]).append(item)
    for first in rows:  # a folder's tests in one piece: its installation ends after the last of them
        first.sort(key=lambda item: next(place for place, path in enumerate(places) if item.nodeid.startswith(path)))
    left, ordered = len(items), []
    for number, first in enumerate(rows):
        share = left // (workers - number)
        some = max(0, share - len(first))
        ordered += first + rest[:some]
        rest = rest[some:]
        left = len(items) - len(ordered)
    items[:] = ordered + rest


# --- The database -----------------------------------------------------------------------------------------------------
_opened: weakref.WeakSet[Any] = weakref.WeakSet()


def _remember(connection: Any, **_: Any) -> None:
    _opened.add(connection)


connection_created.connect(_remember)


def _close_all_connections() -> None:
    """Those of every thread: executors of async tests keep theirs."""
    for connection in list(_opened):
        connection.inc_thread_sharing()
        try:
            connection.close()
        finally:
            connection.dec_thread_sharing()
    for connection in connections.all(initialized_only=True):
        if hasattr(connection, "close_pool"):
            connection.close_pool()


_standing = ""
"""Of which template the worker's database is a clean copy. Empty: a test has written to it, or there is none."""
_parked: set[str] = set()
"""Clean copies that wait under another name."""


def _stand_on(template: str) -> None:
    """Make the worker's database a clean copy of this template: the one it is, the one that is parked, or a new one."""
    global _standing
    if _standing == template:
        return
    _close_all_connections()
    with psycopg.connect(_postgres.admin_url(), autocommit=True) as admin:
        if _standing and not _somebody_in(admin, _database):
            admin.execute(f"ALTER DATABASE {_database} RENAME TO {_database}_{_standing}")
            _parked.add(_standing)
        else:
            _postgres.drop_database(_database)
        if template in _parked:
            admin.execute(f"ALTER DATABASE {_database}_{template} RENAME TO {_database}")
            _parked.remove(template)
        else:
            _postgres.create_database(_database, template=TEMPLATES[template])
    _standing = template


def _somebody_in(admin: psycopg.Connection, database: str) -> bool:
    found = admin.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [database]).fetchone()
    return found is not None


def _make_templates_once() -> None:
    """The first worker migrates, then makes the cast, and leaves copies for the others, who wait here meanwhile."""
    from django.core.management import call_command

    from tests.cast import make_cast

    with psycopg.connect(_postgres.admin_url(), autocommit=True) as admin:
        admin.execute("SELECT pg_advisory_lock(1)")
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATES["cast"]]).fetchone():
            return
        _postgres.drop_database(_database)
        _postgres.create_database(_database)
        call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
        call_command("migrate_workspaces", verbosity=0)
        _close_all_connections()
        _postgres.create_database(TEMPLATES["empty"], template=_database)
        make_cast()
        _close_all_connections()
        _postgres.create_database(TEMPLATES["cast"], template=_database)


def _restore_after_transactional_test(_: TransactionTestCase) -> None:
    global _standing
    _close_all_connections()
    _standing = ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture opens the database, it is the clean copy that the test wants. (The first test of all makes it: django_db_setup.)"""
    names = getattr(item, "fixturenames", ())
    if _templates_are_made and ("db" in names or "transactional_db" in names or item.get_closest_marker("django_db")):
        _stand_on("cast" if "cast" in names or "committed_cast" in names else "empty")


# Django's own way is TRUNCATE, which knows neither other schemas nor tables that refuse it.
TransactionTestCase._fixture_teardown = _restore_after_transactional_test  # type: ignore[method-assign]


_templates_are_made = False


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    global _templates_are_made
    with django_db_blocker.unblock():
        _make_templates_once()
        _stand_on("empty")
    _templates_are_made = True
    yield
    with django_db_blocker.unblock():
        _close_all_connections()


@pytest.fixture(autouse=True)
def _public_schema_again() -> Iterator[None]:
    """A rolled-back test takes its `SET search_path` back; the connection must not believe otherwise in the next test."""
    yield
    for connection in connections.all(initialized_only=True):
        connection.set_schema_to_public()


# --- Redis ------------------------------------------------------------------------------------------------------------
_flusher = redis.Redis(port=_redis.port, password=_redis.password)


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    """Empty this worker's three numbers. A module whose servers live longer than a test overrides this fixture."""
    with _flusher.pipeline(transaction=False) as pipeline:
        for number in _numbers:
            pipeline.execute_command("SELECT", number)
            pipeline.execute_command("FLUSHDB")
        pipeline.execute()


@pytest.fixture
def money_redis_url() -> str:
    return _redis.url(_numbers[0])


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[stack_redis.RedisServer]:
    """A private Redis with an append-only file: `kill()`, `start()`, `url()`."""
    with stack_redis.running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def postgres_server(tmp_path: Path) -> Iterator[stack_postgres.PostgresServer]:
    """A private PostgreSQL with durable settings: `kill()`, `start()`, `url()`, `admin_url()`."""
    with stack_postgres.running(tmp_path / "postgres", fast_and_unsafe=False) as server:
        yield server


@pytest.fixture
def migrated_postgres(tmp_path: Path) -> Iterator[stack_postgres.PostgresServer]:
    """The same with our shared tables in it: copied, where it was made before in this run."""
    from tests.rig.prepared import prepare

    server = stack_postgres.PostgresServer(home=tmp_path / "postgres")
    try:
        prepare(server)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def sluice_environment() -> dict[str, str]:
    """The variables for a process of ours that a test starts (a gateway, a worker, a command) on this worker's servers."""
    with contextlib.suppress(KeyError):
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_XDIST_WORKER": os.environ["PYTEST_XDIST_WORKER"]}
    return {**os.environ, "PYTHONPATH": str(ROOT)}

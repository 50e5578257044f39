"""A small installation of its own for the gateway's tests: database, money Redis, simulator and a gateway process, as `make up` runs them.

It lives as long as the test session of one xdist worker. `at_home` lets the test process act on its stores with the product's own actions.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.db import connections

from billing.domain import keys as money_keys
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from billing.models import Entry
from config.stack import postgres as stack_postgres
from config.stack import redis as stack_redis
from config.stack.process import end, spawn, wait_until
from config.stack.web import listen
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from tests.rig.simulator import ROOT, Simulator
from workspaces import actions, tenancy
from workspaces.audit import Actor
from workspaces.models import User, Workspace

TEMPLATE = "sluice_template"


@dataclass
class GatewayProcess:
    """One gateway, started as `make up` starts it. The listening socket is ours, so a restart keeps the port."""

    environment: Mapping[str, str]
    log: Path
    drain_s: int = 10
    module: str = "config.stack.web"
    listener: socket.socket = field(default_factory=lambda: listen("127.0.0.1", 0))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def start(self, **extra: str) -> GatewayProcess:
        command = [
            sys.executable,
            "-m",
            self.module,
            "--fd",
            str(self.listener.fileno()),
            "--drain",
            str(self.drain_s),
        ]
        with self.log.open("ab") as log:
            self.process = spawn(
                command, env={**self.environment, **extra}, log=log, cwd=ROOT, pass_fds=[self.listener.fileno()]
            )
        wait_until(self.ready, timeout_s=30, process=self.process, what="the gateway")
        return self

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM, as a deploy does; the exit code."""
        assert self.process is not None
        return end(self.process, steps=[(signal.SIGTERM, self.drain_s + 15)])

    def close(self) -> None:
        if self.process is not None:
            end(self.process, steps=[(signal.SIGTERM, 5)])
        self.listener.close()


@dataclass
class Shop:
    """A workspace with a simulator credential and a key, ready to call."""

    world: World
    workspace: Workspace
    owner: User
    key: str
    key_id: str

    @property
    def actor(self) -> Actor:
        return Actor.person(self.owner)

    def do(self, action: Callable[..., Any], **arguments: Any) -> Any:
        """Run one of the product's actions in this workspace, committed, as its owner."""
        with self.world.at_home():
            return action(workspace=self.workspace, by=self.actor, **arguments)

    def new_key(self, **pins: Any) -> str:
        return str(self.do(actions.create_virtual_key, name="another", **pins).text)

    def entries(self, count: int, timeout_s: float = 30) -> list[Entry]:
        """The ledger's rows, oldest first, once there are `count` of them (books what the stream holds meanwhile)."""
        until, pause_s = time.monotonic() + timeout_s, 0.02
        while True:
            found = self.booked()
            if len(found) >= count or time.monotonic() > until:
                assert len(found) == count, [(row.state, row.error, row.cost_nano) for row in found]
                return found
            time.sleep(pause_s)
            pause_s = min(
                0.25, 1.5 * pause_s
            )  # what is due at once is seen at once; what takes long is not hindered by the looking

    def booked(self) -> list[Entry]:
        with self.world.at_home():
            drain(money_stream(), money_keys.partition_of(self.workspace.pk))
            with tenancy.entered(self.workspace):
                return list(Entry.objects.filter(workspace_id=self.workspace.pk).order_by("at", "leg"))

    def held_nano(self) -> int:
        """Nano-dollars and calls that the money Redis still holds for this workspace."""
        with self.world.at_home():
            return sum(counter.held for counter in control.read_counters(sync_store(), self.workspace.pk).values())

    def open_holds(self) -> list[str]:
        with self.world.at_home():
            return control.open_holds(sync_store(), self.workspace.pk)


_WORLDS = itertools.count()


class World:
    def __init__(
        self,
        home: Path,
        environment: Mapping[str, str],
        unblock: Callable[[], Any],
        *,
        name: str = "",
        durable: bool = False,
    ) -> None:
        self.home = home
        self._unblock = unblock
        self._base = dict(environment)
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        # A name of its own: two worlds in one worker must not drop each other's database.
        self.database = f"sluice_gateway{name}_{worker}_{next(_WORLDS)}"
        self._postgres = stack_postgres.PostgresServer(
            home=Path(os.environ["SLUICE_TEST_HOME"]) / "postgres",
            port=int(os.environ["SLUICE_TEST_POSTGRES_PORT"]),
            fast_and_unsafe=True,
        )
        self.redis = stack_redis.RedisServer(home=home / "redis", settings={"appendonly": "yes" if durable else "no"})
        self.simulator = Simulator(home / "simulator")
        self.gateways: list[GatewayProcess] = []
        self._shops = 0
        self._kept: Any = None

    def start(self) -> None:
        self._postgres.drop_database(self.database)
        self._postgres.create_database(self.database, template=TEMPLATE)
        self.redis.start()
        self.simulator.start()

    def stop(self) -> None:
        for gateway in self.gateways:
            gateway.close()
        self.simulator.stop()
        self.redis.stop()
        if self._kept is not None:
            self._kept.close()
        self._postgres.drop_database(self.database)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self._base,
            "DATABASE_URL": self._postgres.url(self.database),
            "REDIS_URL": self.redis.url(0),
            "SLUICE_MONEY_REDIS_URL": self.redis.url(0),
            "SLUICE_BROKER_URL": self.redis.url(1),
            "SLUICE_CACHE_URL": self.redis.url(2),
            "SLUICE_SIMULATOR_URL": self.simulator.base_url,
            "SLUICE_FIRST_BYTE_SECONDS": "2",
            "SLUICE_IDLE_SECONDS": "2",
            "SLUICE_TOTAL_SECONDS": "20",
        }

    def gateway(self, *, drain_s: int = 10, **extra: str) -> GatewayProcess:
        """One more gateway on the same stores."""
        number = len(self.gateways)
        gateway = GatewayProcess({**self.environment, **extra}, self.home / f"gateway-{number}.log", drain_s)
        self.gateways.append(gateway)
        return gateway.start()

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """Inside the block, this thread's Django works on this installation's stores, through a connection that is kept for it."""
        with self._unblock():
            ordinary, stores = connections["default"], (settings.MONEY_REDIS_URL, settings.SIMULATOR_URL)
            connections["default"] = mine = self._connection()
            settings.MONEY_REDIS_URL, settings.SIMULATOR_URL = self.redis.url(0), self.simulator.base_url
            try:
                yield
            finally:
                settings.MONEY_REDIS_URL, settings.SIMULATOR_URL = stores
                connections["default"] = ordinary
                mine.set_schema_to_public()
                if not self._is_kept(mine):
                    mine.close()

    def _connection(self) -> Any:
        """The main thread's, made once; another thread's, which would not outlive it, for this time only."""
        if self._kept is None or not self._is_kept(self._kept):
            made: Any = connections.create_connection("default")
            made.settings_dict = {
                **made.settings_dict, "NAME": self.database, "OPTIONS": {**made.settings_dict["OPTIONS"], "pool": False}
            }  # fmt: skip
            if threading.current_thread() is not threading.main_thread():
                return made
            self._kept = made
        return self._kept

    def _is_kept(self, wrapper: Any) -> bool:
        return wrapper is self._kept and threading.current_thread() is threading.main_thread()

    def shop(
        self, *, provider: str = "simulator", base_url: str = "", secret: str = "", credential: bool = True,
        access_settings: Mapping[str, object] | None = None, **pins: Any,
    ) -> Shop:  # fmt: skip
        """A new workspace, with a credential and a key that pins what is given."""
        self._shops += 1
        with self.at_home():
            owner = User.objects.create(email=f"owner{self._shops}@example.com", password="!")
            workspace = actions.create_workspace(
                slug=f"shop-{self._shops}", name="Shop", owner=owner, by=Actor.person(owner)
            )
            if credential:
                actions.add_credential(
                    workspace=workspace,
                    by=Actor.person(owner),
                    provider=provider,
                    secret=secret,
                    base_url=base_url,
                    access_settings=access_settings,
                    verify=False,
                )
            minted = actions.create_virtual_key(workspace=workspace, by=Actor.person(owner), name="first", **pins)
        return Shop(self, workspace, owner, minted.text, str(minted.row.id))

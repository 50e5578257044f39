"""What a benchmark runs: real PostgreSQL and Redis, an instant upstream, one gateway on one core, nginx before the same upstream."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from config.stack import postgres, redis
from config.stack.process import end, free_port, spawn, wait_until
from config.stack.web import listen

ROOT = Path(__file__).resolve().parents[2]
GATEWAY_CORE, OTHERS_CORE = 0, 1


@dataclass(frozen=True)
class Stack:
    gateway_url: str
    upstream_url: str
    nginx_url: str
    """Empty when nginx is not installed."""
    key: str
    gateway_pid: int
    environment: dict[str, str]

    def gateway_cpu_s(self) -> float:
        """Processor time of the gateway so far: unlike calls a second, it does not depend on who else is using the machine."""
        fields = Path(f"/proc/{self.gateway_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(home: Path, *, budgets: int) -> Iterator[Stack]:
    with contextlib.ExitStack() as parts:
        database = parts.enter_context(postgres.running(home / "postgres"))
        store = parts.enter_context(redis.running(home / "redis"))
        _pin(OTHERS_CORE, *(part.process for part in (database, store) if part.process))
        upstream = parts.enter_context(_simulator(home))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SLUICE_MODE": "test",
            "SLUICE_HOME": str(home / "home"),
            "DATABASE_URL": database.url(),
            "REDIS_URL": store.url(0),
            "SLUICE_SIMULATOR_URL": f"{upstream}/v1",
            "SLUICE_ALLOW_PRIVATE_UPSTREAMS": "1",
            "SLUICE_LOG_LEVEL": "WARNING",
            "SLUICE_SECRET_KEY": secrets.token_urlsafe(50),
            "SLUICE_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "SLUICE_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        (home / "home").mkdir()
        key = _provision(environment, budgets)
        url, pid = parts.enter_context(_gateway(home, environment))
        nginx = parts.enter_context(_nginx(home, upstream)) if shutil.which("nginx") else ""
        yield Stack(url, upstream, nginx, key, pid, environment)


def _provision(environment: dict[str, str], budgets: int) -> str:
    command = [sys.executable, "-m", "tests.bench.provision", str(budgets), "3" if budgets == 7 else "0"]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    return str(json.loads(done.stdout.splitlines()[-1])["key"])


@contextlib.contextmanager
def _simulator(home: Path) -> Iterator[str]:
    port = free_port()
    with (home / "simulator.log").open("ab") as log:
        process = spawn([sys.executable, "-m", "gateway.simulator", "--port", str(port)], log=log, cwd=ROOT)
    _pin(OTHERS_CORE, process)
    url = f"http://127.0.0.1:{port}/simulator"
    try:
        wait_until(lambda: _answers(f"{url}/v1/models"), timeout_s=20, process=process, what="the simulator")
        yield url
    finally:
        end(process, steps=[(signal.SIGTERM, 5)])


@contextlib.contextmanager
def _gateway(home: Path, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    listener = listen("127.0.0.1", 0)
    command = [sys.executable, "-m", "config.stack.web", "--fd", str(listener.fileno()), "--drain", "5"]
    with (home / "gateway.log").open("ab") as log:
        process = spawn(command, env=environment, log=log, cwd=ROOT, pass_fds=[listener.fileno()])
    _pin(GATEWAY_CORE, process)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        wait_until(lambda: _answers(f"{url}/readyz"), timeout_s=30, process=process, what="the gateway")
        yield url, process.pid
    finally:
        end(process, steps=[(signal.SIGTERM, 15)])
        listener.close()


@contextlib.contextmanager
def _nginx(home: Path, upstream: str) -> Iterator[str]:
    port, server = free_port(), httpx.URL(upstream).netloc.decode()
    configuration = home / "nginx.conf"
    configuration.write_text(f"""
        daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/nginx.log;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
            uwsgi_temp_path {home}; scgi_temp_path {home};
            upstream simulator {{ server {server}; keepalive 256; }}
            server {{ listen 127.0.0.1:{port} backlog=2048;
                location / {{ proxy_pass http://simulator; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
        }}
    """)
    with (home / "nginx.out").open("ab") as log:
        process = spawn(
            ["taskset", "-c", str(GATEWAY_CORE), "nginx", "-e", str(home / "nginx.log"), "-c", str(configuration)],
            log=log,
        )
    try:
        wait_until(
            lambda: _answers(f"http://127.0.0.1:{port}/simulator/v1/models"),
            timeout_s=10,
            process=process,
            what="nginx",
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process, steps=[(signal.SIGQUIT, 5)])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _pin(core: int, *processes: subprocess.Popen[bytes]) -> None:
    """Every thread of the processes on one core, so that what is measured has its core to itself."""
    for process in processes:
        subprocess.run(["taskset", "-a", "-c", "-p", str(core), str(process.pid)], check=True, capture_output=True)

"""What a benchmark runs: real PostgreSQL and Redis, an instant upstream and a streaming one, one gateway on one core, nginx on the same core before
the same upstreams. The instant upstream is nginx with a canned answer, or the simulator where nginx is not installed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from config.stack import postgres, redis
from config.stack.process import end, free_port, spawn, wait_until
from config.stack.web import listen
from tests.bench import certificates

ROOT = Path(__file__).resolve().parents[2]
GATEWAY_CORE, OTHERS_CORE = 0, 1
CANNED = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"sim-instant","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"Hello!","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
    '"service_tier":"default","system_fingerprint":"fp_bench","usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
    '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
    '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}'
)


@dataclass(frozen=True)
class Stack:
    gateway_url: str
    upstream_url: str
    streaming_url: str
    nginx_url: str
    """Empty when nginx is not installed; /v1 leads to the instant upstream, /stream/v1 to the streaming one."""
    keys: dict[str, str]
    gateway_pid: int
    nginx_pids: list[int]
    redis_pid: int
    environment: dict[str, str]
    home: Path

    def cpu_s(self, *pids: int) -> float:
        """Processor time so far: unlike calls a second, it hardly depends on who else is using the machine."""
        return sum(_cpu_s(pid) for pid in pids)

    def memory_mb(self) -> float:
        """What the gateway has of its own in memory (proportional share)."""
        return memory_mb(self.gateway_pid)


def memory_mb(*pids: int) -> float:
    """Proportional share of memory of some processes."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(text.partition("Pss:")[2].split()[0]) for text in texts) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def postgres_cpu_s(home: Path) -> float:
    """Processor time so far of the PostgreSQL of an installation, with the connections that it has had."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd").startswith(str(home / "postgres")):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


@contextlib.contextmanager
def running(home: Path, *, simulated: bool = False) -> Iterator[Stack]:
    """`simulated`: the upstream is the simulator, which can be told to be slow, in place of a canned answer."""
    with contextlib.ExitStack() as parts:
        database = parts.enter_context(postgres.running(home / "postgres"))
        store = parts.enter_context(redis.running(home / "redis"))
        _pin(OTHERS_CORE, *(part.process for part in (database, store) if part.process))
        has_nginx = shutil.which("nginx") is not None and not simulated
        upstream, encrypted = (
            parts.enter_context(_canned(home)) if has_nginx else (parts.enter_context(_simulator(home)), "")
        )
        streaming = parts.enter_context(_streaming(home))
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
        keys = _provision(environment, f"{upstream}/v1", f"{streaming}/v1", *([f"{encrypted}/v1"] if encrypted else []))
        url, pid = parts.enter_context(gateway(home, environment))
        nginx, nginx_pids = parts.enter_context(_nginx(home, upstream, streaming)) if has_nginx else ("", [])
        with store.client() as client:
            redis_pid = int(client.info("server")["process_id"])
        yield Stack(url, upstream, streaming, nginx, keys, pid, nginx_pids, redis_pid, environment, home)


@contextlib.contextmanager
def booking(stack: Stack) -> Iterator[int]:
    """A ledger writer at work on the others' core, with nothing left to book; its process id."""
    process = _books(stack, "write")
    try:
        yield process.pid
    finally:
        end(process, steps=[(signal.SIGTERM, 5)])


def waits(stack: Stack, seconds: float) -> subprocess.Popen[bytes]:
    """Begins to look at how long events wait for the ledger; prints JSON when the time is over."""
    return _books(stack, "watch", str(seconds))


def _books(stack: Stack, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bench.books", *words]
    process = subprocess.Popen(command, env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE)
    _pin(OTHERS_CORE, process)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise RuntimeError("the ledger's writer did not start")
    return process


def _provision(environment: dict[str, str], *upstreams: str) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.bench.provision", *upstreams]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    keys: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return keys


@contextlib.contextmanager
def _streaming(home: Path) -> Iterator[str]:
    port = free_port()
    with (home / "streaming.log").open("ab") as log:
        process = spawn([sys.executable, "-m", "tests.bench.upstream", "--port", str(port)], log=log, cwd=ROOT)
    _pin(OTHERS_CORE, process)
    try:
        wait_until(lambda: _listens(port), timeout_s=20, process=process, what="the streaming upstream")
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process, steps=[(signal.SIGTERM, 5)])


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
def gateway(home: Path, environment: dict[str, str], module: str = "config.stack.web") -> Iterator[tuple[str, int]]:
    """A gateway on its core: (address, process id)."""
    listener = listen("127.0.0.1", 0)
    command = [sys.executable, "-m", module, "--fd", str(listener.fileno()), "--drain", "5"]
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
def _canned(home: Path) -> Iterator[tuple[str, str]]:
    """nginx that gives one and the same answer: (address, the same over TLS)."""
    port, encrypted = free_port(), free_port()
    certificate, key = certificates.make(home)
    says = f"default_type application/json; return 200 '{CANNED}';"
    server = f"""
        server {{ listen 127.0.0.1:{port} backlog=4096; {says} }}
        server {{ listen 127.0.0.1:{encrypted} ssl backlog=4096; ssl_certificate {certificate}; ssl_certificate_key {key}; {says} }}
    """
    with _nginx_process(home, "canned", OTHERS_CORE, server, port):
        yield f"http://127.0.0.1:{port}", f"https://localhost:{encrypted}"


@contextlib.contextmanager
def _nginx(home: Path, upstream: str, streaming: str) -> Iterator[tuple[str, list[int]]]:
    port = free_port()
    to = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;'
    server = f"""
        upstream instant {{ server {httpx.URL(upstream).netloc.decode()}; keepalive 256; }}
        upstream streaming {{ server {httpx.URL(streaming).netloc.decode()}; keepalive 256; }}
        server {{ listen 127.0.0.1:{port} backlog=4096;
            location / {{ proxy_pass http://instant; {to} }}
            location /stream/ {{ proxy_pass http://streaming/; {to} }} }}
    """
    with _nginx_process(home, "proxy", GATEWAY_CORE, server, port) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield f"http://127.0.0.1:{port}", [pid, *map(int, children)]


@contextlib.contextmanager
def _nginx_process(home: Path, name: str, core: int, server: str, port: int) -> Iterator[int]:
    configuration = home / f"{name}.conf"
    configuration.write_text(f"""
        daemon off; worker_processes 1; pid {home}/{name}.pid; error_log {home}/{name}.log;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 1000000000; client_body_buffer_size 256k;
            client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
            uwsgi_temp_path {home}; scgi_temp_path {home};
            {server}
        }}
    """)
    with (home / f"{name}.out").open("ab") as log:
        process = spawn(
            ["taskset", "-c", str(core), "nginx", "-e", str(home / f"{name}.log"), "-c", str(configuration)], log=log
        )
    try:
        wait_until(lambda: _listens(port), timeout_s=10, process=process, what="nginx")
        yield process.pid
    finally:
        end(process, steps=[(signal.SIGQUIT, 5), (signal.SIGTERM, 5)])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _pin(core: int, *processes: subprocess.Popen[bytes]) -> None:
    """Every thread of the processes on one core, so that what is measured has its core to itself."""
    for process in processes:
        subprocess.run(["taskset", "-a", "-c", "-p", str(core), str(process.pid)], check=True, capture_output=True)

"""The other gateways of the comparison, where `make bench-rivals` installed them: LiteLLM's proxy and Portkey's gateway, one process each.

Both as is fastest: no database, so no accounting and no log of calls. LiteLLM refuses to start without one master key, which it
compares; it is started as its page on production says (one Uvicorn worker, LITELLM_MODE=PRODUCTION, LITELLM_LOG=ERROR), Portkey as its own
`npm run start:node`. Both forward to the same canned upstream, on the same core.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from config.stack.process import end, free_port, spawn, wait_until
from tests.bench.load import BODY

ROOT = Path(__file__).resolve().parents[2]
LITELLM, PORTKEY = "LiteLLM proxy", "Portkey gateway"


def folder() -> Path:
    """Where they are installed: beside the state of `make up`, outside the environment of the product."""
    return Path(os.environ.get("SLUICE_HOME") or ROOT / "var").resolve() / "rivals"


@dataclass(frozen=True)
class Rival:
    name: str
    base: str
    key: str
    headers: dict[str, str]
    pid: int
    started_s: float
    """From the start of the process to its first good answer"""

    @property
    def interpreter(self) -> str:
        """What runs it, with its version: a comparison of two programs should not be one of two builds of Python."""
        program = os.readlink(f"/proc/{self.pids[-1]}/exe")
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        return f"{Path(program).name.rstrip('.0123456789')} {version.lstrip('v')}"

    @property
    def pids(self) -> list[int]:
        """With its children: a proxy may be a launcher and a worker."""
        return _tree(self.pid)


@contextlib.contextmanager
def running(home: Path, upstream: str, core: int) -> Iterator[list[Rival]]:
    """Those that are installed, each with a good first answer; the others are left out."""
    with contextlib.ExitStack() as parts:
        yield [
            parts.enter_context(rival)
            for rival in (_litellm(home, upstream, core), _portkey(home, upstream, core))
            if rival
        ]


def _litellm(home: Path, upstream: str, core: int) -> contextlib.AbstractContextManager[Rival] | None:
    program = folder() / "litellm" / "bin" / "litellm"
    if not program.exists():
        return None
    settings = home / "litellm.yaml"
    model = {"model": "openai/sim-instant", "api_base": f"{upstream}/v1", "api_key": "none"}
    settings.write_text(json.dumps({
        "model_list": [{"model_name": "sim-instant", "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"disable_spend_logs": True, "disable_error_logs": True},
    }))  # fmt: skip
    port = free_port()
    command = [
        str(program),
        "--config",
        str(settings),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
        "--telemetry",
        "False",
    ]
    key = f"sk-{secrets.token_hex(32)}"
    quiet = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "NO_DOCS": "True",
    }
    return _started(LITELLM, command, quiet, f"http://127.0.0.1:{port}/v1", key, {}, home / "litellm.log", core)


def _portkey(home: Path, upstream: str, core: int) -> contextlib.AbstractContextManager[Rival] | None:
    program = folder() / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node")
    if node is None or not program.exists():
        return None
    port = free_port()
    command = [node, str(program), f"--port={port}", "--headless"]
    address = httpx.URL(upstream)
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream}/v1"}
    trusted = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": f"{address.host},localhost,127.0.0.1"}
    return _started(
        PORTKEY, command, trusted, f"http://127.0.0.1:{port}/v1", "none", headers, home / "portkey.log", core
    )


@contextlib.contextmanager
def _started(
    name: str,
    command: list[str],
    settings: dict[str, str],
    base: str,
    key: str,
    headers: dict[str, str],
    log: Path,
    core: int,
) -> Iterator[Rival]:
    began = time.perf_counter()
    # Python may keep what it compiles: a module that LiteLLM tries to import in vain with every call was compiled with every call.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("ab") as out:
        process = spawn(["taskset", "-c", str(core), *command], env={**kept, **settings}, log=out)
    try:
        wait_until(lambda: _answers(base, key, headers), timeout_s=120, process=process, what=name)
        yield Rival(name, base, key, headers, process.pid, time.perf_counter() - began)
    finally:
        end(process, steps=[(signal.SIGTERM, 10)])


def _answers(base: str, key: str, headers: dict[str, str]) -> bool:
    head = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
    try:
        return httpx.post(f"{base}/chat/completions", headers=head, content=BODY, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found

"""A real `make up` and a real Chromium. Nothing is faked: mail goes through SMTP to the inbox, calls through the gateway to the simulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect, sync_playwright

from config.env import ROOT
from config.stack.process import free_port
from guardrails.demo import story
from tests.rig.prepared import prepare_home

expect.set_options(timeout=20_000)  # as for every other step: what takes long on a busy machine is not wrong
PICTURES = ROOT / "docs" / "pictures"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
CALM: Any = {"reduced_motion": "reduce"}
"""A page that moves is painted again sixty times a second, which in a browser without a graphics card takes a third of a core."""
SIZE = "1" if os.environ.get("SLUICE_TEST_PICTURES") else "0.003"
PASSWORD = "a sluice holds the river back"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One stack a run: all browser tests go to one xdist worker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1800 if os.environ.get("SLUICE_TEST_PICTURES") else 240))
            item.add_marker(pytest.mark.xdist_group("e2e"))


@dataclass(frozen=True, slots=True)
class Site:
    """A running installation as a newcomer has it."""

    url: str
    inbox: str
    home: Path

    def mail_to(self, address: str, *, timeout_s: float = 20) -> str:
        """The newest mail to an address, as plain text."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for path in sorted((self.home / "inbox").glob("*.eml"), reverse=True):
                text = path.read_text(errors="replace")
                if f"To: {address}" in text:
                    return text.replace("=\n", "").replace("=3D", "=")
            time.sleep(0.1)
        raise AssertionError(f"no mail to {address} within {timeout_s} s")

    def call(self, key: str, **body: object) -> dict[str, object]:
        """One chat completion, as an application makes it."""
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            data=json.dumps(
                {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}], **body}
            ).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Sluice-Customer": "acme"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return dict(json.load(response))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """It ends with the browser's tests: at rest it takes a tenth of a core, which the others of the run would miss."""
    running = os.environ.get("SLUICE_TEST_PICTURES_OF", "")
    if running:  # a `make demo` that is up already: its three months need not be written once more
        yield _running(Path(running))
        return
    home = tmp_path_factory.mktemp("up") / "home"
    prepare_home(home)
    port = free_port()
    foreign = ("SLUICE_", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "PYTEST_", "DJANGO_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    said = home.with_suffix(".out")
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "config.stack", "up", "--end-with-parent"],  # also when the test run is killed
            cwd=ROOT,
            env={**plain, "SLUICE_HOME": str(home), "SLUICE_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(process, said)
        found = re.search(r"inbox\s+(http://\S+)", said.read_text())
        assert found, said.read_text()
        yield Site(f"http://127.0.0.1:{port}", found.group(1).rstrip("/"), home)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(45)


def _running(home: Path) -> Site:
    values = dict(line.split("=", 1) for line in (home / "run.env").read_text().splitlines() if "=" in line)
    return Site(values["SLUICE_PUBLIC_URL"].strip("'\""), values["SLUICE_INBOX_URL"].strip("'\"").rstrip("/"), home)


def _wait_until_up(process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + 120
    while not ("Sluice is up" in said.read_text() and re.search(r"worker\s+ready", said.read_text())):
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install -y chromium, then the browser tests run")
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield running
    running.close()


@dataclass(slots=True)
class Complaints:
    """What the browser's console complained about: nothing, in a page that keeps to its content security policy."""

    found: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        # An HTTP status that a test provokes (404, 422) is not the page's fault; a refused style or script is.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.found.append(message.text)


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    noted = Complaints()
    yield noted
    assert noted.found == []


@pytest.fixture
def page(browser: Browser, site: Site, complaints: Complaints) -> Iterator[Page]:
    """A fresh browser on a desk, light theme, that fails the test on anything its console complains about."""
    context = browser.new_context(
        viewport=DESK,
        color_scheme="light",
        base_url=site.url,
        permissions=["clipboard-read", "clipboard-write"],
        **CALM,
    )
    context.set_default_timeout(20_000)
    opened = context.new_page()
    opened.on("console", lambda message: complaints.note(message))
    opened.on("pageerror", lambda error: complaints.found.append(str(error)))
    yield opened
    context.close()


@pytest.fixture(scope="package")
def told(site: Site) -> str:
    """The demo workspace in the running installation; answers who owns it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLUICE_", "DJANGO_", "DATABASE", "REDIS"))
    }
    subprocess.run(
        [sys.executable, "manage.py", "demo", "--size", SIZE],
        cwd=ROOT, env={**environment, "SLUICE_HOME": str(site.home)}, check=True, timeout=1700, capture_output=True,
    )  # fmt: skip
    return story.OWNER


@pytest.fixture(scope="package")
def demo(site: Site, told: str, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Path:
    """Somebody signed in to the demo workspace: the file with their cookies."""
    state = tmp_path_factory.mktemp("demo") / "signed-in.json"
    context = browser.new_context(base_url=site.url, **CALM)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(told)
    page.get_by_label("Password").fill(story.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/w/**")
    context.storage_state(path=state)
    context.close()
    return state


def opened(
    browser: Browser, site: Site, state: Path | None, complaints: Complaints, theme: str, size: dict[str, int]
) -> Page:
    """A page with these cookies that notes what its console complains about."""
    context = browser.new_context(base_url=site.url, storage_state=state, color_scheme=theme, viewport=size, **CALM)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda message: complaints.note(message))
    page.on("pageerror", lambda error: complaints.found.append(str(error)))
    return page


def picture(page: Page, name: str) -> None:
    """A picture for the README and for whoever judges the looks. Taken only when asked for: painting a page takes a second of a core."""
    if not os.environ.get("SLUICE_TEST_PICTURES"):
        return
    PICTURES.mkdir(exist_ok=True)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")

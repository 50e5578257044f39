"""One reader of the environment; an example that names every variable; lock files that fit each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import env
from config.env import ENTRIES, ROOT, BadEnvironment, Environment

OUR_CODE = ("config", "gateway", "guardrails", "billing", "workspaces")
MAY_NAME_THE_SETTINGS = {
    "config/asgi.py",
    "config/celery.py",
}  # os.environ.setdefault("DJANGO_SETTINGS_MODULE", ...), as Django's template


def uses_of_the_environment(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb", "putenv"):
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (name.name for name in node.names if "env" in name.name)


def test_only_config_env_reads_the_environment() -> None:
    found = {}
    for path in (path for package in OUR_CODE for path in (ROOT / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        uses = list(uses_of_the_environment(path.read_text()))
        if uses and name != "config/env.py" and not (name in MAY_NAME_THE_SETTINGS and len(uses) == 1):
            found[name] = uses
    assert found == {}


def test_the_example_names_every_variable_and_is_up_to_date() -> None:
    text = (ROOT / ".env.example").read_text()
    assert text == env.example(), "write it anew: python -m config.env > .env.example"
    assert all(f"\n{entry.name}=" in text for entry in ENTRIES)


def test_the_example_shows_no_secret() -> None:
    secret = [entry.name for entry in ENTRIES if entry.secret]
    assert all(f"\n{name}=\n" in env.example() for name in secret)


def test_the_process_wins_over_what_make_up_wrote(tmp_path: Path) -> None:
    (tmp_path / "run.env").write_text("# by make up\nREDIS_URL=redis://127.0.0.1:1/0\nSLUICE_MAIL_FROM=a@b.example\n")
    read = Environment.read({"SLUICE_HOME": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:2/0"})
    assert read.text("REDIS_URL") == "redis://127.0.0.1:2/0"
    assert read.text("SLUICE_MAIL_FROM") == "a@b.example"
    assert "REDIS_URL" in read.given
    assert "SLUICE_PORT" not in read.given


@pytest.mark.parametrize("value", ["eight", "-1", "70000", "8 000", "١٢٣"])
def test_a_number_that_is_none_is_refused_by_name(tmp_path: Path, value: str) -> None:
    read = Environment.read({"SLUICE_HOME": str(tmp_path), "SLUICE_PORT": value})
    with pytest.raises(BadEnvironment, match="SLUICE_PORT"):
        read.number("SLUICE_PORT", low=1, high=65535)


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize(("smaller", "larger"), [("base", "up"), ("up", "dev")])
def test_a_larger_lock_file_contains_the_smaller_at_the_same_versions(smaller: str, larger: str) -> None:
    assert len(pins(smaller)) > 50
    assert {name: pins(larger).get(name) for name in pins(smaller)} == pins(smaller)


@pytest.mark.parametrize("name", ["base", "up", "dev"])
def test_every_locked_package_has_hashes_and_no_index_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text

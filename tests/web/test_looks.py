"""The templates, assets and tags themselves: what the content policy forbids is not written, what is referred to is there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.template.loader import get_template

from billing.prices import default_book
from billing.templatetags import sluice
from billing.views import charts
from config.env import ROOT
from gateway.providers.registry import PROVIDERS as SPOKEN
from workspaces.domain.providers import PROVIDERS
from workspaces.views import snippets, test_call

TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
OURS = sorted((ROOT / "static" / "sluice").glob("*"))
VENDORED = sorted(path for path in (ROOT / "static" / "vendor").rglob("*") if path.suffix in (".js", ".css", ".svg"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_a_template_compiles_and_writes_nothing_inline(path: Path) -> None:
    get_template(str(path.relative_to(ROOT / "templates")))
    text = path.read_text()
    if "mail" not in path.relative_to(ROOT / "templates").parts:  # mail programs know nothing but inline styles
        assert not re.search(r"<[^>]*\sstyle=", text)
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert not re.search(r"<script(?![^>]*src=)", text)
    assert "|safe" not in text
    assert "autoescape off" not in text
    assert not re.search(r"hx-on|hx-vals=['\"]js:|\[.*\]['\"]\s*hx-trigger", text), (
        "needs eval, which the policy forbids"
    )


def test_every_icon_in_use_is_in_the_sprite() -> None:
    sprite = (ROOT / "static/vendor/tabler/icons.svg").read_text()
    there = set(re.findall(r'<symbol id="([^"]+)"', sprite))
    used = {name for path in TEMPLATES for name in re.findall(r'{% icon "([^"]+)"', path.read_text())}
    used |= set(re.findall(r'_Entry\("\w+", "[^"]+", "([^"]+)"', (ROOT / "workspaces/views/frame.py").read_text()))
    used |= {name for path in TEMPLATES for name in re.findall(r'icon_name="([^"]+)"', path.read_text())}
    assert used <= there


@pytest.mark.parametrize("path", [*OURS, *VENDORED], ids=lambda path: path.name)
def test_an_asset_fetches_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(errors="replace")
    assert "sourceMappingURL" not in text
    assert not re.search(r"""(?:url\(|@import\s|fetch\(|src=)\s*["']?(?:https?:)?//""", text)
    assert "eval(" not in text or path.name.startswith("chart"), "the content policy forbids it"


def test_vendored_assets_name_their_version_and_licence() -> None:
    said = (ROOT / "static/vendor/README.md").read_text()
    for folder in (path for path in (ROOT / "static/vendor").iterdir() if path.is_dir()):
        assert f"`{folder.name}/" in said
        assert any(path.name.startswith("LICENSE") for path in folder.iterdir())


def test_snippets_carry_the_key_and_the_address_and_the_python_ones_are_python() -> None:
    made = snippets.snippets(base_url="https://sluice.example/v1", key="slk_abc", model="gpt-4o-mini")
    assert [one.slug for one in made] == ["python", "typescript", "curl", "langchain", "vercel"]
    for one in made:
        assert "https://sluice.example/v1" in one.text
        assert "slk_abc" in one.text
        assert "gpt-4o-mini" in one.text
    for one in made:
        if one.slug in ("python", "langchain"):
            compile(one.text, one.slug, "exec")


def test_a_model_s_name_cannot_leave_its_string_literal_in_a_snippet() -> None:
    made = snippets.snippets(base_url="https://x/v1", model="""m"'`$(rm)\\\n;""")
    assert all("$(" not in one.text and "m\"'" not in one.text for one in made)


def test_the_models_of_test_calls_are_priced_and_their_providers_spoken_to() -> None:
    book = default_book()
    for name in test_call.CHEAP_MODELS:
        assert book.meta(name, test_call.CHEAP_MODELS[name]) is not None, name


def test_every_provider_that_a_vault_takes_keys_for_is_spoken_to() -> None:
    assert set(PROVIDERS) <= set(SPOKEN)


@pytest.mark.parametrize(
    "number, shown",
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (9_999, "9,999"),
        (12_345, "12.3k"),
        (392_118, "392k"),
        (2_170_000, "2.17M"),
        (7_000_000_000, "7B"),
    ],
)
def test_counts_are_short_and_true(number: int | None, shown: str) -> None:
    assert sluice.count_short(number) == shown


@pytest.mark.parametrize("value, shown", [(None, "–"), (-1, "–"), (87, "87 ms"), (1234, "1.23 s")])
def test_durations_say_their_unit(value: int | None, shown: str) -> None:
    assert sluice.milliseconds(value) == shown


def test_a_time_is_shown_in_the_workspace_s_zone_and_exact_on_hover() -> None:
    shown = sluice.when(datetime(2020, 3, 29, 0, 30, tzinfo=UTC), "Europe/Berlin")
    assert (
        shown == '<time datetime="2020-03-29T00:30:00+00:00" title="2020-03-29 01:30:00 CET">29 Mar 2020 01:30</time>'
    )
    assert ">29 Mar 2020<" in sluice.when(datetime(2020, 3, 29, 0, 30, tzinfo=UTC), "Europe/Berlin", "day")
    now = datetime.now(UTC)
    assert f">{now.day} {now:%b %H:%M}<" in sluice.when(now), "this year goes without saying"


def test_a_bar_never_leaves_its_frame() -> None:
    assert 'width="100.00%"' in sluice.bar(150, 100, held=50)
    assert 'class="held"' not in sluice.bar(150, 100, held=50), "nothing is left to be held"
    assert 'x="90.00%" y="0" width="10.00%"' in sluice.bar(90, 100, held=50)
    assert 'width="0.00%"' in sluice.bar(1, 0)


def test_a_drawn_chart_shows_names_and_addresses_inert() -> None:
    evil = '"><script>alert(1)</script>'
    chart = charts.stacked(
        "x", [charts.Bucket("1", evil, f"/?a={evil}")], [charts.Series(evil, [1.0], 1)], shown=lambda value: evil
    )
    for drawn in (
        sluice.plot_columns(chart),
        sluice.plot_lines(chart),
        sluice.twin_rows(chart),
        sluice.bar(1, 2, label=evil),
    ):
        assert "<script" not in drawn
    assert "&lt;script&gt;" in sluice.plot_columns(chart)


def test_a_change_says_how_much_and_from_what() -> None:
    shown = sluice.change({"percent": "12%", "tone": "bad", "arrow": "up", "text": "+$1.20", "before_nano": 10 * 10**9})
    assert 'class="change bad" title="+$1.20, from $10.00"' in shown
    assert '<span class="visually-hidden">up</span>12%' in shown
    assert sluice.change({"percent": "", "tone": "", "arrow": "", "text": "", "before_nano": 0}) == ""
    assert sluice.change(None) == ""

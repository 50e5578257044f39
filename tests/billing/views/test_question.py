"""A cost question survives its address, and whatever else is written there is said and left out."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ledger.queries import Days, Granularity, Totals
from billing.views import charts, question
from billing.views.metrics import METRICS, short_dollars
from billing.views.question import PRESETS, read
from tests.rig.effort import examples
from workspaces.domain.names import cell, plain

TODAY = date(2026, 11, 22)


def asked(query: str) -> question.Question:
    return read(parse_qsl(query, keep_blank_values=True), TODAY)


def test_without_anything_it_is_customers_of_the_last_thirty_days_against_the_thirty_before() -> None:
    found = asked("")
    assert (found.by, found.metric.name, found.compares, found.problems) == ("customer", "cost", True, ())
    assert found.days == Days(date(2026, 10, 24), TODAY)
    assert found.before == Days(date(2026, 9, 24), date(2026, 10, 23))


@pytest.mark.parametrize(
    "query",
    [
        "range=7d&by=agent&then=model&metric=tokens&grain=day&compare=none&customer=Acme%26Sons&tag%3Aplan=pro",
        "from=2026-11-01&to=2026-11-09&by=tag%3Ateam",
        *(f"range={preset}&by=model" for preset in PRESETS),
    ],
)
def test_a_question_written_to_an_address_is_read_back_the_same(query: str) -> None:
    found = asked(query)
    assert found.problems == ()
    assert asked(found.query()) == found


@pytest.mark.parametrize(
    "query, said",
    [
        ("by=password", "no dimension"),
        ("by=model&then=model", "two different"),
        ("metric=<script>", "no metric"),
        ("range=century", "no range"),
        ("from=yesterday", "like 2026-11-21"),
        ("from=0001-01-01&to=9999-12-31", "no books before 2020"),
        ("from=2031-01-01&to=2031-02-01", "nothing of that range"),
        ("from=2026-11-09&to=2026-11-01", "turned around"),
        ("grain=second", "no step"),
        ("grain=hour&range=90d", "Hours are kept"),
        ("customer=" + "x" * 129, "at most 128"),
        ("customer=a%00b", "at most 128"),
        ("password=1", "nothing to filter by"),
        ("customer=a&customer=b", "more than once"),
        ("by=%E2%80%AEmodel", "⟨U+202E⟩"),
    ],
)
def test_what_is_not_understood_is_said_and_the_rest_answered(query: str, said: str) -> None:
    found = asked(query)
    assert any(said in problem for problem in found.problems), found.problems
    assert asked(found.query()).problems == (), "its own address is in order"


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["range", "from", "to", "by", "then", "metric", "grain", "customer", "tag:x", "z"]),
            st.text(),
        )
    )
)
def test_no_address_whatsoever_is_an_error(pairs: list[tuple[str, str]]) -> None:
    found = read(pairs, TODAY)
    assert found.days.last <= TODAY


def test_a_click_on_a_value_narrows_and_asks_the_next_question() -> None:
    found = asked("range=7d&by=customer")
    narrowed = asked(found.with_filter("customer", "Acme"))
    assert narrowed.filters == {"customer": "Acme"}
    assert narrowed.by == "feature"
    assert asked(narrowed.without_filter("customer")).filters == {}
    pairs = asked("range=7d&by=customer&then=session")
    assert asked(pairs.with_filter("customer", "Acme")).by == "session"


def test_months_are_compared_with_the_same_days_of_the_month_before() -> None:
    first_of_march = date(2026, 3, 31)
    march = question.preset_days("month", first_of_march)
    assert question.period_before(march, "month") == Days(date(2026, 2, 1), date(2026, 2, 28))
    assert question.period_before(question.preset_days("last_month", TODAY), "last_month") == Days(
        date(2026, 9, 1), date(2026, 9, 30)
    )


def test_long_ranges_are_shown_in_steps_that_fit() -> None:
    assert asked("range=today&by=model").grain is Granularity.HOUR
    assert asked("range=today&by=user").grain is Granularity.DAY, "hours are not kept for users"
    assert asked("from=2026-01-01&to=2026-11-22").grain is Granularity.WEEK
    assert asked("range=12m").grain is Granularity.MONTH
    assert asked("from=2020-01-01&to=2026-11-22").grain is Granularity.MONTH
    assert asked("from=2020-01-01&to=2026-11-22&grain=day").grain is Granularity.WEEK


# --- Names ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, shown",
    [
        ("Café Sørensen", "Café Sørensen"),
        ("abc\u202etxt.exe", "abc⟨U+202E⟩txt.exe"),
        ("a\u200bb", "a⟨U+200B⟩b"),
        ("line\nbreak\x00", "line⟨U+000A⟩break⟨U+0000⟩"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("👩‍💻", "👩‍💻"),
    ],
)
def test_a_name_cannot_turn_hide_or_break_what_stands_around_it(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "%0A=1"])
def test_no_cell_runs_as_a_formula(text: str) -> None:
    assert cell(text).startswith("'")
    assert cell("plain") == "plain"


# --- Metrics and charts -----------------------------------------------------------------------------------------------
def test_metrics_of_nothing_are_nothing_and_not_a_division_by_zero() -> None:
    for metric in METRICS.values():
        assert metric.text(Totals()) in ("$0.00", "0", "–")


def test_metrics_say_what_the_sums_say() -> None:
    sums = Totals(
        calls=4,
        attempts=5,
        errors=1,
        cost_nano=2_000_000_000,
        input_tokens=60,
        cache_read_tokens=40,
        duration_ms=5000,
        timed=5,
    )
    shown = {name: metric.text(sums) for name, metric in METRICS.items()}
    assert shown["cost"] == "$2.00"
    assert shown["cost_per_call"] == "$0.50"
    assert shown["cache_hits"] == "40.0%"
    assert shown["error_share"] == "20.0%"
    assert shown["latency"] == "1.00 s"


@pytest.mark.parametrize(
    "nano, shown",
    [
        (0, "$0"),
        (5e7, "$0.05"),
        (2e9, "$2"),
        (1.5e12, "$1,500"),
        (2.5e9, "$2.5"),
        (3e5, "$0.0003"),
        (3e4, "$0.00003"),
        (1, "$0.000000001"),
    ],
)
def test_an_axis_is_labelled_in_round_dollars(nano: float, shown: str) -> None:
    assert short_dollars(nano) == shown


def test_a_column_is_as_high_as_its_values_and_says_them() -> None:
    buckets = [charts.Bucket("1 Nov", "Sunday, 1 November"), charts.Bucket("2 Nov", "Monday, 2 November")]
    series = [charts.Series("a", [100.0, 0], 1), charts.Series("b", [300.0, None], 2)]
    chart = charts.stacked("Spend", buckets, series, shown=lambda value: f"{value:.0f}", before=[50.0, 60.0])
    tall = sum(float(bar["height"]) for bar in chart.columns[0]["bars"])
    assert tall == pytest.approx(charts._PLOT, abs=3), "the largest column fills the drawing"
    assert chart.columns[1]["bars"] == []
    assert '"Total", "400"' in chart.columns[0]["tip"]
    assert chart.twin["rows"][0]["values"] == ["100", "300", "400"]
    assert len(chart.lines[0]["segments"]) == 1
    assert [line["text"] for line in chart.grid] == ["0", "100", "200", "300", "400"]


@pytest.mark.parametrize("values", [[], [0.0], [None], [0.3] * 400, [1e15, 1.0]])
def test_a_chart_of_anything_stays_inside_its_frame(values: list[float | None]) -> None:
    buckets = [charts.Bucket(str(n), str(n)) for n in range(len(values))]
    for made in (charts.stacked, charts.lined):
        chart = made("x", buckets, [charts.Series("s", values, 1)], shown=str)
        for column in chart.columns:
            assert all(0 <= float(bar["y"]) <= charts.HEIGHT for bar in column["bars"])
        assert len(chart.labels) <= charts.MOST_LABELS + 1
        assert all("nan" not in line["text"] for line in chart.grid)


def test_a_week_begins_where_its_range_begins() -> None:
    days = question.preset_days("week", TODAY)
    assert days.first == TODAY - timedelta(days=TODAY.weekday())

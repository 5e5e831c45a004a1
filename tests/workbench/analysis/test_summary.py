"""What tables of a run warn of, on the packaged runs and on planted changes of them."""

from __future__ import annotations

import polars as pl
import pytest

from workbench.analysis.example import load_or_example
from workbench.analysis.summary import edge_warnings, matched_warnings, start_warnings, summary
from workbench.analysis.tuning import mark_tuned, on_edges


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """The packaged runs; asked for was an all-zero share of .85."""
    return load_or_example(None)[0]


def test_a_start_within_a_point_of_what_was_asked_for_is_not_mentioned(frame):
    assert start_warnings(frame, 0.85) == []


def test_a_start_that_held_out_prompts_do_not_share_is_named_with_both_figures(frame):
    lower = pl.when(pl.col("split") == "validation").then(0.03).otherwise(0.0)
    shifted = frame.with_columns(pl.col("all_zero") - lower)
    (line,) = start_warnings(shifted, 0.85)
    start = frame.filter(step=0, slice="all")
    held = {row["split"]: round(row["prompts"]) for row in start.iter_rows(named=True)}
    assert f"{held['validation'] + held['test_all']} held-out prompts" in line
    assert "85.0% were asked for" in line


def test_a_rate_on_either_edge_of_the_grid_is_named(frame):
    frame = mark_tuned(frame.filter(pl.col("lr") > sorted(frame["lr"].unique())[1]))
    rates = tuple(sorted(frame["lr"].unique()))
    chosen = dict(frame.filter("tuned").select("strategy", "lr").unique().iter_rows())
    (line,) = edge_warnings(frame, rates)
    named = line.rpartition(": ")[2].split(", ")
    assert set(named) == {s for s, lr in chosen.items() if lr in (rates[0], rates[-1])}
    assert edge_warnings(frame, (rates[0] / 3, *rates, rates[-1] * 3)) == []
    assert "one learning rate only" in edge_warnings(frame, (0.001,))[0]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_chosen_rates_on_an_edge_are_counted(frame, cut):
    rates = sorted(frame["lr"].unique())
    kept = frame.filter(pl.col("lr").is_between(rates[cut], rates[-1 - cut]))
    chosen = mark_tuned(kept).filter("tuned").group_by("strategy").agg(pl.col("lr").first())["lr"]
    lone = rates[cut] == rates[-1 - cut]  # one rate tried is on no edge
    wanted = (sum(chosen == rates[cut]), sum(chosen == rates[-1 - cut]), len(chosen))
    assert on_edges(kept, "area") == ((0, 0, 0) if lone else wanted)


def test_a_row_without_a_matched_temperature_is_named_and_left_empty(frame):
    lost = frame.with_columns(
        pass_at_1_matched=pl.when(pl.col("strategy") == "grpo", pl.col("step") > 0)
        .then(None)
        .otherwise(pl.col("pass_at_1_matched"))
    )
    table = summary(mark_tuned(lost))
    row = table.filter(strategy="grpo", slice="all").row(0, named=True)
    assert row["pass_at_1_matched"] is None
    assert row["pass_at_1_matched_low"] is None
    assert row["area"] > 0
    (line,) = matched_warnings(table)
    assert line.endswith("for grpo")
    assert matched_warnings(summary(frame)) == []

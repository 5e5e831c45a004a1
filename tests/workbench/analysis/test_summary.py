"""What tables of a run warn of, on the packaged runs and on planted changes of them."""

from __future__ import annotations

import polars as pl
import pytest

from workbench.analysis.example import load_or_example
from workbench.analysis.summary import edge_warnings, start_warnings


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """The packaged runs; asked for was an all-zero share of .85."""
    return load_or_example(None)[0]


def test_a_start_within_a_point_of_what_was_asked_for_is_not_mentioned(frame):
    assert start_warnings(frame, 0.85) == []


def test_a_start_that_held_out_prompts_do_not_share_is_named_with_both_figures(frame):
    lower = pl.when(pl.col("split") == "validation").then(0.04).otherwise(0.0)
    shifted = frame.with_columns(pl.col("all_zero") - lower)
    (line,) = start_warnings(shifted, 0.85)
    start = frame.filter(step=0, slice="all", split="validation")
    assert f"{round(2 * start['prompts'][0])} held-out prompts" in line
    assert "85.0% were asked for" in line


def test_a_rate_on_either_edge_of_the_grid_is_named(frame):
    rates = tuple(sorted(frame["lr"].unique()))
    chosen = dict(frame.filter("tuned").select("strategy", "lr").unique().iter_rows())
    (line,) = edge_warnings(frame, rates)
    named = line.rpartition(": ")[2].split(", ")
    assert set(named) == {s for s, lr in chosen.items() if lr in (rates[0], rates[-1])}
    assert edge_warnings(frame, (rates[0] / 3, *rates, rates[-1] * 3)) == []
    assert "one learning rate only" in edge_warnings(frame, (0.001,))[0]

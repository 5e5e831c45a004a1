"""The search for something better, on planted winners."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_effects import SEEDS, frame

from workbench.spec.metrics import COMPARED
from workbench.studies import search


def searched(levels: Mapping[str, float], worlds: int = 4, noise: float = 2e-3) -> pl.DataFrame:
    return pl.concat(
        frame(
            {name: {"greedy": [0.1, level, level, level, level]} for name, level in levels.items()},
            {"world.seed": world},
            noise=noise,
            tag=f"w{world}",
        )
        for world in range(worlds)
    )


def test_a_planted_better_strategy_dominates_and_an_equal_one_does_not():
    better = search.points(
        searched({"sft": 0.3, "grpo": 0.3, "recast": 0.35, "rloo": 0.3}, noise=5e-4), "rollouts"
    )
    assert search.chosen(better, 1) == ["recast"]
    table = search.dominance(better, ["recast", "rloo"])
    outcome = dict(table.select("candidate", "outcome").unique().iter_rows())
    assert outcome["recast"] == "beats every control on all"
    assert outcome["rloo"].startswith("worse on none, better than")
    assert table["seeds"].unique().to_list() == [2 * SEEDS]  # two of four worlds judge


def test_a_strategy_that_trades_one_metric_for_another_does_not_dominate():
    runs = search.points(searched({"sft": 0.3, "grpo": 0.3, "recast": 0.35}), "rollouts")
    traded = runs.with_columns(
        hr_at_10=pl.when(pl.col("strategy") == "recast")
        .then(pl.col("hr_at_10") - 0.3)
        .otherwise(pl.col("hr_at_10"))
    )
    assert set(search.dominance(traded, ["recast"])["outcome"]) == {"does not dominate"}


PLANTED = search.points(
    searched({"sft": 0.3, "grpo": 0.25, "recast": 0.35, "rloo": 0.3}), "rollouts"
)


@given(st.floats(-1, 1), st.sampled_from(["recast", "rloo"]))
@settings(deadline=None)
def test_the_choice_of_candidates_never_looks_at_the_worlds_that_judge(shift, name):
    moved = PLANTED.with_columns(
        pl.when((pl.col("world.seed") % 2 == 1) & (pl.col("strategy") == name))
        .then(pl.col(m) + shift)
        .otherwise(pl.col(m))
        .alias(m)
        for m in COMPARED
    )
    assert search.chosen(moved) == search.chosen(PLANTED)


def test_equal_updated_rows_read_every_run_where_the_cheapest_strategy_ends():
    curves = {
        "sft": {"greedy": [0.0, 0.1, 0.2, 0.3, 0.4], "updated_rows": [0, 10, 20, 30, 40]},
        "grpo": {"greedy": [0.0, 0.8, 0.9, 0.9, 0.9], "updated_rows": [0, 80, 160, 240, 320]},
    }
    runs = search.points(frame(curves, {"world.seed": 0}, noise=0.0), "updated_rows")
    means = dict(runs.group_by("strategy").agg(pl.col("area").mean()).iter_rows())
    # grpo is half-way to its first evaluation when sft has spent its 40 rows.
    assert means["grpo"] - means["sft"] == pytest.approx(0.0, abs=1e-12)


def test_worse_on_none_needs_a_margin_and_not_a_p_that_is_large():
    """A candidate of which little is known is never called non-inferior."""
    noisy = pl.concat(
        frame({"sft": {"greedy": 0.3}, "grpo": {"greedy": 0.3}, "new": {"greedy": 0.3}},
              {"world.seed": world}, noise=0.2, tag=f"w{world}")
        for world in range(2)
    )  # fmt: skip
    table = search.dominance(search.points(noisy, "rollouts"), ["new"])
    assert not (table["p"] < 0.05).any()
    assert set(table["outcome"]) == {"does not dominate"}
    assert not table["non_inferior"].all()


def test_without_worlds_that_judge_nobody_is_judged():
    runs = search.points(searched({"sft": 0.3, "grpo": 0.2, "new": 0.4}, worlds=1), "rollouts")
    assert search.chosen(runs) == ["new"]
    assert search.dominance(runs, ["new"]).is_empty()


def test_a_front_holds_what_nothing_dominates():
    runs = pl.DataFrame(
        {
            "strategy": ["a", "b", "c", "d"], "world.seed": [0] * 4,
            "u": [1.0, 2.0, 3.0, 1.5], "v": [3.0, 2.0, 1.0, 2.0],
        }
    )  # fmt: skip
    table = search.front(runs, "u", "v")
    assert dict(table.select("strategy", "on_front").iter_rows()) == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip

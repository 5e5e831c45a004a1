"""What ships can conclude: enough seeds, rates inside their grids, p below .05 after correction."""

from __future__ import annotations

import polars as pl
import pytest

from workbench.analysis.budget import cautions, spends_nothing
from workbench.analysis.compare import compare, parse_side
from workbench.analysis.example import EXAMPLE
from workbench.analysis.rows import curve_rows
from workbench.analysis.summary import edge_warnings, start_warnings
from workbench.analysis.tuning import chosen_by, mark_tuned, tried
from workbench.spec.experiment import load_experiment, preset_names
from workbench.spec.keys import ENGINE
from workbench.spec.metrics import PRIMARY
from workbench.spec.row_names import split_row
from workbench.spec.sweep import load_sweep, sweep_names
from workbench.stats.p_values import LEVEL, least_p
from workbench.studies.proof import SEEDS as JUDGED
from workbench.studies.proof import SWEEP


@pytest.fixture(scope="module")
def example() -> pl.DataFrame:
    return pl.read_parquet(EXAMPLE)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_can_show_something_and_tunes_over_a_grid(name):
    raw = {"world.data": "."} if name == "replay" else {}
    spec = load_experiment(name, raw)
    assert least_p(spec.seeds) < LEVEL
    assert len(set(spec.train.lr)) >= 3
    assert spec.train.tune_metric == "area"


@pytest.mark.parametrize("name", sweep_names())
def test_a_sweep_can_show_something_and_extends_a_grid_at_its_edge(name):
    plan = load_sweep(name)
    assert plan.tune is not None
    assert len(plan.tune.lr) >= 3
    assert plan.tune.extend >= 2
    assert plan.tune.metric in PRIMARY
    worlds = len(plan.grid.get("world.seed", (0, 0))) // 2
    # The proof judges on seeds of its own, which choose no rate.
    seeds = JUDGED if name == SWEEP else plan.seeds
    assert least_p(seeds * worlds) < LEVEL


def test_the_packaged_example_is_what_quick_prints_today(example):
    spec = load_experiment("quick", {})
    assert example["engine"].unique().to_list() == [ENGINE]
    assert set(example["strategy"]) == set(spec.strategies)
    assert example["seed"].n_unique() == spec.seeds
    assert sorted(example["lr"].unique()) == sorted(spec.train.lr)
    assert example["step"].max() == spec.train.steps
    assert chosen_by(mark_tuned(example)) == "area"


def test_every_strategy_of_the_example_stands_beside_its_averaged_row(example):
    rows = [split_row(name) for name in set(example["strategy"])]
    assert {name for name, averaged in rows if averaged} == {name for name, _ in rows}
    # A winner over all rows can survive Holm.
    assert least_p(example["seed"].n_unique()) * (len(rows) - 1) < LEVEL


@pytest.mark.parametrize("metric", PRIMARY)
def test_every_rate_of_the_example_lies_inside_its_grid(example, metric):
    marked = mark_tuned(example, metric)
    assert edge_warnings(marked, tuple(example["lr"].unique())) == []
    assert start_warnings(marked, 0.85) == []
    assert [c.text for c in cautions(marked, metric, "grpo")] == []
    inner = sorted(example["lr"].unique())[1:-1]
    assert tried(example, metric).filter("chosen")["lr"].is_in(inner).all()


def test_the_example_tells_strategies_apart_after_correction(example):
    for first in ("recast", "sft"):
        table = compare(example, parse_side(first), parse_side("grpo"))
        assert table["metric"].to_list() == list(PRIMARY)
        assert table["tuned_by"].to_list() == list(PRIMARY)
        assert (table["p_corrected"] < LEVEL).any()
        assert (table["p_corrected"] >= least_p(example["seed"].n_unique()) - 1e-12).all()


def test_rows_that_spend_nothing_on_an_axis_keep_a_level_there(example):
    rows = curve_rows(mark_tuned(example))
    levels = spends_nothing(rows, "area", "rollouts")
    assert set(levels) == {"sft", "sft averaged"}
    last = rows.filter(pl.col("strategy") == "sft", pl.col("step") == rows["step"].max())
    assert levels["sft"] == pytest.approx(last["area"].cast(pl.Float64).to_numpy().mean())
    assert spends_nothing(rows, "area", "updated_rows") == {}

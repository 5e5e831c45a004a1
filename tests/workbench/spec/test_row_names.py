"""Rows with averaged weights: the same run under another name, next to the row that is not."""

from __future__ import annotations

import polars as pl
import pytest

import workbench
from workbench.errors import UserError
from workbench.execution.tasks import StartTask, TrainTask, make_runs, make_starts
from workbench.spec.experiment import load_experiment
from workbench.spec.keys import run_config, run_key

SMALL = {
    "seeds": 1,
    "world.items": 30,
    "world.test_prompts": 16,
    "world.validation_prompts": 16,
    "policy.width": 8,
    "start.all_zero": 0.7,
    "train.group": 4,
    "train.batch": 4,
    "train.steps": 6,
    "train.evaluations": 2,
    "train.lr": (0.01,),
}


def finished(strategy, **more):
    spec = load_experiment("quick", {**SMALL, "strategies": (strategy,), **more})
    starts = make_starts(StartTask(spec, (0,)), lambda _: None)
    (run,) = make_runs(TrainTask(spec, (strategy,), (0.01,), (0,), tuple(starts)), lambda _: None)
    return run.rows


@pytest.mark.parametrize("strategy", ["sft", "recast", "repair=anchor, credit=grpo"])
def test_an_averaged_row_is_the_run_whose_iterates_are_averaged(strategy):
    averaged = finished(f"{strategy} averaged")
    assert averaged == finished(strategy, **{"train.iterate": "mean"})
    assert averaged != finished(strategy)


def test_an_averaged_row_stands_in_the_cell_of_its_strategy_under_a_name_of_its_own():
    spec = load_experiment("quick", SMALL)
    plain, averaged = (run_config(spec, name, 0.01, 0) for name in ("sft", "sft averaged"))
    assert plain["cell"] == averaged["cell"]
    assert plain["composition"] == averaged["composition"]
    assert run_key(plain) != run_key(averaged)


def test_a_table_holds_both_rows(tmp_path):
    spec = load_experiment("quick", {**SMALL, "strategies": ("sft averaged", "sft")})
    frame = workbench.run(spec, tmp_path).frame
    ends = frame.filter(pl.col("step") == 6, split="test", slice="all")
    assert set(ends["strategy"]) == {"sft", "sft averaged"}
    assert ends["area"].n_unique() == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategies": ("sft averagd",)}, "sft averagd"),
        ({"strategies": (" averaged",)}, "averaged"),
        ({"strategies": ("sft averaged averaged",)}, "sft averaged"),
        ({"strategies": ("sft averaged",), "train.iterate": "mean"}, "already"),
        ({"strategies": ("sft averaged", "sft  averaged")}, "named twice"),
    ],
)
def test_a_row_that_cannot_be_averaged_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        load_experiment("quick", changes)

"""Rows that train otherwise than their table: one run under another name, beside the plain one."""

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


OTHERWISE = [("averaged", {"train.iterate": "mean"}), ("decaying", {"train.schedule": "linear"})]


@pytest.mark.parametrize(("ending", "change"), OTHERWISE)
@pytest.mark.parametrize("strategy", ["sft", "recast", "repair=anchor, credit=grpo"])
def test_a_row_that_trains_otherwise_is_the_run_with_that_setting(strategy, ending, change):
    row = finished(f"{strategy} {ending}")
    assert row == finished(strategy, **change)
    assert row != finished(strategy)


@pytest.mark.parametrize("row", ["sft averaged", "sft decaying"])
def test_such_a_row_stands_in_the_cell_of_its_strategy_under_a_name_of_its_own(row):
    spec = load_experiment("quick", SMALL)
    plain, other = (run_config(spec, name, 0.01, 0) for name in ("sft", row))
    assert plain["cell"] == other["cell"]
    assert plain["composition"] == other["composition"]
    assert run_key(plain) != run_key(other)


def test_a_table_holds_them_side_by_side(tmp_path):
    rows = ("sft averaged", "sft", "sft decaying")
    spec = load_experiment("quick", {**SMALL, "strategies": rows})
    frame = workbench.run(spec, tmp_path).frame
    ends = frame.filter(pl.col("step") == 6, split="test", slice="all")
    assert set(ends["strategy"]) == set(rows)
    assert ends["area"].n_unique() == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategies": ("sft averagd",)}, "sft averagd"),
        ({"strategies": (" averaged",)}, "averaged"),
        ({"strategies": ("sft averaged averaged",)}, "sft averaged"),
        ({"strategies": ("sft averaged",), "train.iterate": "mean"}, "already"),
        ({"strategies": ("sft decaying",), "train.schedule": "linear"}, "already"),
        ({"strategies": ("sft decaying averaged",)}, "sft decaying"),
        ({"strategies": ("sft averaged", "sft  averaged")}, "named twice"),
    ],
)
def test_a_row_that_cannot_train_otherwise_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        load_experiment("quick", changes)

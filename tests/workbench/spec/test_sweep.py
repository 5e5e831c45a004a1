"""Sweeps: what a grid expands to, what names a run, and what a wrong one is told."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UserError
from workbench.spec.experiment import Experiment, change, load_experiment
from workbench.spec.keys import folder_fingerprint, run_config, run_key, start_key
from workbench.spec.messages import validated
from workbench.spec.sweep import Sweep, Tune, load_sweep, sweep_names

BASE: dict[str, Any] = {"strategies": ["grpo", "sft"], "seeds": 2}


def labels(sweep: Sweep) -> list[tuple[Any, ...]]:
    return [
        (r.experiment.train.group, r.experiment.start.all_zero, r.strategy, r.lr, r.seed)
        for r in sweep.runs()
    ]


axis = st.lists(st.sampled_from([2, 4, 8, 16]), min_size=1, max_size=3, unique=True)
shares = st.lists(st.sampled_from([0.5, 0.7, 0.9]), min_size=1, max_size=3, unique=True)
rates = st.lists(st.sampled_from([0.001, 0.01, 0.1]), min_size=1, max_size=3, unique=True)


@given(axis, shares, rates, st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_grid_is_the_product_of_its_axes_strategies_rates_and_seeds(groups, zeros, lrs, seeds):
    sweep = Sweep(
        strategies=("grpo", "sft"),
        seeds=seeds,
        grid={"train.group": groups, "start.all_zero": zeros},
        tune=Tune(lr=lrs),
    )
    expected = itertools.product(groups, zeros, ("grpo", "sft"), lrs, range(seeds))
    assert sorted(labels(sweep)) == sorted(expected)


@given(axis, shares, st.sampled_from([2, 4, 8]), st.integers(0, 1))
@settings(max_examples=30, deadline=None)
def test_an_exclusion_removes_exactly_what_matches_all_its_fields(groups, zeros, group, seed):
    whole = Sweep(**BASE, grid={"train.group": groups, "start.all_zero": zeros})
    rule = {"train.group": [group], "strategy": ["sft"], "seed": [seed]}
    less = Sweep(**whole.model_dump() | {"exclude": [rule]})
    gone = {x for x in labels(whole) if x[0] == group and x[2] == "sft" and x[4] == seed}
    if gone == set(labels(whole)):
        return
    assert set(labels(less)) == set(labels(whole)) - gone


def test_an_inclusion_adds_a_grid_of_its_own_that_exclusions_do_not_touch():
    sweep = Sweep(
        **BASE,
        grid={"train.group": [4]},
        exclude=[{"train.group": [64]}],
        include=[{"train.group": [64, 128], "strategy": "sft", "train.steps": 7}],
    )
    added = [r for r in sweep.runs() if r.experiment.train.group > 4]
    assert {(r.experiment.train.group, r.experiment.train.steps) for r in added} == {
        (64, 7),
        (128, 7),
    }
    assert {r.strategy for r in added} == {"sft"}
    assert len(added) == 2 * 2


def test_a_point_that_is_named_twice_is_run_once():
    sweep = Sweep(**BASE, grid={"train.group": [4, 8]}, include=[{"train.group": 8}])
    assert len(sweep.runs()) == 2 * 2 * 2
    assert len({run.key for run in sweep.runs()}) == 8


@given(axis, axis)
@settings(max_examples=20, deadline=None)
def test_adding_a_value_to_a_grid_changes_no_existing_run(before, more):
    small = Sweep(**BASE, grid={"train.group": before})
    large = Sweep(**BASE, grid={"train.group": [*before, *(v for v in more if v not in before)]})
    assert {r.key for r in small.runs()} <= {r.key for r in large.runs()}


def test_dotted_names_and_nested_tables_mean_the_same():
    nested = Sweep(**BASE, grid={"train": {"group": [4, 8]}, "policy": {"width": 3}})
    dotted = Sweep(**BASE, grid={"train.group": [4, 8], "policy.width": [3]})
    assert [r.key for r in nested.runs()] == [r.key for r in dotted.runs()]


def leaves(model: dict[str, Any], above: str = "") -> list[str]:
    return [
        leaf
        for name, value in model.items()
        for leaf in (
            leaves(value, f"{above}{name}.") if isinstance(value, dict) else [f"{above}{name}"]
        )
    ]


OUTSIDE_THE_KEY = {"strategies", "seeds", "train.lr", "train.tune_metric"}
SEVERAL = Experiment.model_validate({"strategies": ["sft"], "world": {"task": "short_video"}})
"""Prompts with several targets: elsewhere `train.targets` changes nothing."""

FIELDS = leaves(Experiment(strategies=("sft",)).model_dump())


def another_value(field: str, tmp_path: Path) -> Experiment | None:
    """`SEVERAL` with one field changed to something else that is valid."""
    base = SEVERAL.model_dump()
    if field == "world.data":
        (tmp_path / "index").mkdir()
        return validated(Experiment, change(base, {field: str(tmp_path)}))
    here: Any = base
    for part in field.split("."):
        here = here[part]
    schema = Experiment.model_json_schema()
    text = json.dumps(schema)
    candidates: list[Any] = [1, 2, 0.37, 0.9, True, False, "recast", ["recast"], [0.5]]
    candidates += sorted(set(re.findall(r'"([^"]+)"', text)))
    candidates += [int(v) for v in sorted(set(re.findall(r"\b\d+\b", text)))]
    for value in candidates:
        if value == here:
            continue
        try:
            changed = validated(Experiment, change(base, {field: value}))
        except UserError:
            continue
        if changed.model_dump() != base:
            return changed
    return None


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_that_determines_a_run_is_in_its_key(field, tmp_path):
    base = SEVERAL
    changed = another_value(field, tmp_path)
    assert changed is not None, f"no other valid value of {field} found"
    same = run_key(run_config(base, "sft", 0.01, 0)) == run_key(run_config(changed, "sft", 0.01, 0))
    assert same == (field in OUTSIDE_THE_KEY)


def test_strategy_rate_and_seed_are_in_the_key_and_derived_columns_are_not():
    spec = Experiment(strategies=("sft",))
    config = run_config(spec, "sft", 0.01, 0)
    keys = {
        run_key(config),
        run_key(run_config(spec, "grpo", 0.01, 0)),
        run_key(run_config(spec, "sft", 0.02, 0)),
        run_key(run_config(spec, "sft", 0.01, 1)),
    }
    assert len(keys) == 4
    assert run_key({**config, "cell": "x", "world": "y", "group": 1}) == run_key(config)


def test_runs_that_differ_in_training_alone_share_a_warm_start_and_others_do_not():
    one, two, three = (
        Experiment(strategies=("sft",), **fields)
        for fields in ({}, {"train": {"steps": 9}}, {"train": {"group": 9}})
    )
    assert start_key(one, 0) == start_key(two, 0)
    assert len({start_key(one, 0), start_key(three, 0), start_key(one, 1)}) == 3


def test_a_key_is_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from workbench.spec.experiment import Experiment; from workbench.spec.keys import *;"
        "print(run_key(run_config(Experiment(strategies=('sft',)), 'sft', .01, 0)))"
    )
    here = run_key(run_config(Experiment(strategies=("sft",)), "sft", 0.01, 0))
    # This process has a seed of its own: a second one makes two.
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    env = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.strip() == here


def test_a_data_folder_counts_by_its_content_not_by_its_place(data_folder, tmp_path):
    before = folder_fingerprint(str(data_folder))
    shutil.copytree(data_folder, tmp_path / "moved")
    assert folder_fingerprint(str(tmp_path / "moved")) == before
    victim = tmp_path / "moved" / "test" / "tiny.csv"
    victim.write_text(victim.read_text() + "\n")
    assert folder_fingerprint(str(tmp_path / "moved")) != before


def test_every_packaged_sweep_expands_and_is_tuned_on_validation():
    assert sweep_names()
    for name in sweep_names():
        sweep = load_sweep(name)
        assert sweep.tune is not None, name
        assert sweep.tune.split == "validation"
        if sweep.world.kind == "synthetic":
            assert sweep.runs()


def test_a_sweep_file_starts_from_a_preset_and_changes_what_it_names(tmp_path):
    (tmp_path / "s.toml").write_text(
        'base = "quick"\nseeds = 3\n[train]\nsteps = 7\n[grid]\ntrain.group = [4, 8]\n'
    )
    sweep = load_sweep(str(tmp_path / "s.toml"), {"train.batch": 16})
    assert (sweep.name, sweep.seeds, sweep.train.steps, sweep.train.batch) == ("s", 3, 7, 16)
    assert sweep.train.lr == load_experiment("quick", {}).train.lr
    assert "recast" in sweep.strategies


BAD_SWEEPS = {
    "unknown field": ("[grid]\ntrain.grop = [4]", "did you mean 'train.group'"),
    "unknown key": ("girds = 3", "did you mean 'grid'"),
    "value out of range": ("[grid]\ntrain.group = [4, 0]", "grid.train.group"),
    "a text for a number": ('[grid]\ntrain.group = ["many"]', "integer"),
    "empty axis": ("[grid]\ntrain.group = []", "grid.train.group"),
    "everything excluded": ('[[exclude]]\nstrategy = ["grpo", "sft"]', "leave no run"),
    "empty exclusion": ("[[exclude]]", "empty rule"),
    "unknown rule field": ("[[exclude]]\nsead = 1", "did you mean 'seed'"),
    "unknown included strategy": ('[[include]]\nstrategy = "grop"', "did you mean 'grpo'"),
    "included value out of range": ("[[include]]\npolicy.width = 0", "include.0.policy.width"),
    "tuned on test users": ('[tune]\nsplit = "test"', "validation"),
    "unknown tuned metric": ('[tune]\nmetric = "accuracy"', "pass_at_1"),
    "negative rate": ("[tune]\nlr = [-1.0]", "tune.lr.0"),
    "rate is no list": ('[tune]\nlr = "all"', "tune.lr"),
    "seeds in the grid": ("[grid]\nseeds = [1, 2]", "grid.seeds"),
    "unknown base": ('base = "quik"', "did you mean 'quick'"),
    "base is a number": ("base = 3", "base"),
    "a name with a slash": ('name = "../x"', "name"),
    "too many runs": (
        f"seeds = 1000\n[grid]\ntrain.group = {list(range(1, 1200))}\ntrain.batch = [1, 2]",
        "at most 1,000,000",
    ),
}


@pytest.mark.parametrize("name", BAD_SWEEPS)
def test_a_bad_sweep_is_told_in_one_line(name, tmp_path):
    text, expected = BAD_SWEEPS[name]
    head = 'strategies = ["grpo", "sft"]\n'
    (tmp_path / "bad.toml").write_text(head + text)
    with pytest.raises(UserError) as caught:
        load_sweep(str(tmp_path / "bad.toml")).runs()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)

"""A log that the simulator's trainer writes is diagnosed with exactly what the trainer counted."""

from __future__ import annotations

import pytest
import torch
from command_line import recast

from recast.strategies import parse_strategy
from sim.general.runs import Runs
from sim.general.step import account
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import Hooks, train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from workbench.diagnosis.counterfactual import counterfactual
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.logs.read import files_of, read_log
from workbench.diagnosis.logs.write import RolloutLog, semantic_id

HOW = Training(steps=3, batch=16, group=8, evaluations=1, curve_prompts=8)
SIZES = {"validation_prompts": 16, "test_prompts": 16}


def fresh(policy, world, seeds):
    return policy.init(world.catalogue, world.train.context.shape[-1], seeds, torch.float64)


def logged(strategy, folder, *, task="plain", how=HOW):
    """Train a run from scratch; its diagnosis, and what each step counted."""
    world = build_synthetic(SyntheticWorld(items=32, task=task, **SIZES))
    policy = MLP(8)
    start = fresh(policy, world, (0,))
    counted = []
    log = RolloutLog(folder)

    def record(step, collected):
        log.simulated(world, step, collected)
        counted.append((collected, account(parse_strategy(strategy), how, collected, 1)))

    runs = Runs(policy, world, parse_strategy(strategy), start, (0,), how)
    train(runs, torch.tensor([0.01]), Hooks(record=record))
    return diagnose(read_log(files_of([folder]))), counted


@pytest.mark.parametrize("task", ["plain", "mixed"])
@pytest.mark.parametrize("strategy", ["grpo", "recast", "repair_only", "minionerec_sampling"])
def test_the_diagnosis_has_the_hits_that_the_trainer_counted(strategy, task, tmp_path):
    found, counted = logged(strategy, tmp_path, task=task)
    assert found.log.problems.lines() == []
    assert found.steps == [1, 2, 3]
    for step, (collected, (spent, taught)) in enumerate(counted, start=1):
        mine = found.groups.filter(step=step)
        assert mine["hits"].to_list() == collected.signal.hits[0].tolist()
        assert mine["size"].to_list() == collected.signal.valid[0].tolist()
        assert int(mine["size"].sum()) == int(spent["rollouts"][0])
        if strategy in ("recast", "repair_only"):
            zero = (mine["regime"] == "all_zero").sum() / mine.height
            assert zero == pytest.approx(float(taught["repaired"][0]))
    assert found.groups["hits"].sum() > 0


@pytest.mark.parametrize("strategy", ["grpo", "recast", "maxrl", "contrast_only"])
def test_the_counterfactual_of_the_strategy_that_ran_is_what_it_counted(strategy, tmp_path):
    found, counted = logged(strategy, tmp_path)
    row = counterfactual(found, [strategy]).row(0, named=True)
    for name in ("learnable", "signal_count", "update_width", "repaired"):
        taught = sum(float(taught[name][0]) for _, (_, taught) in counted) / len(counted)
        assert row[name] == pytest.approx(taught), name


def test_beams_are_logged_with_their_ranks(tmp_path):
    how = Training(steps=2, batch=8, group=4, rollouts="beam", evaluations=1, curve_prompts=8)
    found, _ = logged("grpo", tmp_path, how=how)
    assert found.beam
    assert found.groups["distinct"].to_list() == [4] * 16


def test_a_step_written_again_replaces_the_first(tmp_path):
    found, _ = logged("grpo", tmp_path)
    again, _ = logged("grpo", tmp_path)
    assert again.groups.equals(found.groups)


def test_several_runs_cannot_be_recorded():
    world = build_synthetic(SyntheticWorld(items=32, **SIZES))
    policy = MLP(8)
    start = fresh(policy, world, (0, 1))
    runs = Runs(policy, world, parse_strategy("grpo"), start, (0, 1), HOW)
    with pytest.raises(ValueError, match="single run"):
        train(runs, torch.tensor([0.01, 0.01]), Hooks(record=lambda *_: None))


def test_the_command_writes_a_log_that_diagnose_reads(tmp_path):
    (tmp_path / "small.toml").write_text(
        'strategies = ["grpo"]\nworld = {items = 64, test_prompts = 16, validation_prompts = 16}\n'
        "start = {all_zero = 0.6, lr = 0.01}\ntrain = {batch = 8, group = 4, evaluations = 1}"
    )
    options = ["--preset", str(tmp_path / "small.toml"), "--steps", "2"]
    done = recast("rollouts", str(tmp_path / "log"), *options)
    assert done.returncode == 0, done.stderr
    found = diagnose(read_log(files_of([tmp_path / "log"])))
    assert found.groups.height == 16
    assert found.group == 4
    assert "recast diagnose" in done.stdout


def test_codes_are_written_as_semantic_ids():
    assert semantic_id([3, 0, 7]) == "<a_3><b_0><c_7>"

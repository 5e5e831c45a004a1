"""Comparisons at an equal budget, as a user asks for them."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from command_line import recast
from hypothesis import given
from hypothesis import strategies as st
from sweeping import tiny_text

from workbench.analysis.rows import reported
from workbench.analysis.tuning import mark_tuned
from workbench.execution.equal_budget import steps_within
from workbench.spec.experiment import load_experiment
from workbench.store.runs import Store

SPEC = tiny_text(
    ["grpo", "recast", "sft"],
    1,
    world__test_prompts=32,
    start__lr=0.01,
    train__steps=12,
    train__evaluations=3,
    train__lr=[0.001, 0.01],
)


@given(
    costs=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    budget=st.integers(0, 3000),
    every=st.integers(1, 5),
)
def test_steps_within_a_budget_are_the_most_that_it_pays(costs, budget, every):
    """Against a loop, for a strategy whose steps cost the same between two evaluations."""
    curve, costs = [(0, 0.0)], [cost for cost in costs for _ in range(every)]
    total = list(itertools.accumulate(costs))
    curve += [(step, float(total[step - 1])) for step in range(every, len(costs) + 1, every)]
    mean, spent, steps = total[-1] / len(costs), 0.0, 0
    while True:
        spent += costs[steps] if steps < len(costs) else mean
        if spent > budget + 1e-6:
            break
        steps += 1
    assert steps_within(curve, budget) == steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("equal")
    (root / "tiny.toml").write_text(SPEC)
    return root


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    base = ["run", "--preset", str(folder / "tiny.toml"), "--store", str(folder / "runs")]
    return recast(*base, "--executor", "serial", *arguments)


def rows(folder: Path, *arguments: str) -> dict[str, dict]:
    done = run(folder, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return {row["strategy"]: row for row in json.loads(done.stdout)}


def test_at_equal_updated_rows_everyone_spends_what_the_cheapest_does(folder):
    found = rows(folder, "--equal", "updated_rows")
    assert found["sft"]["steps"] == 12
    assert found["sft"]["updated_rows"] == found["sft"]["budget"] == 12 * 8
    assert found["grpo"]["steps"] == 1
    for name in ("grpo", "recast", "sft"):
        assert found[name]["updated_rows"] == found[name]["spent"] <= 96
        assert found[name]["spent"] > 96 - 8 * 8
    # A row is the end of a run of that many steps, the same as without a mode.
    plain = rows(folder, "--set", "train.steps=1", "--set", "train.evaluations=1")
    for metric in ("pass_at_1", "total_variation", "lr"):
        assert plain["grpo"][metric] == found["grpo"][metric]


def test_a_larger_budget_lets_a_cheap_strategy_run_longer(folder):
    found = rows(folder, "--equal", "updated_rows", "--budget", "192")
    assert (found["grpo"]["steps"], found["sft"]["steps"]) == (3, 24)
    assert found["recast"]["steps"] == 12
    assert {found[name]["share_of_budget"] for name in ("grpo", "recast", "sft")} == {1.0}


def test_supervision_spends_no_rollouts_and_says_so(folder):
    found = rows(folder, "--equal", "rollouts", "--budget", "256")
    assert found["sft"]["rollouts"] == 0
    assert (found["sft"]["steps"], found["sft"]["share_of_budget"]) == (12, None)
    assert (found["grpo"]["steps"], found["recast"]["steps"]) == (4, 4)
    text = run(folder, "--equal", "rollouts", "--budget", "256").stdout
    assert "sft spends no rollouts: it trained for 12 steps" in text
    assert "at equal rollouts: 256 per run" in text


def test_equal_optimizer_steps_count_updates_and_not_rollout_phases(folder):
    several = ("--set", "train.mini_batch=16", "--equal", "steps")
    found = rows(folder, *several)
    # Eight prompts of eight rollouts make four updates of 16 rows; a pair's rows make one.
    assert found["recast"]["optimizer_steps"] == found["recast"]["steps"] == 12
    assert (found["grpo"]["steps"], found["grpo"]["optimizer_steps"]) == (3, 12)


def test_the_mode_stands_in_the_table_and_without_one_steps_do(folder):
    text = run(folder, "--equal", "updated_rows", "--budget", "100").stdout
    assert "at equal updated rows: 100 per run" in text
    assert "grpo spent 64% of the budget: one step of it costs about 64 updated rows" in text
    assert "12 steps each" in run(folder).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--equal", "rollouts", "--strategy", "sft"), "no strategy spends rollouts"),
        (("--equal", "updated_rows", "--budget", "20"), "less than one step of grpo"),
        (("--budget", "20"), "--budget: expected with --equal"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_in_one_line(folder, arguments, message):
    done = run(folder, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_over_time_prints_regimes_and_repair_at_every_evaluation(folder):
    done = run(folder, "--over-time", "--format", "json")
    found = json.loads(done.stdout)
    steps = [row["step"] for row in found if row["strategy"] == "recast"]
    assert steps == [0, 4, 8, 12]
    spec = load_experiment(str(folder / "tiny.toml"), {})
    frame = mark_tuned(Store(folder / "runs").load(), spec.train.tune_metric)
    for row in found:
        shares = [row[name] for name in ("all_zero", "single_hit", "multi_hit", "saturated")]
        assert sum(shares) == pytest.approx(1)
        assert (row["repaired"] is None) == (row["step"] == 0)
        assert 0 <= (row["repaired"] or 0) <= 1
    last = next(r for r in found if r["strategy"] == "recast" and r["step"] == 12)
    assert last["repaired"] > 0
    stored = frame.filter(
        tuned=True, strategy="recast", split="test", slice="all", step=12, **{"train.steps": 12}
    )
    assert last["all_zero"] in stored["all_zero"].to_list()


def test_every_metric_of_the_evaluation_is_printed(folder):
    text = run(folder).stdout
    frame = reported(Store(folder / "runs").load())
    names = [c for c in frame.columns if c.startswith(("recall", "ndcg", "hr_", "beam", "cov"))]
    names += ["total_variation", "entropy", "greedy", "pass_at_1_matched", "pass_at_64"]
    for name in (*names, "T=0.1", "T=2"):
        assert name in text, name

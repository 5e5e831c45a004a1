"""What a hit is: known, likely, or asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_logs import rollouts as planted

from workbench.diagnosis.counterfactual import counterfactual
from workbench.diagnosis.diagnosis import diagnose, predictions, read_lines, regime_table, trend
from workbench.diagnosis.logs.read import read_log
from workbench.diagnosis.savings import again, best_group, savings


def taken(rewards, folder, threshold=None, **columns):
    """A log of groups of four with these rewards; each column is a function of the reward."""
    rows = [
        {"step": place // 16, "prompt": f"p{place // 4}", "reward": reward,
         **{name: make(reward) for name, make in columns.items()}}
        for place, reward in enumerate(rewards)
    ]  # fmt: skip
    return diagnose(read_log([planted.as_jsonl(rows, folder / "log.jsonl")]), threshold)


def drawn(levels, shares, seed=0, count=320):
    return np.random.default_rng(seed).choice(levels, count, p=shares).tolist()


@pytest.mark.parametrize(
    ("levels", "shares", "hit", "sure"),
    [
        ([0.0, 1.0], [0.9, 0.1], 1.0, "known"),
        ([-1.0, 1.0], [0.5, 0.5], 1.0, "known"),
        ([-1.0, 0.0], [0.5, 0.5], 0.0, "known"),
        ([0.1, 2.0], [0.5, 0.5], 2.0, "likely"),
        ([0.0, 0.1, 1.0], [0.05, 0.9, 0.05], 1.0, "likely"),
        ([0.0, 0.5, 2.0, 2.5], [0.3, 0.5, 0.1, 0.1], 2.0, "likely"),
        ([-1.0, -0.9, -0.8, 1.0], [0.3, 0.3, 0.3, 0.1], 1.0, "likely"),
    ],
)
def test_the_level_that_stands_apart_is_a_hit(levels, shares, hit, sure, tmp_path):
    rewards = drawn(levels, shares)
    found = taken(rewards, tmp_path)
    assert found.rule.sure == sure
    counted = [r > found.threshold + found.tolerance for r in rewards]
    assert counted == [r >= hit for r in rewards]
    assert int(found.groups["hits"].sum()) == sum(counted)
    assert found.rule.words in read_lines(found)


UNKNOWN = {
    "equal steps": drawn([0.0, 0.5, 1.0], [0.4, 0.3, 0.3]),
    "penalties": drawn([-1.5, -1.0, -0.5, -0.25], [0.25] * 4),
    "continuous": np.random.default_rng(1).uniform(0.1, 0.9, 320).tolist(),
    "negative": (-np.random.default_rng(1).integers(4, 300, 320)).astype(float).tolist(),
    "counts": np.random.default_rng(1).integers(8, 30, 320).astype(float).tolist(),
    "one outlier": [*np.random.default_rng(1).uniform(0, 1, 319).tolist(), 50.0],
    "constant": [0.7] * 320,
    "never differs inside": [-2.0 if place // 4 % 3 else 3.0 for place in range(320)],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_nobody_knows_every_number_that_depends_on_it_is_left_out(name, tmp_path):
    found = taken(UNKNOWN[name], tmp_path)
    assert not found.known
    row = regime_table(found).row(0, named=True)
    assert row["groups"] == 80
    assert row["constant"] is not None
    for left in ("all_zero", "saturated", "learnable", "pass_at_1", "pass_at_g"):
        assert row[left] is None
    for table in (predictions(found), savings(found), again(found)):
        assert table.is_empty()
    assert counterfactual(found, ["grpo"])["note"][0].startswith("nobody knows")
    assert "nobody knows" in best_group(found, 0.5)
    said = trend(found)
    assert "--threshold" in said
    assert "--outcome" in said
    assert "\n" not in said
    assert f"{found.rule.values[0]:g}" in said


def test_a_threshold_goes_before_every_rule(tmp_path):
    found = taken(UNKNOWN["continuous"], tmp_path, threshold=0.5)
    assert found.known
    assert int(found.groups["hits"].sum()) == sum(r > 0.5 for r in UNKNOWN["continuous"])
    assert "as you said" in found.rule.words


def test_all_rewards_zero_are_misses(tmp_path):
    found = taken([0.0] * 320, tmp_path)
    assert found.rule.sure == "known"
    assert regime_table(found)["all_zero"][0] == 1


@pytest.mark.parametrize(
    "write", [bool, str, lambda hit: str(bool(hit)), lambda hit: f" {hit} ", int]
)
def test_an_outcome_may_be_a_flag_or_text(write, tmp_path):
    rewards = drawn([0.0, 0.3, 0.6, 1.0], [0.4, 0.2, 0.2, 0.2])
    found = taken(rewards, tmp_path, acc=lambda r: write(float(r == 1.0)))
    assert found.log.reading.outcome_column == "acc"
    assert found.groups["hits"].to_list() == [
        sum(r == 1.0 for r in rewards[place : place + 4]) for place in range(0, 320, 4)
    ]


def test_a_share_named_hit_is_a_hit_above_zero(tmp_path):
    rewards = drawn([0.0, 0.2, 0.4, 0.6], [0.7, 0.1, 0.1, 0.1])
    found = taken(rewards, tmp_path, hit_reward=lambda r: r)
    assert int(found.groups["hits"].sum()) == sum(r > 0 for r in rewards)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(4, 16), seed=st.integers(0, 999))
def test_minionerecs_ranking_reward_alone_hides_its_hits(size, seed):
    """Hits are 0 and misses negative by rank; groups without a hit are all 0."""
    import tempfile
    from pathlib import Path

    rng = np.random.default_rng(seed)
    weight = 1 / np.log2(np.arange(size) + 2)
    weight = -weight / weight.sum()
    rows, truth = [], []
    for group in range(30):
        hit = int(rng.integers(size)) if rng.random() < 0.4 or group < 4 else None
        truth.append(int(hit is not None))
        rows += [
            {"step": 1, "prompt": f"p{group}",
             "reward": 0.0 if hit is None or place == hit else float(weight[place])}
            for place in range(size)
        ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = diagnose(read_log([planted.as_jsonl(rows, Path(folder) / "log.jsonl")]))
    assert found.rule.ranked
    assert found.groups["hits"].to_list() == truth

"""Scalars without rollouts: findings, and another G from two numbers per step."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.diagnosis.answer import answer_of_scalars
from workbench.diagnosis.findings.scalars import take_apart
from workbench.diagnosis.logs.scalars import read_scalars
from workbench.stats.beta_binomial import fit_shares


def run(rng, steps=40, batch=16, group=8, mean=0.3, spread=0.2):
    """What TRL would log of groups with Beta hit probabilities."""
    scale = 1 / spread - 1
    rows = []
    for step in range(1, steps + 1):
        p = rng.beta(mean * scale, (1 - mean) * scale, batch)
        hits = rng.binomial(group, p)
        rows.append(
            {
                "step": step,
                "reward": float((hits / group).mean()),
                "frac_reward_zero_std": float(((hits == 0) | (hits == group)).mean()),
            }
        )
    return rows


def written(rows, tmp_path, group=8, **more):
    rows = [{**row, **{name: value(row["step"]) for name, value in more.items()}} for row in rows]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows}))
    return take_apart(read_scalars([path]), group)


@pytest.mark.parametrize(
    ("mean", "spread", "group", "other"),
    [(0.2, 0.2, 8, 32), (0.05, 0.3, 8, 2), (0.5, 0.1, 4, 16), (0.8, 0.3, 16, 64)],
)
def test_the_interval_at_another_group_covers_the_truth(mean, spread, group, other):
    """150 simulated logs each; 95% intervals may miss 7.5 of them, and 18 would be bad luck of one
    in a thousand."""
    rng = np.random.default_rng(3)
    scale = 1 / spread - 1
    p = rng.beta(mean * scale, (1 - mean) * scale, 300_000)
    truth = float((1 - (1 - p) ** other - p**other).mean())
    missed = 0
    for _ in range(150):
        rows = run(rng, steps=16, batch=16, group=group, mean=mean, spread=spread)
        means, zeros = (np.array([row[n] for row in rows])
                        for n in ("reward", "frac_reward_zero_std"))  # fmt: skip
        said = fit_shares(means, zeros, group).learnable(other)
        missed += not said.low <= truth <= said.high
    assert missed < 18


@given(mean=st.floats(0.02, 0.98), spread=st.floats(0.0, 0.9), group=st.integers(2, 32))
def test_exact_shares_give_their_own_parameters_back(mean, spread, group):
    """Without noise the two numbers are the Beta-binomial's own."""
    fit = fit_shares(np.full(3, mean), np.full(3, _zero(mean, spread, group)), group)
    assert fit.mean.value == pytest.approx(mean)
    assert fit.regimes(group)["all_zero"].value + fit.regimes(group)["saturated"].value == (
        pytest.approx(_zero(mean, spread, group), abs=1e-6)
    )


def _zero(mean, spread, group):
    """Share of groups of equal rewards, by products of the urn scheme."""
    rate = spread / (1 - spread)
    chance = [
        np.prod([(p + i * rate) / (1 + i * rate) for i in range(group)]) for p in (mean, 1 - mean)
    ]
    return float(sum(chance))


@pytest.mark.parametrize(
    ("means", "zeros", "group", "says"),
    [([0.5, 0.5], [0.1, 0.1], 8, "three steps"), ([0.5] * 3, [0.1] * 3, 1, "at least 2"),
     ([2.0] * 3, [0.1] * 3, 8, "within")],
)  # fmt: skip
def test_shares_that_cannot_be_fitted_are_refused(means, zeros, group, says):
    with pytest.raises(ValueError, match=says):
        fit_shares(np.array(means), np.array(zeros), group)


def test_scalars_answer_in_one_screen_with_a_prediction(tmp_path):
    said = answer_of_scalars(written(run(np.random.default_rng(0)), tmp_path), 0.5)
    text = "\n".join(said.lines())
    assert "no rollouts" in said.read[0]
    assert "another G would make learnable: G = 2:" in text
    assert "the rollouts themselves" in text
    assert [one for one in said.findings if one.level == "problem"] == []


def test_without_the_group_it_is_asked_for(tmp_path):
    said = answer_of_scalars(written(run(np.random.default_rng(0)), tmp_path, group=None), 0.5)
    assert said.buys == ("another G needs the G that was used: say --group",)


@pytest.mark.parametrize(("mean", "name"), [(0.02, "starved"), (0.98, "saturated")])
def test_groups_that_teach_nothing_follow_from_mean_and_equal_share(mean, name, tmp_path):
    found = written(run(np.random.default_rng(0), mean=mean), tmp_path).examined
    assert name in {one.name for one in found.findings}


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("entropy_collapse", "entropy", lambda step: 2 * np.exp(-step / 6)),
        ("entropy_explosion", "entropy", lambda step: 0.3 + (step / 20) ** 3),
        ("kl_explosion", "kl", lambda step: 0.01 + (step / 30) ** 8),
        ("truncated", "completions/clipped_ratio", lambda _: 0.97),
        ("length_collapse", "completions/mean_length", lambda step: 3 + 200 * np.exp(-step / 8)),
        ("rollout_mismatch", "sampling/sampling_logp_difference/mean", lambda _: 0.4),
        ("clipped_ratios", "clip_ratio/region_mean", lambda _: 0.5),
        ("gradient_explosion", "grad_norm", lambda step: 0.5 * 1.2**step),
        ("late_collapse", "reward", lambda step: 0.5 if step < 36 else 0.02),
    ],
)
def test_a_trend_in_the_scalars_is_found(name, column, value, tmp_path):
    found = written(run(np.random.default_rng(0)), tmp_path, **{column: value}).examined
    assert name in {one.name for one in found.findings}


def test_a_loss_of_zero_with_a_gradient_is_said_to_be_right(tmp_path):
    rows = run(np.random.default_rng(0))
    found = written(rows, tmp_path, loss=lambda _: 0.0, grad_norm=lambda _: 0.4).examined
    assert [one.level for one in found.findings if one.name == "loss_is_zero"] == ["note"]


def test_the_evaluation_falling_under_a_rising_reward_is_hacking(tmp_path):
    rows = run(np.random.default_rng(0))
    found = written(
        rows, tmp_path, reward=lambda step: step / 40, eval_reward=lambda step: 1 - step / 50
    ).examined
    assert "reward_hacking" in {one.name for one in found.findings}

"""The Beta-binomial fit: coverage by simulation, a plain oracle, degenerate counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from recast.regimes import beta_regimes
from recast.theory.learnability import hit_count_pmf
from workbench.stats.beta_binomial import DROP, fit_hit_counts

SETTINGS = [
    (0.0054, 0.89, 32, 1000),
    (0.05, 0.5, 16, 300),
    (0.2, 1.0, 8, 200),
    (0.3, 0.0, 8, 200),
    (0.02, 0.0, 32, 300),
    (0.5, 0.9, 8, 60),
]


def simulated(rng: np.random.Generator, mean: float, cv: float, group: int, prompts: int):
    total = (1 - mean) / (mean * cv**2) - 1 if cv else math.inf
    p = rng.beta(mean * total, (1 - mean) * total, prompts) if cv else np.full(prompts, mean)
    return rng.binomial(group, p)


def coverage(mean: float, cv: float, group: int, prompts: int, repeats: int) -> dict[str, float]:
    """Share of simulations whose interval holds the truth, for each number a fit gives."""
    rng = np.random.default_rng(20)
    wide = 4 * group
    truth = {"mean": mean, "cv": cv, **beta_regimes(mean, cv, wide)}
    truth["pass"] = 1 - float(hit_count_pmf(mean, cv, 2 * group)[0])
    held = dict.fromkeys(truth, 0)
    for _ in range(repeats):
        fit = fit_hit_counts(simulated(rng, mean, cv, group, prompts), group)
        found = {
            "mean": fit.mean,
            "cv": fit.cv,
            **fit.regimes(wide),
            "pass": fit.pass_at(2 * group),
        }
        for name, true in truth.items():
            held[name] += found[name].low - 1e-9 <= true <= found[name].high + 1e-9
    return {name: count / repeats for name, count in held.items()}


@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[3]])
def test_intervals_cover_the_truth(setting):
    for name, share in coverage(*setting, repeats=60).items():
        assert share >= 0.88, name  # the drill asks for 92% of many more


@pytest.mark.drill
@pytest.mark.parametrize("setting", SETTINGS)
def test_95_percent_intervals_cover_at_least_92_percent(setting):
    shares = coverage(*setting, repeats=800)
    assert min(shares.values()) >= 0.92, shares


def oracle_loglik(hits, group, mean, spread):
    if spread == 0:
        return binom.logpmf(hits, group, mean).sum()
    total = 1 / spread - 1
    return betabinom.logpmf(hits, group, mean * total, (1 - mean) * total).sum()


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_other_parameters_are_likelier(setting):
    hits = simulated(np.random.default_rng(4), *setting)
    fit, group = fit_hit_counts(hits, setting[2]), setting[2]
    best = oracle_loglik(hits, group, fit.mean.value, fit.spread.value)
    for mean in fit.mean.value * np.array([0.8, 0.97, 1.0, 1.03, 1.2]):
        for spread in [0, *(fit.spread.value * np.array([0.5, 0.95, 1.05, 2])), 1e-3]:
            assert oracle_loglik(hits, group, min(mean, 0.999), min(spread, 0.999)) <= best + 1e-5


def test_an_interval_ends_where_the_profile_likelihood_has_dropped():
    hits = simulated(np.random.default_rng(5), 0.1, 0.8, 16, 400)
    fit = fit_hit_counts(hits, 16)
    best = oracle_loglik(hits, 16, fit.mean.value, fit.spread.value)
    for end in (fit.mean.low, fit.mean.high):
        profile = max(oracle_loglik(hits, 16, end, s) for s in np.linspace(0.01, 0.2, 400))
        assert profile == pytest.approx(best - DROP, abs=0.03)


def test_unequal_groups_and_order_change_nothing_but_what_they_say():
    rng = np.random.default_rng(6)
    wide, narrow = simulated(rng, 0.1, 1.0, 32, 200), simulated(rng, 0.1, 1.0, 4, 200)
    hits, rollouts = np.concatenate([wide, narrow]), np.repeat([32, 4], 200)
    one = fit_hit_counts(hits, rollouts)
    order = rng.permutation(400)
    other = fit_hit_counts(hits[order], rollouts[order])
    assert one.region.tolist() == other.region.tolist()
    assert one.rollouts == 200 * 36
    alone = fit_hit_counts(wide, 32)
    assert one.mean.high - one.mean.low < alone.mean.high - alone.mean.low


def test_predictions_at_the_observed_g_agree_with_what_was_seen():
    hits = simulated(np.random.default_rng(7), 0.0054, 0.89, 32, 20_000)
    fit = fit_hit_counts(hits, 32)
    assert fit.regimes(32)["all_zero"].value == pytest.approx((hits == 0).mean(), abs=0.002)
    assert fit.pass_at(1).value == pytest.approx(fit.mean.value)
    assert fit.cv.low < 0.89 < fit.cv.high


@pytest.mark.parametrize(
    ("hits", "group", "note", "mean"),
    [
        ([0] * 50, 8, "no rollout hit", 0.0),
        ([8] * 50, 8, "every rollout hit", 1.0),
        ([1, 0, 1, 0], 1, "one rollout per prompt", 0.5),
        ([3], 8, "one prompt", 0.375),
        ([2, 2, 2, 2], 8, "no over-dispersion", 0.25),
        ([0, 8] * 20, 8, "", 0.5),
    ],
)
def test_degenerate_counts_give_what_they_can_tell(hits, group, note, mean):
    fit = fit_hit_counts(hits, group)
    assert fit.note.startswith(note)
    assert fit.mean.value == pytest.approx(mean, abs=1e-4)
    assert 0 <= fit.mean.low <= fit.mean.value <= fit.mean.high <= 1
    assert fit.mean.low < fit.mean.high
    for found in (fit.spread, fit.cv):
        assert found.low <= found.value <= found.high


def test_no_hits_bound_the_mean_for_any_spread():
    fit = fit_hit_counts([0] * 100, 32)
    assert fit.mean.high == pytest.approx(1 - 0.025**0.01)
    assert fit.spread.high == 1
    assert fit.regimes(32)["all_zero"].low < 0.5


def test_groups_of_one_rollout_predict_no_other_width():
    fit = fit_hit_counts([1, 0, 0], 1)
    assert fit.pass_at(1).value == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="nothing can be said about G = 8"):
        fit.regimes(8)


@pytest.mark.parametrize(
    ("hits", "rollouts", "message"),
    [
        ([], 8, "at least one prompt"),
        ([1, 2], [8], "expected one G or 2"),
        ([9], 8, "prompt 0 has 9 hits of 8"),
        ([-1], 8, "prompt 0"),
        ([0], 0, "prompt 0"),
        ([0.5], 8, "whole numbers"),
    ],
)
def test_counts_that_cannot_be_are_refused(hits, rollouts, message):
    with pytest.raises(ValueError, match=message):
        fit_hit_counts(hits, rollouts)

"""Weights and objectives: closed forms, enumeration, Monte Carlo and the limits, all strategies."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import STRATEGIES, Origin, Strategy, build_signal, denominator
from recast.loss import on_policy_weight
from recast.theory.by_hits import arrangements, by_hits, groups_of, sampled_width, why_undefined
from recast.theory.closed_forms import CLOSED_FORMS
from recast.theory.learnability import binomial_pmf
from recast.theory.objective import (
    objective,
    signal_to_noise,
    target_weights,
    utility_of_hits,
    weight,
)

P = torch.tensor([1e-3, 0.0054, 0.05, 0.3, 0.7, 0.95], dtype=torch.float64)
DEFINED = [name for name, strategy in STRATEGIES.items() if not why_undefined(strategy)]
DRAWS = 15_000


def narrow(strategy: Strategy) -> Strategy:
    """The strategy with options that fit a group of 4 to 6."""
    if strategy.credit.startswith("pkpo"):
        return replace(strategy, credit="pkpo(3)")
    return replace(strategy, select="pods(2)") if strategy.select.startswith("pods") else strategy


def without_eps(strategy: Strategy) -> Strategy:
    credit = strategy.stage("credit")
    if "eps" not in credit.stage.options:
        return strategy
    name = strategy.credit.split("(")[0]
    options = {**credit.given, "eps": 0}
    return replace(strategy, credit=f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})")


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("group", [4, 5, 8, 32])
def test_a_closed_form_is_what_the_training_code_does(name, group):
    form, strategy = CLOSED_FORMS[name], without_eps(STRATEGIES[name])
    if strategy.why_not_group(group):
        pytest.skip("the strategy refuses so narrow a group")
    found, expected = weight(strategy, P, group), form.weight(P, group)
    assert torch.allclose(found.total, expected, rtol=1e-10, atol=1e-13)
    shipped = weight(name, P, group).total
    assert torch.allclose(shipped, expected, rtol=2e-3, atol=1e-12)  # eps is at most 1e-4
    if form.objective is not None:
        assert torch.allclose(objective(strategy, P, group), form.objective(P, group), atol=1e-10)


@pytest.mark.parametrize("name", DEFINED)
def test_the_objective_has_the_slope_w_over_p(name):
    p, step = torch.tensor([0.02, 0.2, 0.6], dtype=torch.float64), 1e-5
    around = torch.cat([p - step, p + step])
    f = objective(name, around, 8)
    slope = (f[3:] - f[:3]) / (2 * step)
    assert torch.allclose(slope, weight(name, p, 8).total / p, rtol=1e-6, atol=1e-8)


def enumerated_weight(strategy: Strategy, p: float, group: int) -> tuple[float, float]:
    """w and the apart mass at B = 1 by visiting all 2^W ordered groups, one at a time; no loss on
    the ground truth. Divided by the divisor that the theory names."""
    width, table = sampled_width(strategy, group), by_hits(strategy, group)
    total = apart = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=width):
        hits = int(sum(outcome))
        reward = torch.tensor([[outcome]], dtype=torch.float64)
        signal = build_signal(strategy, groups_of(reward))
        chance = p**hits * (1 - p) ** (width - hits)
        sent = zip(
            on_policy_weight(strategy, signal)[0, 0].tolist(),
            signal.rows[0, 0].tolist(),
            signal.groups.origin[0, 0].tolist(),
            [*outcome, 0.0],
            strict=False,
        )
        for advantage, row, origin, won in sent:
            if not row:
                continue
            if origin == int(Origin.ANCHOR) or won:
                total += chance * advantage
            elif table.apart[hits]:
                apart += chance * advantage
            else:
                total -= chance * advantage * p / (1 - p)
    scale = strategy.policy_weight / table.divisor
    return scale * total, scale * apart


LOCAL = [
    name
    for name in DEFINED
    if by_hits(narrow(STRATEGIES[name]), 4).batch == 1 and STRATEGIES[name].anchor_ratio == "one"
]


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(("group", "p"), [(4, 0.03), (5, 0.4), (6, 0.9)])
def test_weights_equal_exact_enumeration_of_ordered_groups(name, group, p):
    strategy = narrow(STRATEGIES[name])
    found = weight(strategy, torch.tensor([p], dtype=torch.float64), group)
    total, apart = enumerated_weight(strategy, p, group)
    own = replace(strategy, supervised="none") if strategy.credit != "none" else None
    sampled = found if own is None else weight(own, torch.tensor([p], dtype=torch.float64), group)
    if own is None:
        assert total == apart == 0
    else:
        assert float(sampled.total[0]) == pytest.approx(total, abs=1e-10)
    assert float(found.apart[0]) == pytest.approx(apart, abs=1e-10)


@pytest.mark.parametrize("name", sorted(set(DEFINED) - set(LOCAL) - {"luffy"}))
def test_a_strategy_that_looks_at_the_batch_is_enumerated_with_another_group(name):
    strategy, group, p = STRATEGIES[name], 3, 0.3
    total = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=2 * group):
        reward = torch.tensor(outcome, dtype=torch.float64).view(1, 2, group)
        signal = build_signal(strategy, groups_of(reward))
        hits = int(sum(outcome))
        chance = p**hits * (1 - p) ** (2 * group - hits)
        pull = reward[0, 0] - (1 - reward[0, 0]) * p / (1 - p)
        total += chance * float((signal.advantage[0, 0] * signal.rows[0, 0] * pull).sum())
    found = weight(strategy, torch.tensor([p], dtype=torch.float64), group)
    assert found.batch == 2
    assert float(found.total[0]) == pytest.approx(total / by_hits(strategy, group).divisor, 1e-10)


@cache
def draws(group: int, p: float) -> torch.Tensor:
    rng = np.random.default_rng(int(1e6 * p) + group)
    return torch.from_numpy((rng.random((DRAWS, 2, group)) < p).astype(np.float64))


def sampled_updates(strategy: Strategy, p: float, group: int) -> torch.Tensor:
    """Update along the logit of p of each of many sampled groups, divided as named; `[DRAWS]`."""
    table = by_hits(strategy, group)
    reward = draws(sampled_width(strategy, group), p)[:, : table.batch]
    signal = build_signal(strategy, groups_of(reward))
    sent = (on_policy_weight(strategy, signal) * signal.rows)[:, 0]
    up = torch.zeros_like(sent)
    up[:, : reward.shape[-1]] = reward[:, 0]
    up[signal.groups.origin[:, 0] == int(Origin.ANCHOR)] = 1.0
    update = (sent * (up - p)).sum(-1) / table.divisor
    return strategy.policy_weight * update


@pytest.mark.parametrize(
    "name", [n for n in DEFINED if STRATEGIES[n].credit != "none" and n != "luffy"]
)
@pytest.mark.parametrize(("group", "p"), [(8, 0.02), (8, 0.2), (4, 0.6)])
def test_weights_and_noise_agree_with_monte_carlo(name, group, p):
    strategy = replace(narrow(STRATEGIES[name]), supervised="none")
    update = sampled_updates(strategy, p, group)
    at = torch.tensor([p], dtype=torch.float64)
    found = weight(strategy, at, group)
    # Misses are alike here, so those that are picked by structure pull like any other.
    expected = float((found.total - found.apart * p / (1 - p))[0]) * (1 - p)
    mean, variance = float(update.mean()), float(update.var())
    # Where every draw gave the same, the missing event has a probability of a few in DRAWS.
    error = math.sqrt(variance / DRAWS) or abs(mean) / DRAWS
    assert abs(mean - expected) <= 4 * error + 1e-12
    exact = float(signal_to_noise(strategy, at, group)[0])
    if math.isfinite(exact) and exact > 0 and variance > 0:
        spread = float((update - mean).pow(4).mean()) - variance**2
        assert abs(variance - (expected / exact) ** 2) <= 4 * math.sqrt(spread / DRAWS) + 1e-12


@pytest.mark.parametrize("name", DEFINED)
def test_four_arrangements_stand_for_all_orders(name):
    strategy, width = narrow(STRATEGIES[name]), sampled_width(STRATEGIES[name], 4)
    table = by_hits(strategy, 4)
    if table.batch > 1:
        pytest.skip("enumerated with another group above")
    for k in range(width + 1):
        orders = sorted(set(itertools.permutations([1.0] * k + [0.0] * (width - k))))
        reward = torch.tensor(orders, dtype=torch.float64).unsqueeze(1)
        signal = build_signal(strategy, groups_of(reward))
        square = (on_policy_weight(strategy, signal) * signal.rows)[:, 0].square().sum(-1).mean()
        count = signal.count[:, 0].double().mean()
        assert float(table.mean(table.square)[0, k]) == pytest.approx(float(square), abs=1e-10)
        assert float(table.mean(table.count)[0, k]) == pytest.approx(float(count), abs=1e-12)


def test_shares_of_arrangements_sum_to_one_and_keep_the_hits():
    for width in (1, 2, 3, 7):
        reward, share = arrangements(width)
        assert torch.allclose(share.sum(0), torch.ones(1, width + 1, dtype=torch.float64))
        hits = reward.sum(-1)
        wanted = torch.arange(width + 1, dtype=torch.float64).expand_as(hits)
        assert torch.equal(hits[share[:, 0] > 0], wanted[share[:, 0] > 0])


def test_the_divisor_is_the_losss_own():
    reward = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    for name in ("grpo", "rloo", "recast", "dr_grpo", "visurf"):
        strategy = STRATEGIES[name]
        signal = build_signal(strategy, groups_of(reward))
        own = float(denominator(signal, strategy.denominator, length=1)[0])
        assert by_hits(strategy, 4).divisor == own
    assert "divides all prompts alike" in by_hits(STRATEGIES["psr"], 4).divisor_name
    assert "divides all prompts alike" in by_hits(STRATEGIES["gpg_authors"], 4).divisor_name


def test_grpo_at_the_papers_point_and_its_limit():
    at = torch.tensor([0.0054], dtype=torch.float64)
    assert float(weight("grpo", at, 32).total[0]) == pytest.approx(0.0283, abs=1e-4)
    p = torch.tensor([0.2, 0.5], dtype=torch.float64)
    climbed = objective("grpo", p, 512)
    limit = 2 * p.sqrt().asin()
    assert float(climbed[1] - climbed[0]) == pytest.approx(float(limit[1] - limit[0]), rel=0.01)


def test_recast_is_supervised_training_minus_its_hardest_negative():
    parts = weight("recast", P, 32)
    assert torch.allclose(parts.hits + parts.anchors, 1 - P**32)
    assert torch.allclose(parts.apart, P**32 - 1, atol=1e-12)
    assert torch.allclose(weight("sft", P, 32).total, torch.ones_like(P), atol=1e-12)


def test_what_a_hard_negative_pushes_is_stated_apart():
    chosen = {name for name in DEFINED if by_hits(narrow(STRATEGIES[name]), 8).apart.any()}
    assert {"recast", "contrast_only", "repair_only", "care", "bgae"} <= chosen
    assert not chosen & {"grpo", "dr_grpo", "rloo", "maxrl", "pods", "add_gt", "dpo"}
    assert by_hits(STRATEGIES["bgae"], 8).shifted
    assert not by_hits(STRATEGIES["repair_only"], 8).shifted


def test_a_utility_of_hits_is_what_a_strategy_climbs():
    utility, grounded = utility_of_hits("rloo", 8)
    assert torch.allclose(utility, torch.arange(9, dtype=torch.float64) / 8)
    assert grounded == 0
    harmonic = torch.cumsum(1 / torch.arange(1.0, 8.0, dtype=torch.float64), 0)
    utility, _ = utility_of_hits(Strategy(credit="maxrl(eps=0)"), 8)
    assert torch.allclose(utility[1:8], harmonic - 1 / 8)
    assert utility_of_hits("recast", 8)[1] == 1
    with pytest.raises(ValueError, match="no utility"):
        utility_of_hits("reinforce", 8)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.001, 0.2), min_size=1, max_size=4),
    st.sampled_from(["grpo", "repair_only", "sft", "grpo_sft", "add_gt", "recast"]),
)
def test_targets_share_a_prompts_weight(targets, name):
    split = target_weights(name, torch.tensor(targets, dtype=torch.float64), 8)
    total = torch.tensor([sum(targets)], dtype=torch.float64)
    assert float(split.sum()) == pytest.approx(float(weight(name, total, 8).total[0]), rel=1e-9)
    first = target_weights(name, torch.tensor(targets, dtype=torch.float64), 8, anchor="first")
    assert float(first.sum()) == pytest.approx(float(split.sum()), rel=1e-9)
    if name == "sft":
        assert torch.allclose(split, torch.full_like(split, 1 / len(targets)))


def test_several_targets_agree_with_monte_carlo():
    rng = np.random.default_rng(3)
    targets, group, draws_ = np.array([0.03, 0.12]), 4, 200_000
    items = rng.choice(3, size=(draws_, group), p=[*targets, 1 - targets.sum()])
    reward = torch.from_numpy((items < 2).astype(np.float64)).unsqueeze(1)
    signal = build_signal(STRATEGIES["repair_only"], groups_of(reward))
    anchor = signal.groups.origin[:, 0] == int(Origin.ANCHOR)
    drawn = torch.from_numpy(rng.integers(0, 2, draws_)).unsqueeze(-1)
    item = torch.where(anchor, drawn, torch.from_numpy(items))
    advantage = signal.advantage[:, 0] / group
    # Softmax over two targets and the rest: the gradient with respect to a target's logit.
    probability = torch.tensor([*targets, 1 - targets.sum()], dtype=torch.float64)
    found = target_weights("repair_only", probability[:2], group)
    apart = weight("repair_only", probability[:2].sum().reshape(1), group).apart
    miss = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) - probability
    for t in range(2):
        update = (advantage * ((item == t).double() - probability[t])).sum(-1)
        own = found @ (torch.eye(3, dtype=torch.float64)[:2] - probability)[:, t]
        expected = float(own + apart[0] * miss[t])
        error = float(update.std()) / math.sqrt(draws_)
        assert abs(float(update.mean()) - expected) <= 4 * error


def test_probabilities_at_the_ends_give_finite_weights():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for name in DEFINED:
        assert weight(name, ends, 8).total.isfinite().all(), name
        assert float(objective(name, ends, 8)[1]) == pytest.approx(0, abs=1e-9), name
    assert torch.allclose(binomial_pmf(ends, 3)[1], torch.tensor([0, 0, 0, 1.0]).double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weight("rl_zvp", P, 8), "entropy of each token"),
        (lambda: weight("rank_penalty", P, 8), "beams"),
        (lambda: weight("grpo", P, 0), "group: expected at least 1"),
        (lambda: weight("grop", P, 8), "did you mean 'grpo'"),
        (lambda: weight("pods", P, 4), "pods"),
        (lambda: target_weights("sft", P[:2], 8, anchor="last"), "uniform or first"),
        (lambda: target_weights("sft", torch.tensor([0.9, 0.9]), 8), "sum of at most 1"),
    ],
)
def test_what_is_not_defined_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

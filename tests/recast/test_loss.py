"""The loss against loops, and its gradient against closed forms on tabular policies."""

import itertools
import math
from typing import get_args

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import (
    STRATEGIES,
    Origin,
    RolloutGroups,
    Signal,
    Strategy,
    build_signal,
    clipped_surrogate,
    denominator,
    kl_estimate,
    policy_loss,
    structural_score,
    supervised_loss,
)
from recast.strategy import Denominator

quick = settings(max_examples=40, deadline=None)
estimators = pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
logps = st.floats(-6, 0)
seeds = st.integers(0, 2**32 - 1)


def random_rows(seed, runs=2, prompts=2, width=3, length=2):
    """logp, old, ref `[R, B, U, L]`, advantage and rows `[R, B, U]`, from one seed."""
    rng = torch.Generator().manual_seed(seed)
    shape = (runs, prompts, width)
    logp, old, ref = -3 * torch.rand(3, *shape, length, generator=rng, dtype=torch.float64)
    advantage = torch.randn(shape, generator=rng, dtype=torch.float64)
    return logp, old, ref, advantage, torch.rand(shape, generator=rng) < 0.6


@estimators
@quick
@given(logp=logps, ref=logps)
def test_each_kl_estimator_equals_its_formula(estimator, logp, ref):
    value = kl_estimate(
        torch.tensor(logp, dtype=torch.float64), torch.tensor(ref, dtype=torch.float64), estimator
    )
    assert value.item() == pytest.approx(oracles.kl(logp, ref, estimator), rel=1e-9, abs=1e-12)


@quick
@given(logp=logps, ref=logps)
def test_k2_and_k3_are_never_negative(logp, ref):
    pair = torch.tensor([logp, ref], dtype=torch.float64)
    assert kl_estimate(*pair, "k2") >= 0
    assert kl_estimate(*pair) >= -1e-15


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@quick
@given(seed=seeds)
def test_the_mean_of_an_estimator_under_the_policy_is_the_kl(estimator, seed):
    rng = torch.Generator().manual_seed(seed)
    policy, ref = torch.randn(2, 5, generator=rng, dtype=torch.float64).log_softmax(-1)
    exact = (policy.exp() * (policy - ref)).sum()
    assert torch.allclose((policy.exp() * kl_estimate(policy, ref, estimator)).sum(), exact)


def test_an_unknown_kl_estimator_is_refused():
    with pytest.raises(ValueError, match="expected k1, k2 or k3, got 'k4'"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k4")


@quick
@given(seed=seeds, length=st.integers(1, 4), update=st.sampled_from(["all", "active"]))
def test_each_denominator_counts_what_it_says_in_each_run(seed, length, update):
    rng = torch.Generator().manual_seed(seed)
    reward = (torch.rand(2, 3, 4, generator=rng) < 0.3).double()
    valid = torch.rand(2, 3, 4, generator=rng) < 0.7
    groups = RolloutGroups.of(reward, valid=valid)
    signal = build_signal(Strategy(credit="dr_grpo", update=update), groups)
    for run in range(2):
        slots = [(b, g) for b in range(3) for g in range(4) if valid[run, b, g]]
        active = sum(signal.advantage[run, b, g].item() != 0 for b, g in slots)
        sent = active if update == "active" else len(slots)
        expected = {
            "rollouts": len(slots),
            "active": active,
            "tokens": sent * length,
            "prompts": 3,
        }
        for kind, count in expected.items():
            assert denominator(signal, kind, length)[run].item() == max(count, 1)


@quick
@given(
    logp=logps,
    old=logps,
    advantage=st.floats(-5, 5),
    low=st.floats(0, 0.9),
    high=st.floats(0, 2),
)
def test_the_clipped_surrogate_equals_the_loop(logp, old, advantage, low, high):
    value = clipped_surrogate(
        torch.tensor([logp], dtype=torch.float64),
        torch.tensor([old], dtype=torch.float64),
        torch.tensor(advantage, dtype=torch.float64),
        low,
        high,
    )
    expected = oracles.surrogate(logp, old, advantage, low, high)
    assert value.tolist() == pytest.approx([expected], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [(1.5, 1, 0), (1.5, -1, 1.5), (0.5, 1, -0.5), (0.5, -1, 0), (1, 1, -1), (1, -1, 1)],
)
def test_the_clip_stops_the_gradient_only_on_the_side_that_has_moved_too_far(
    ratio, advantage, slope
):
    logp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(advantage, dtype=torch.float64)
    clipped_surrogate(logp, torch.zeros(1, dtype=torch.float64), weight, 0.2, 0.28).sum().backward()
    assert logp.grad.item() == pytest.approx(slope)


@estimators
@quick
@given(seed=seeds, weight=st.sampled_from([0.0, 0.1, 2.0]))
def test_the_policy_loss_of_each_run_equals_the_loop(estimator, seed, weight):
    logp, old, ref, advantage, rows = random_rows(seed)
    divisor = torch.tensor([3.0, 7.0], dtype=torch.float64)
    loss = policy_loss(
        logp, old, advantage, rows, divisor, ref_logp=ref, kl_weight=weight, kl_estimator=estimator
    )
    expected = [
        oracles.policy_loss(
            *(t[run].tolist() for t in (logp, old, ref, advantage, rows, divisor)),
            0.2,
            0.28,
            weight,
            estimator,
        )
        for run in range(2)
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@estimators
@pytest.mark.parametrize("outside", [None, 1e4, -math.inf, math.nan])
@quick
@given(seed=seeds)
def test_a_row_outside_rows_has_zero_gradient_whatever_it_holds(estimator, outside, seed):
    logp, old, ref, advantage, rows = random_rows(seed)
    if outside is not None:
        logp = logp.masked_fill(~rows.unsqueeze(-1), outside)
    logp.requires_grad_()
    loss = policy_loss(
        logp,
        old,
        advantage,
        rows,
        torch.ones(2, dtype=torch.float64),
        ref_logp=ref,
        kl_weight=0.5,
        kl_estimator=estimator,
    )
    assert loss.isfinite().all()
    loss.sum().backward()
    assert logp.grad.isfinite().all()
    assert not logp.grad[~rows].any()


@estimators
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("held", [1e4, -1e4, math.inf, -math.inf, math.nan])
def test_nothing_that_a_row_outside_rows_holds_is_heard_of(held, ratio, estimator):
    inputs = random_rows(3)
    rows = inputs[-1]
    assert rows.any()
    assert not rows.all()

    def outcome(logp, old, ref):
        logp = logp.clone().requires_grad_()
        # Not even on the way back: a NaN that a mask hides later stops a search for real ones.
        with torch.autograd.set_detect_anomaly(True):
            loss = policy_loss(
                logp,
                old,
                inputs[3],
                rows,
                torch.ones(2, dtype=torch.float64),
                ref_logp=ref,
                kl_weight=0.5,
                kl_estimator=estimator,
                ratio=ratio,
            )
            loss.sum().backward()
        return loss.detach(), logp.grad

    plain = outcome(*inputs[:3])
    assert not plain[1][~rows].any()
    for place in range(3):
        changed = list(inputs[:3])
        changed[place] = changed[place].masked_fill(~rows.unsqueeze(-1), held)
        for one, other in zip(plain, outcome(*changed), strict=True):
            assert torch.equal(one, other)


@quick
@given(seed=seeds)
def test_a_sequence_ratio_weighs_each_token_of_its_row_alike(seed):
    logp, old, _, advantage, _ = random_rows(seed, length=3)
    loss = clipped_surrogate(logp, old, advantage, 0.2, 0.28, "sequence")
    assert loss.shape == logp.shape
    mean = (logp - old).mean(-1)
    for place in itertools.product(*map(range, advantage.shape)):
        expected = oracles.surrogate(mean[place].item(), 0.0, advantage[place].item(), 0.2, 0.28)
        assert loss[place].tolist() == pytest.approx([expected] * 3, rel=1e-9)


def test_the_supervised_loss_is_the_weighted_mean_of_minus_log_p_of_each_run():
    target_logp = torch.tensor([[-1.0, -3.0], [-2.0, 0.0]])
    assert supervised_loss(target_logp, 0.5).tolist() == [1.0, 0.5]
    weight = torch.tensor([1.0, 0.0])
    assert supervised_loss(target_logp, weight).tolist() == [0.5, 1.0]


def path_logp(coarse, fine, paths):
    """Per-code log-probabilities of two-level paths `[B, U, 2]` under softmax tables."""
    prompt = torch.arange(paths.shape[0]).unsqueeze(-1)
    first, second = paths.unbind(-1)
    chosen = (
        coarse.log_softmax(-1)[prompt, first],
        fine.log_softmax(-1)[prompt, first, second],
    )
    return torch.stack(chosen, -1)


def gradient(loss, tables):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, tables)])


@pytest.mark.parametrize(("kind", "dilution"), [("prompts", 1), ("rollouts", 5)])
@quick
@given(seed=seeds)
def test_recast_is_supervision_minus_the_push_on_the_hardest_negative(kind, dilution, seed):
    rng = torch.Generator().manual_seed(seed)
    prompts, width, codes = 3, 5, 3
    coarse = torch.randn(prompts, codes, generator=rng, dtype=torch.float64, requires_grad=True)
    fine = torch.randn(
        prompts, codes, codes, generator=rng, dtype=torch.float64, requires_grad=True
    )
    paths = torch.randint(codes, (prompts, width, 2), generator=rng)
    target = torch.randint(codes, (prompts, 1, 2), generator=rng)
    paths[:, -1, 0] = (target[:, 0, 0] + 1) % codes  # K < G: at least one rollout misses

    score = structural_score(paths.unsqueeze(-2), target.unsqueeze(-3), dtype=torch.float64)
    reward = (score == 1).double()
    signal = build_signal(STRATEGIES["recast"], RolloutGroups.of(reward, score=score))
    anchored = (signal.groups.origin == int(Origin.ANCHOR)).unsqueeze(-1)
    trained = torch.where(anchored, target, paths)
    logp = path_logp(coarse, fine, trained)
    loss = policy_loss(
        logp, logp.detach(), signal.advantage, signal.rows, denominator(signal, kind, 2)
    )
    target_logp = path_logp(coarse, fine, target).sum((-2, -1))

    hardest = []
    for b in range(prompts):
        group = [
            oracles.Rollout(reward[b, g].item(), score[b, g].item(), 0.0) for g in range(width)
        ]
        group = oracles.repaired(group)
        pair = oracles.selected(group, "pair")
        (miss,) = (g for g in pair if not oracles.is_hit(group[g]))
        hardest.append(miss)
    negatives = paths[torch.arange(prompts), hardest].unsqueeze(-2)
    push = path_logp(coarse, fine, negatives).sum() / prompts

    tables = (coarse, fine)
    ascent = -gradient(loss, tables)
    expected = -gradient(supervised_loss(target_logp, 1.0), tables) - gradient(push, tables)
    assert torch.allclose(ascent, expected / dilution, rtol=0, atol=1e-12)


@quick
@given(seed=seeds, targets=st.sampled_from([(0,), (1,), (0, 2)]))
def test_the_mean_grpo_step_over_all_groups_is_w_of_p_times_grad_log_p(seed, targets):
    rng = torch.Generator().manual_seed(seed)
    items, width = 3, 4
    table = torch.randn(items, generator=rng, dtype=torch.float64, requires_grad=True)
    log_pi = table.log_softmax(-1)
    log_p = log_pi[list(targets)].logsumexp(-1)

    # Every group that the policy can sample is one run of a single prompt.
    sampled = torch.tensor(list(itertools.product(range(items), repeat=width))).unsqueeze(1)
    reward = torch.isin(sampled, torch.tensor(targets)).double()
    signal = build_signal(Strategy(credit="grpo(eps=0)"), RolloutGroups.of(reward))
    logp = log_pi[sampled].unsqueeze(-1)
    divisor = denominator(signal, "rollouts", 1)
    assert divisor.eq(width).all()
    loss = policy_loss(logp, logp.detach(), signal.advantage, signal.rows, divisor)
    chance = log_pi[sampled].sum((-2, -1)).exp().detach()
    assert chance.sum().item() == pytest.approx(1)

    (step,) = torch.autograd.grad(-(chance * loss).sum(), table, retain_graph=True)
    (direction,) = torch.autograd.grad(log_p, table)
    weight = oracles.grpo_weight(log_p.exp().item(), width)
    assert torch.allclose(step, weight * direction, rtol=0, atol=1e-10)


def test_a_signal_without_active_rows_costs_nothing():
    groups = RolloutGroups.of(torch.zeros(1, 2, 3))
    signal = build_signal(STRATEGIES["contrast_only"], groups)
    assert isinstance(signal, Signal)
    logp = torch.zeros(1, 2, 3, 2, requires_grad=True)
    for kind in ("rollouts", "active", "tokens", "prompts"):
        divisor = denominator(signal, kind, 2)
        loss = policy_loss(logp, logp.detach(), signal.advantage, signal.rows, divisor)
        assert loss.tolist() == [0.0]


def test_a_kl_weight_without_a_reference_changes_nothing():
    logp, old, _, advantage, rows = random_rows(7)
    divisor = torch.ones(2, dtype=torch.float64)
    plain = policy_loss(logp, old, advantage, rows, divisor)
    assert torch.equal(plain, policy_loss(logp, old, advantage, rows, divisor, kl_weight=0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", get_args(Denominator))
def test_a_denominator_has_the_type_of_the_advantages(kind, dtype):
    groups = RolloutGroups.of(torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=dtype))
    signal = build_signal(STRATEGIES["grpo"], groups)
    assert denominator(signal, kind, length=3).dtype == dtype

"""Packing and the whole loss of a strategy against loops, with every axis of another length."""

import math
from dataclasses import replace

import oracles
import pytest
import torch

from recast import (
    STRATEGIES,
    Evidence,
    LossSettings,
    Origin,
    RolloutGroups,
    Strategy,
    build_signal,
    denominator,
    pack,
    policy_loss,
    strategy_loss,
)

RUNS, PROMPTS, WIDTH, LENGTH = 2, 3, 5, 4
SETTINGS = LossSettings(clip_low=0.1, clip_high=0.3, kl_weight=0.05, kl_estimator="k2")


def make(seed=0):
    rng = torch.Generator().manual_seed(seed)
    shape = (RUNS, PROMPTS, WIDTH)
    reward = (torch.rand(shape, generator=rng) < 0.4).double()
    reward[:, 0] = 0.0
    groups = RolloutGroups.of(
        reward,
        score=torch.rand(shape, generator=rng).double() * 0.5,
        valid=torch.rand(shape, generator=rng) < 0.85,
        length=torch.randint(1, 9, shape, generator=rng),
        tie_key=torch.rand(shape, generator=rng),
    )
    logp, old, ref = -2 * torch.rand(3, *shape, LENGTH, generator=rng, dtype=torch.float64)
    target, target_ref = -2 * torch.rand(
        2, RUNS, PROMPTS, LENGTH, generator=rng, dtype=torch.float64
    )
    return groups, logp, old, ref, target, target_ref


def narrow(rows, logp):
    return logp.gather(-2, rows.index.unsqueeze(-1).expand(*rows.index.shape, LENGTH))


def whole_loss(strategy, seed, evidence=True, **changes):
    groups, logp, old, ref, target, target_ref = make(seed)
    signal = build_signal(strategy, groups)
    rows = pack(signal, max(strategy.width(WIDTH), 1))
    inputs = {
        "logp": narrow(rows, logp),
        "old_logp": narrow(rows, old),
        "ref_logp": narrow(rows, ref),
        "evidence": Evidence(target, target_ref, progress=0.5) if evidence else None,
        "settings": SETTINGS,
    }
    return signal, strategy_loss(strategy, signal, rows, length=LENGTH, **(inputs | changes))


def slow_divisor(signal, kind, run):
    valid, rows = signal.groups.valid[run], signal.rows[run]
    active = signal.active[run]
    live, filled = (sum(map(any, mask.tolist())) for mask in (active, valid))
    count = {
        "rollouts": valid.sum(),
        "active": active.sum(),
        "tokens": (rows * signal.groups.length[run]).sum(),
        "prompts": PROMPTS,
        "constant": PROMPTS * WIDTH * LENGTH,
        "live_groups": int(valid.sum()) * live / filled,
    }[kind]
    return max(float(count), 1.0)


def slow_policy_loss(signal, strategy, seed, run):
    """Sum over rows and codes in plain loops; ratios and anchors as the strategy says."""
    _, logp, old, ref, _, _ = make(seed)
    total = 0.0
    for b in range(PROMPTS):
        for g in range(WIDTH):
            if not signal.rows[run, b, g]:
                continue
            new, before, base = (t[run, b, g].tolist() for t in (logp, old, ref))
            anchor = signal.groups.origin[run, b, g] == int(Origin.ANCHOR)
            if anchor and strategy.anchor_ratio == "behaviour_one":
                before = [0.0] * LENGTH
            if strategy.ratio == "sequence":
                shift = sum(n - o for n, o in zip(new, before, strict=True)) / LENGTH
                before = [n - shift for n in new]
            advantage = signal.advantage[run, b, g].item()
            low, high = (math.inf, math.inf) if strategy.clip == "none" else (0.1, 0.3)
            for n, o, r in zip(new, before, base, strict=True):
                if anchor and strategy.anchor_ratio.startswith("shaped"):
                    c = 0.5 if "0.5" in strategy.anchor_ratio else 0.1
                    total -= advantage * math.exp(n) / (math.exp(n) + c)
                else:
                    total += oracles.surrogate(n, o, advantage, low, high)
                total += 0.05 * oracles.kl(n, r, "k2")
    return total / slow_divisor(signal, strategy.denominator, run)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "strategy",
    [
        *[
            Strategy(credit="dr_grpo", denominator=kind)
            for kind in ("rollouts", "active", "tokens", "prompts", "constant", "live_groups")
        ],
        Strategy(repair="anchor"),
        Strategy(repair="anchor", anchor_ratio="behaviour_one"),
        Strategy(repair="overwrite_last", anchor_ratio="shaped(0.5)"),
        Strategy(repair="overwrite_last", anchor_ratio="shaped"),
        Strategy(credit="dr_grpo", ratio="sequence"),
        Strategy(credit="dr_grpo", clip="none"),
        Strategy(repair="anchor", select="pair", credit="sign", update="active"),
        Strategy(credit="dr_grpo", policy_weight=0.25),
    ],
    ids=str,
)
def test_the_policy_part_of_the_loss_of_each_run_equals_the_loop(strategy, seed):
    signal, loss = whole_loss(strategy, seed)
    expected = [
        strategy.policy_weight * slow_policy_loss(signal, strategy, seed, run)
        for run in range(RUNS)
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-9)


def test_the_supervised_part_adds_the_mean_over_prompts():
    plain = whole_loss(Strategy(), 0)[1]
    _, _, _, _, target, _ = make(0)
    both = whole_loss(Strategy(supervised="sft(0.3)"), 0)[1]
    assert torch.allclose(both - plain, -0.3 * target.sum(-1).mean(-1))
    alone = whole_loss(STRATEGIES["sft"], 0, logp=None, old_logp=None, ref_logp=None)[1]
    assert torch.allclose(alone, -target.sum(-1).mean(-1))


def test_without_evidence_or_without_rows_the_other_part_stands_alone():
    strategy = Strategy(supervised="sft(0.3)")
    policy_only = whole_loss(strategy, 0, evidence=False)[1]
    assert torch.allclose(policy_only, whole_loss(Strategy(), 0)[1])
    target_only = whole_loss(strategy, 0, logp=None)[1]
    assert torch.allclose(target_only, whole_loss(strategy, 0, old_logp=None)[1])
    _, _, _, _, target, _ = make(0)
    assert torch.allclose(target_only, -0.3 * target.sum(-1).mean(-1))
    nothing = whole_loss(Strategy(), 0, logp=None, evidence=False)[1]
    assert nothing.tolist() == [0.0] * RUNS
    assert nothing.dtype == torch.float64


def test_hits_and_rollouts_of_the_sampled_group_reach_the_supervised_term():
    strategy = replace(STRATEGIES["target_power_hits"], supervised="power_hits(1, 1)")
    groups, _, _, _, target, _ = make(3)
    loss = whole_loss(strategy, 3, logp=None)[1]
    estimate = (groups.hit.sum(-1) + 0.5) / (groups.valid.sum(-1) + 1)
    assert torch.allclose(loss, -(estimate * target.sum(-1)).mean(-1))


def test_the_sampled_misses_and_their_reference_reach_the_preference_loss():
    strategy = STRATEGIES["s_dpo"]
    groups, logp, _, ref, target, target_ref = make(4)
    signal, loss = whole_loss(strategy, 4)
    for run in range(RUNS):
        total = 0.0
        for b in range(PROMPTS):
            better = (target - target_ref)[run, b].sum().item()
            change = (logp - ref)[run, b].sum(-1)
            worse = [change[g].item() for g in range(WIDTH) if signal.rows[run, b, g]]
            assert all(not groups.hit[run, b, g] for g in range(WIDTH) if signal.rows[run, b, g])
            if worse:
                inside = math.log(sum(math.exp(0.1 * (w - better)) for w in worse))
                total += math.log1p(math.exp(inside))
        assert loss[run].item() == pytest.approx(total / PROMPTS, rel=1e-9)


def test_packing_puts_the_rows_that_reach_the_actor_first_in_slot_order():
    groups, *_ = make(5)
    strategy = Strategy(repair="anchor", select="pair", credit="sign", update="active")
    signal = build_signal(strategy, groups)
    for width in (2, 3, WIDTH, WIDTH + 4):
        rows = pack(signal, width)
        kept = min(width, WIDTH)
        assert rows.index.shape == (RUNS, PROMPTS, kept)
        for run in range(RUNS):
            for b in range(PROMPTS):
                reaches = signal.rows[run, b].tolist()
                order = sorted(range(WIDTH), key=lambda g: (not reaches[g], g))[:kept]
                assert rows.index[run, b].tolist() == order
                assert rows.active[run, b].tolist() == [reaches[g] for g in order]
                assert rows.advantage[run, b].tolist() == signal.advantage[run, b, order].tolist()
                anchors = signal.groups.origin[run, b, order] == int(Origin.ANCHOR)
                assert rows.anchor[run, b].tolist() == anchors.tolist()
    assert rows.anchor.any()


def test_packing_keeps_a_credit_per_token_with_its_row():
    groups, *_ = make(6)
    rng = torch.Generator().manual_seed(1)
    entropy = torch.rand(RUNS, PROMPTS, WIDTH, LENGTH, generator=rng, dtype=torch.float64)
    signal = build_signal(STRATEGIES["rl_zvp"], replace(groups, entropy=entropy))
    rows = pack(signal, 3)
    assert rows.advantage.shape == (RUNS, PROMPTS, 3, LENGTH)
    for run in range(RUNS):
        for b in range(PROMPTS):
            expected = signal.advantage[run, b, rows.index[run, b]]
            assert torch.equal(rows.advantage[run, b], expected)


def test_an_empty_batch_is_divided_by_one():
    nobody = torch.zeros(1, 2, 3, dtype=torch.bool)
    groups = RolloutGroups.of(torch.zeros(1, 2, 3), valid=nobody)
    signal = build_signal(Strategy(credit="dr_grpo"), groups)
    for kind in ("rollouts", "active", "tokens", "live_groups"):
        assert 0 < denominator(signal, kind, 4).item() <= 1
    assert denominator(signal, "prompts", 4).tolist() == [2.0]
    assert denominator(signal, "constant", 4).tolist() == [24.0]


@pytest.mark.parametrize(("prompts", "width"), [(1, 1), (1, 4), (4, 1)])
def test_a_denominator_needs_no_second_prompt_and_no_second_rollout(prompts, width):
    groups = RolloutGroups.of(torch.ones(prompts, width))
    signal = build_signal(Strategy(credit="raw"), groups)
    slots = prompts * width
    expected = {
        "rollouts": slots,
        "active": slots,
        "tokens": 3 * slots,
        "prompts": prompts,
        "constant": 3 * slots,
        "live_groups": slots,
    }
    for kind, count in expected.items():
        found = denominator(signal, kind, 3)
        assert found.shape == ()
        assert found.item() == count


def test_live_groups_is_the_exact_share_of_the_groups_that_hold_rollouts():
    reward = torch.zeros(4, 7, dtype=torch.float64)
    reward[0, 0] = 1.0
    valid = torch.ones(4, 7, dtype=torch.bool)
    valid[3] = False
    signal = build_signal(Strategy(credit="dr_grpo"), RolloutGroups.of(reward, valid=valid))
    assert denominator(signal, "live_groups", 1).item() == pytest.approx(21 / 3, rel=1e-14)
    valid[1:] = False
    signal = build_signal(Strategy(credit="dr_grpo"), RolloutGroups.of(reward, valid=valid))
    assert denominator(signal, "live_groups", 1).item() == 7.0


def test_the_defaults_of_the_policy_loss_are_the_published_clip_and_no_kl():
    logp = torch.tensor([[[[0.5, -0.5]]]], dtype=torch.float64)
    old = torch.zeros_like(logp)
    one, rows = torch.ones(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.bool)
    far = torch.full_like(logp, -9.0)
    loss = policy_loss(logp, old, one, rows, torch.ones(1), ref_logp=far)
    assert loss.item() == pytest.approx(-1.28 - math.exp(-0.5))
    loss = policy_loss(logp, old, -one, rows, torch.ones(1))
    assert loss.item() == pytest.approx(math.exp(0.5) + 0.8)
    weighted = policy_loss(logp, old, 0 * one, rows, torch.ones(1), ref_logp=far, kl_weight=2.0)
    assert weighted.item() == pytest.approx(2 * sum(oracles.kl(x, -9.0, "k3") for x in (0.5, -0.5)))


def test_an_anchor_without_a_treatment_is_a_rollout_like_any_other():
    _, logp, old, _, _, _ = make(7)
    advantage = torch.ones(RUNS, PROMPTS, WIDTH, dtype=torch.float64)
    rows = torch.ones(RUNS, PROMPTS, WIDTH, dtype=torch.bool)
    plain = policy_loss(logp, old, advantage, rows, torch.ones(RUNS))
    marked = policy_loss(logp, old, advantage, rows, torch.ones(RUNS), anchor=rows)
    assert torch.equal(plain, marked)
    for treatment in ("behaviour_one", "shaped"):
        unmarked = policy_loss(logp, old, advantage, rows, torch.ones(RUNS), anchor_ratio=treatment)
        assert torch.equal(plain, unmarked)

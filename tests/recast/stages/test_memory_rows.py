"""Rows that remember: a tracked value per prompt, and hits that are replayed."""

from __future__ import annotations

import oracles
import pytest
import torch

from recast import (
    STRATEGIES,
    LossSettings,
    Origin,
    RolloutGroups,
    build_signal,
    pack,
    strategy_loss,
)
from recast.stages.credit import CREDITS

CODES = 3


def visit(rewards: list[list[float]], prompts: list[int], seed: int = 0) -> RolloutGroups:
    rng = torch.Generator().manual_seed(seed)
    reward = torch.tensor(rewards, dtype=torch.float64)
    item = torch.arange(reward.numel()).view(reward.shape) + 100 * seed
    return RolloutGroups.of(
        reward,
        item=item,
        logp=-torch.rand(*reward.shape, CODES, generator=rng).double(),
        prompt=torch.tensor(prompts),
        tie_key=torch.arange(reward.shape[1]).expand(reward.shape),
    )


def test_the_tracker_of_spo_is_the_discounted_count_of_a_loop():
    strategy = STRATEGIES["spo"]
    state, counts = dict(strategy.start((), 5)), [(0.5, 0.5)] * 5
    rng = torch.Generator().manual_seed(1)
    for step in range(6):
        prompts = torch.randperm(5, generator=rng)[:3].tolist()
        rewards = torch.randint(0, 2, (3, 4), generator=rng).double().tolist()
        signal = build_signal(strategy, visit(rewards, prompts, step), state)
        batch = [[oracles.Rollout(r, 0.0, 0.0) for r in group] for group in rewards]
        expected = oracles.spo(batch, [counts[p] for p in prompts])
        assert signal.advantage.tolist() == [pytest.approx(row, abs=1e-9) for row in expected]
        for prompt, group in zip(prompts, rewards, strict=True):
            hits, misses = counts[prompt]
            won = sum(group)
            counts[prompt] = (0.9 * hits + won, 0.9 * misses + len(group) - won)
        state = dict(signal.state)
        assert state["spo_hits"].tolist() == pytest.approx([a for a, _ in counts])
        assert state["spo_misses"].tolist() == pytest.approx([b for _, b in counts])


def test_the_tracker_of_spo_keeps_runs_apart_and_prompts_that_were_not_rolled_out():
    """Two runs as one batch give what each gives alone; of the second, one group is missing."""
    strategy = STRATEGIES["spo"]
    rng = torch.Generator().manual_seed(3)
    reward = torch.randint(0, 2, (2, 3, 4), generator=rng).double()
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[1, 2] = False
    valid[0, 0, 3] = False
    prompt = torch.tensor([[0, 1, 2], [4, 3, 2]])
    both = RolloutGroups.of(reward * valid, valid=valid, prompt=prompt)
    state = {name: value + 0.25 for name, value in strategy.start((2,), 5).items()}
    together = build_signal(strategy, both, dict(state))
    assert together.advantage.dtype == torch.float64
    assert torch.isfinite(together.advantage).all()
    for run in range(2):
        alone = RolloutGroups.of(reward[run] * valid[run], valid=valid[run], prompt=prompt[run])
        own = {name: value[run] for name, value in state.items()}
        signal = build_signal(strategy, alone, own)
        assert torch.equal(together.advantage[run], signal.advantage)
        for name, after in signal.state.items():
            assert torch.equal(together.state[name][run], after)
    assert together.state["spo_hits"][1, 2] == 0.75  # not rolled out: as it was
    assert together.state["spo_misses"][1, 2] == 0.75


def test_what_spo_keeps_of_earlier_visits_is_nine_tenths_unless_said():
    """And a batch in which every reward is what was expected teaches nothing."""
    assert STRATEGIES["spo"].stage("credit").stage.defaults["decay"] == 0.9
    even = RolloutGroups.of(
        torch.full((1, 4), 0.5, dtype=torch.float64),
        prompt=torch.tensor([0]),
        hit_threshold=0.9,
    )
    start = {name: value + 1.0 for name, value in STRATEGIES["spo"].start((), 1).items()}
    assert not CREDITS["spo"].function(even, start).any()


def test_a_dead_group_replays_the_last_hit_of_its_own_prompt():
    strategy = STRATEGIES["replay"]
    first = visit([[0, 1, 1], [0, 0, 0]], [2, 4])
    signal = build_signal(strategy, first, dict(strategy.start((), 6)))
    assert not (signal.groups.origin != 0).any()
    second = visit([[0, 0, 0], [0, 0, 0], [0, 1, 0]], [2, 4, 3], 1)
    again = build_signal(strategy, second, dict(signal.state))
    assert (again.groups.origin == int(Origin.REPLAY)).tolist() == [
        [True, False, False], [False] * 3, [False] * 3,
    ]  # fmt: skip
    assert again.groups.item[0, 0] == first.item[0, 1]
    assert again.groups.logp[0, 0].sum().item() == pytest.approx(first.logp[0, 1].sum().item())
    assert again.advantage[0, 0] > 0
    assert not again.advantage[1].any()
    third = visit([[0, 0, 0]], [3], 2)
    assert build_signal(strategy, third, dict(again.state)).groups.item[0, 0] == second.item[2, 1]


def test_a_replayed_row_is_corrected_for_what_the_policy_has_become_since():
    strategy = STRATEGIES["replay"]
    first = visit([[0, 1, 0]], [0])
    state = dict(build_signal(strategy, first, dict(strategy.start((), 1))).state)
    signal = build_signal(strategy, visit([[0, 0, 0]], [0], 1), state)
    rows = pack(signal, 3)
    now = -1.2 * torch.ones(1, 3, CODES, dtype=torch.float64)
    # Low enough for the clip not to touch it: the change per code is the mean of the row's.
    leaf = now.clone().requires_grad_()
    settings = LossSettings(clip_low=10.0, clip_high=10.0)
    loss = strategy_loss(
        strategy, signal, rows, length=CODES, settings=settings, logp=leaf, old_logp=now
    )
    (slope,) = torch.autograd.grad(loss.sum(), leaf)
    ratio = torch.exp(now[0, 0].mean() - first.logp[0, 1].mean())
    expected = -(ratio * signal.advantage[0, 0] / 3).item()
    assert slope[0, 0].tolist() == pytest.approx([expected] * CODES)
    assert slope[0, 1].tolist() == pytest.approx([-(signal.advantage[0, 1] / 3).item()] * CODES)

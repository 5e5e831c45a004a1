"""Our advantages, losses and KL estimators against verl's own code, on thousands of batches."""

import numpy as np
import pytest
import torch
from ragged import BINARY, GRADED, SIGNED, Ragged, many
from verl_reference import advantage, core_algos

from recast import STRATEGIES, RolloutGroups, Strategy, build_signal, kl_estimate

BATCHES = 700  # of each kind of reward

# Our strategy: verl's name for the estimator, and the options that make it the same formula.
SAME = {
    "grpo": ("grpo", {}),
    "dr_grpo": ("grpo", {"norm_adv_by_std_in_grpo": False}),
    "rloo": ("rloo", {}),
    "opo": ("opo", {}),
    "reinforce_pp": ("reinforce_plus_plus", {}),
    "gpg": ("gpg", {}),
    "best_of_group": ("grpo_passk", {}),
}
# verl computes these in float32 whatever it is given; quarters keep the sums exact.
VECTORISED = {
    "grpo": ("grpo_vectorized", {}),
    "dr_grpo": ("grpo_vectorized", {"norm_adv_by_std_in_grpo": False}),
    "rloo": ("rloo_vectorized", {}),
}
# Estimators of verl that have no row here, and why.
NO_ROW = {
    "gae": "needs a critic",
    "remax": "needs the reward of a greedy rollout per prompt",
    "gdpo": "several rewards per rollout, each normalised apart",
    "reinforce_plus_plus_baseline": "RF++ with a group baseline; its whitening couples the batch",
    "optimal_token_baseline": "a baseline per token, from log-probabilities",
    "tir_optimal_token_baseline": "a baseline per token and turn, from log-probabilities",
}


def worst_gap(strategy: Strategy, estimator: str, options: dict, kind: str, count: int) -> float:
    gap = 0.0
    for batch in many(count, kind):
        if estimator == "reinforce_plus_plus" and constant(batch):
            continue
        ours = batch.flat(build_signal(strategy, batch.groups).advantage)
        theirs = advantage(estimator, batch, **options).to(ours.dtype)
        gap = max(gap, ((ours - theirs).abs() / theirs.abs().clamp(min=1)).max().item())
    return gap


def constant(batch: Ragged) -> bool:
    """Whether every reward of the batch is the same. verl's whitening divides the mean by tokens
    plus 1e-8 and leaks up to 1e-5 there; we give exactly 0."""
    reward = batch.flat(batch.groups.reward)
    return bool((reward == reward[0]).all())


def test_every_estimator_of_verl_is_compared_or_named_with_a_reason():
    compared = {estimator for estimator, _ in [*SAME.values(), *VECTORISED.values()]}
    of_verl = {
        name
        for name, function in core_algos.ADV_ESTIMATOR_REGISTRY.items()
        if function.__module__.startswith("verl.")  # our own adapter registers others
    }
    assert compared | NO_ROW.keys() == of_verl
    assert not compared & NO_ROW.keys()


def test_every_strategy_that_names_verl_as_its_source_is_compared():
    assert {name for name, s in STRATEGIES.items() if "verl" in s.source} <= SAME.keys()


@pytest.mark.parametrize("kind", [BINARY, GRADED, SIGNED])
@pytest.mark.parametrize(("name", "reference"), SAME.items())
def test_an_advantage_equals_verl_s_to_1e_6(name, reference, kind):
    assert worst_gap(STRATEGIES[name], *reference, kind, BATCHES) < 1e-6


@pytest.mark.parametrize("kind", [BINARY, GRADED, SIGNED])
@pytest.mark.parametrize(("name", "reference"), VECTORISED.items())
def test_an_advantage_equals_verl_s_vectorised_one_to_1e_6(name, reference, kind):
    assert worst_gap(STRATEGIES[name], *reference, kind, BATCHES) < 1e-6


def one_group(rewards: list[float], dtype: torch.dtype) -> Ragged:
    """A single group, a token per response, in order."""
    count = len(rewards)
    reward = torch.tensor([rewards], dtype=dtype)
    return Ragged(
        groups=RolloutGroups.of(reward),
        slot=(torch.zeros(count, dtype=torch.int64), torch.arange(count)),
        tokens=reward.T.clone(),
        mask=torch.ones(count, 1, dtype=dtype),
        index=np.array(["prompt"] * count, dtype=object),
    )


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo"])
def test_verl_keeps_the_reward_of_a_lone_rollout_where_we_give_0(name):
    batch = one_group([2.0], torch.float64)
    estimator, options = SAME[name]
    assert advantage(estimator, batch, **options).item() == pytest.approx(2.0)
    assert build_signal(STRATEGIES[name], batch.groups).advantage.item() == 0.0


def test_verl_leaks_an_advantage_into_constant_float32_groups_where_we_give_0():
    leaks = []
    for width in range(2, 40):
        batch = one_group([0.1] * width, torch.float32)
        leaks.append(advantage("grpo", batch).abs().max().item())
        assert not build_signal(STRATEGIES["grpo"], batch.groups).advantage.any()
    assert max(leaks) > 1e-3


def test_verl_leaks_an_advantage_into_a_constant_batch_where_reinforce_pp_gives_0():
    batch = one_group([1.0] * 4, torch.float64)
    assert advantage("reinforce_plus_plus", batch).abs().max() > 1e-6
    assert not build_signal(STRATEGIES["reinforce_pp"], batch.groups).advantage.any()


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_kl_estimator_equals_verl_s_within_its_clamp(estimator):
    rng = torch.Generator().manual_seed(0)
    logp, ref = -4 * torch.rand(2, 2000, 3, generator=rng, dtype=torch.float64)
    theirs = core_algos.kl_penalty(logp, ref, estimator)
    # verl clamps k3 at 10.
    ours = kl_estimate(logp, ref, estimator).clamp(max=10 if estimator == "k3" else torch.inf)
    assert (ours - theirs).abs().max() < 1e-6

"""Our advantages, losses and KL estimators against verl's own code, on thousands of batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ragged import BINARY, GRADED, SIGNED, Ragged, many
from verl_reference import Config, advantage, core_algos

from recast import STRATEGIES, RolloutGroups, Strategy, build_signal, kl_estimate

BATCHES = 700  # of each kind of reward

# Our strategy: verl's name for the estimator, and the options that make it the same formula.
SAME = {
    "grpo": ("grpo", {}),
    "dr_grpo": ("grpo", {"norm_adv_by_std_in_grpo": False}),
    "rloo": ("rloo", {}),
    "opo": ("opo", {}),
    "reinforce_pp": ("reinforce_plus_plus", {}),
    "reinforce_pp_baseline": ("reinforce_plus_plus_baseline", {}),
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
    "optimal_token_baseline": "a baseline per token, from log-probabilities",
    "tir_optimal_token_baseline": "a baseline per token and turn, from log-probabilities",
}


def worst_gap(strategy: Strategy, estimator: str, options: dict, kind: str, count: int) -> float:
    gap = 0.0
    for batch in many(count, kind):
        ours = batch.flat(build_signal(strategy, batch.groups).advantage)
        if "plus_plus" in estimator and not ours.any():
            continue  # verl whitens a constant batch into what `constant` says
        theirs = advantage(estimator, batch, **options).to(ours.dtype)
        gap = max(gap, ((ours - theirs).abs() / theirs.abs().clamp(min=1)).max().item())
    return gap


def constant(batch: Ragged) -> bool:
    """Whether every reward of the batch is the same. verl's whitening divides the mean by tokens
    plus 1e-8 and leaks up to 1e-5 there; we give exactly 0."""
    reward = batch.flat(batch.groups.reward)
    return bool((reward == reward[0]).all())


def test_every_estimator_of_verl_is_compared_or_named_with_a_reason():
    compared = {estimator for estimator, _ in [*SAME.values(), *VECTORISED.values()]} | {"gdpo"}
    of_verl = {
        name
        for name, function in core_algos.ADV_ESTIMATOR_REGISTRY.items()
        if function.__module__.startswith("verl.")  # our own adapter registers others
    }
    assert compared | NO_ROW.keys() == of_verl
    assert not compared & NO_ROW.keys()


def test_every_strategy_that_names_verl_as_its_source_is_compared():
    named = {name for name, s in STRATEGIES.items() if "verl" in s.source}
    assert named <= SAME.keys() | {"gdpo"}


@pytest.mark.parametrize("kind", [BINARY, GRADED, SIGNED])
@pytest.mark.parametrize(("name", "reference"), SAME.items())
def test_an_advantage_equals_verl_s_to_1e_6(name, reference, kind):
    assert worst_gap(STRATEGIES[name], *reference, kind, BATCHES) < 1e-6


@pytest.mark.parametrize("kind", [BINARY, GRADED, SIGNED])
@pytest.mark.parametrize(("name", "reference"), VECTORISED.items())
def test_an_advantage_equals_verl_s_vectorised_one_to_1e_6(name, reference, kind):
    assert worst_gap(STRATEGIES[name], *reference, kind, BATCHES) < 1e-6


def test_two_rewards_of_gdpo_equal_verl_s():
    gap = 0.0
    for seed, batch in enumerate(many(BATCHES, BINARY)):
        rng = torch.Generator().manual_seed(seed)
        groups = batch.groups
        drawn = torch.randint(0, 5, groups.reward.shape, generator=rng)
        # A hit matches every code: both rewards say so.
        matched = torch.where(groups.reward > 0, 4, drawn)
        given = replace(groups, matched=matched, depth=4)
        ours = batch.flat(build_signal(STRATEGIES["gdpo"], given).advantage)
        if not ours.any():
            continue
        theirs, _ = core_algos.get_adv_estimator_fn("gdpo")(
            token_level_rewards=batch.tokens.clone(),
            response_mask=batch.mask,
            index=batch.index,
            config=Config({"gdpo_reward_keys": ["hit", "share"]}),
            non_tensor_batch={
                "hit": batch.flat(groups.reward).numpy(),
                "share": batch.flat(matched / 4).numpy(),
            },
            batch={
                "prompts": torch.zeros(len(ours), 1),
                "attention_mask": torch.cat([torch.ones(len(ours), 1), batch.mask], 1).long(),
            },
        )
        gap = max(gap, (ours - theirs[:, 0]).abs().max().item())
    assert gap < 1e-5  # verl computes the two in float32


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

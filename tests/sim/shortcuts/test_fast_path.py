"""The shortcuts against autograd through every rollout, for the same rollouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from one_step import OneStep, one_step

from recast import STRATEGIES
from recast.groups import Origin, RolloutGroups
from recast.loss import pack, strategy_loss
from recast.signal import build_signal
from recast.stages.supervised import Evidence
from recast.structure import level_scores, matched_levels
from sim.decoding.sample import path_logp_each
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.protocol import Policy
from sim.seeds import minibatch, normals, stream
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.worlds.catalogue import Catalogue, build_catalogue
from sim.worlds.world import Prompts, World

FEATURES, SEEDS, BATCH = 3, (4, 9), 5
CODES = [
    (0, 0, 0), (0, 0, 1), (0, 0, 4), (0, 2, 1), (0, 2, 3), (0, 3, 0), (2, 0, 0),
    (2, 0, 2), (2, 2, 2), (3, 1, 1), (3, 1, 2), (3, 1, 3), (3, 4, 0),
]  # fmt: skip
PLANS = {
    "pair": "recast contrast_only",
    "hits": "grpo grpo_trl grpo_population dr_grpo rloo opo gpg_authors best_of_group pass_at_k "
    "maxrl psr nsr w_reinforce ngrpo visurf repair_only chord grpo_sft target_power_hits "
    "nemo_loo pkpo ecpo cispo dual_clip gspo gmpo sapo dppo",
    "levels": "grpo_trl_batch reinforce reinforce_pp gpg a_grae bgae add_gt care pods "
    "recast_random_negative recast_half_repair reinforce_pp_baseline",
    "target": "sft target_power gce",
    "none": "rl_zvp ha_dw rank_penalty minionerec_sampling luffy dynamic_sampling greso dpo s_dpo "
    "recast_prefix_mask lens sibling step_aligned gdpo spo gbpo real prefix_hint "
    "reinforce_ada replay gce_code dft exact_pass_at_k exact_maxrl sft_pg sft_any bear",
}
PLAN_OF = {name: plan for plan, names in PLANS.items() for name in names.split()}
FAST = [name for name, plan in PLAN_OF.items() if plan != "none"]


def made_world(codes=CODES, n_codes=5, prompts=40) -> World:
    catalogue = build_catalogue(np.array(codes), n_codes)
    rng = stream(0, "prompts")
    some = Prompts(
        torch.from_numpy(rng.standard_normal((prompts, FEATURES))),
        torch.from_numpy(rng.integers(0, catalogue.items, prompts)),
    )
    return World("made", catalogue, some, some, some, some)


def rough(policy: Policy, catalogue: Catalogue, seeds: tuple[int, ...], name="rough"):
    params = policy.init(catalogue, FEATURES, seeds, torch.float64)
    return {k: v + 0.7 * normals(seeds, f"{name}/{k}", v.shape[1:]) for k, v in params.items()}


def judged(matched: torch.Tensor, depth: int, tie_key: torch.Tensor) -> RolloutGroups:
    return RolloutGroups(
        reward=(matched == depth).double(),
        score=level_scores(depth, torch.float64)[matched],
        valid=torch.ones_like(matched, dtype=torch.bool),
        origin=torch.full_like(matched, int(Origin.POLICY), dtype=torch.int8),
        tie_key=tie_key,
        matched=matched,
        binary=True,
    )


def walked_items(update: OneStep, prompt: int) -> list[int]:
    mine = update.walked.prompt == prompt
    pairs = zip(update.walked.place[mine].tolist(), update.walked.count[mine].tolist(), strict=True)
    return [item for item, count in pairs for _ in range(count)]


def rebuilt(update: OneStep, catalogue: Catalogue, target: torch.Tensor, group: int, pair: bool):
    """The drawn groups, `[R, B, G]` items. Misses that nobody walked get an item that changes
    nothing: a miss no harder than those walked, and the first to give way to an anchor. A pair
    counts one hit of any number; with a hit and no miss its group is saturated."""
    groups = []
    keys = torch.from_numpy(stream(1, "keys").random((target.numel(), group)))
    for prompt, wanted in enumerate(target.reshape(-1).tolist()):
        walked = walked_items(update, prompt)
        levels = matched_levels(catalogue.codes[walked], catalogue.codes[wanted]).tolist()
        if walked:
            easiest = walked[levels.index(min(levels))]
        elif pair and update.hits[prompt]:
            easiest = wanted
        else:
            easiest = (wanted + 1) % catalogue.items
        items = [wanted] * int(update.hits[prompt]) + walked
        keys[prompt, len(items) :] -= 1
        groups.append(items + [easiest] * (group - len(items)))
    shape = (*target.shape, group)
    return torch.tensor(groups).view(shape), keys.view(shape)


def rebuilt_by_level(update, step, strategy, how, catalogue, target):
    """The groups of a plan that drew the level of every miss: drawn again from the same streams,
    with the walked items where there is weight and any item of the right level elsewhere."""
    group, depth, matched, keys = how.group, catalogue.depth, [], []
    for run, seed in enumerate(SEEDS):
        rng = stream(seed, "lazy rollouts", step)
        reach = update.reach[run * BATCH : (run + 1) * BATCH]
        u = rng.random((BATCH, group))
        matched.append((u[..., None] < reach[:, None, 1:]).sum(-1))
        keys.append(rng.random((BATCH, group)))
    levels, tie_key = torch.from_numpy(np.stack(matched)), torch.from_numpy(np.stack(keys))
    signal = build_signal(strategy, judged(levels, depth, tie_key))
    heavy = signal.rows if how.kl_weight else signal.rows & (signal.advantage != 0)
    heavy &= signal.groups.origin != int(Origin.ANCHOR)
    items = []
    for prompt, wanted in enumerate(target.reshape(-1).tolist()):
        agree = matched_levels(catalogue.codes, catalogue.codes[wanted]).tolist()
        walked = walked_items(update, prompt)
        for level, weighs in zip(
            levels.view(-1, group)[prompt].tolist(),
            heavy.view(-1, group)[prompt].tolist(),
            strict=True,
        ):
            if weighs and level < depth:
                item = next(item for item in walked if agree[item] == level)
                walked.remove(item)
            else:
                item = agree.index(level)
            items.append(item)
        assert not walked
    return torch.tensor(items).view(*target.shape, group), tie_key


def reference_gradient(
    policy, params, reference, world, strategy, how, prompt, items, tie_key, progress
):
    """The whole loss by autograd through every rollout on its own."""
    catalogue = world.catalogue
    context, target = world.train.context[prompt], world.train.target[prompt]
    wanted = target.unsqueeze(-1)
    matched = matched_levels(catalogue.codes[items], catalogue.codes[wanted])
    signal = build_signal(strategy, judged(matched, catalogue.depth, tie_key))
    if signal.rows.shape[-1] > items.shape[-1]:
        items = torch.cat([items, wanted], -1)
    items = torch.where(signal.groups.origin == int(Origin.ANCHOR), wanted, items)
    rows = pack(signal, strategy.width(how.group))
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    encoded = policy.encode(leaves, context)
    taught = path_logp_each(policy, leaves, catalogue, encoded, wanted).squeeze(-2)
    logp = ref_logp = None
    if rows.index.shape[-1]:
        chosen = items.gather(-1, rows.index)
        logp = path_logp_each(policy, leaves, catalogue, encoded, chosen)
        frozen = policy.encode(reference, context)
        ref_logp = path_logp_each(policy, reference, catalogue, frozen, chosen)
    loss = strategy_loss(
        strategy,
        signal,
        rows,
        length=catalogue.depth,
        settings=how.loss,
        logp=logp,
        old_logp=None if logp is None else logp.detach(),
        ref_logp=ref_logp,
        evidence=Evidence(taught, None, progress),
    )
    slopes = torch.autograd.grad(loss.sum(), list(leaves.values()))
    return signal, dict(zip(leaves, slopes, strict=True))


@pytest.mark.parametrize(
    ("policy", "kl_weight"),
    [
        (MLP(5), 0.0),
        (MLP(5), 0.3),
        (Tabular(), 0.0),
        (Tabular(), 0.3),
        (LogLinear(), 0.0),
        (LogLinear(), 0.3),
    ],
    ids=["mlp", "mlp with KL", "tabular", "tabular with KL", "log-linear", "log-linear with KL"],
)
@pytest.mark.parametrize("name", FAST)
def test_a_shortcut_has_the_gradient_of_the_rollouts_that_it_drew(name, policy, kl_weight):
    strategy, world = STRATEGIES[name], made_world()
    params = rough(policy, world.catalogue, SEEDS)
    reference = rough(policy, world.catalogue, SEEDS, "reference")
    how = Training(steps=20, batch=BATCH, group=9, kl_weight=kl_weight, temperature=0.8)
    fast = FastPath.of(Runs(policy, world, strategy, reference, SEEDS, how))
    assert fast is not None
    assert fast.plan.name == PLAN_OF[name]
    for step in range(2):
        check_one_step(fast, policy, params, reference, world, strategy, how, step)


def test_every_strategy_is_served_by_the_plan_that_its_declarations_allow():
    world = made_world()
    params = MLP(5).init(world.catalogue, FEATURES, SEEDS, torch.float64)
    how = Training(group=9)
    found = {}
    for name, strategy in STRATEGIES.items():
        fast = FastPath.of(Runs(MLP(5), world, strategy, params, SEEDS, how))
        found[name] = "none" if fast is None else fast.plan.name
    assert found == PLAN_OF
    page = (Path(__file__).parents[3] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"{len(FAST)} of the {len(STRATEGIES)} named strategies" in page


def check_one_step(
    fast, policy, params, reference, world, strategy, how, step, within=1e-10, one=one_step
):
    prompt = minibatch(SEEDS, "prompts", step, how.batch, len(world.train))
    target = world.train.target[prompt]
    update = one(fast, params, step)
    if fast.plan.name == "levels":
        items, tie_key = rebuilt_by_level(update, step, strategy, how, world.catalogue, target)
    else:
        pair = fast.plan.name == "pair"
        items, tie_key = rebuilt(update, world.catalogue, target, how.group, pair)
    progress = step / max(1, how.steps - 1)
    signal, wanted = reference_gradient(
        policy, params, reference, world, strategy, how, prompt, items, tie_key, progress
    )
    for key in params:
        torch.testing.assert_close(update.grads[key], wanted[key], rtol=0, atol=within)
    taught = int(strategy.learns_from_target)
    assert update.spent["updated_rows"].tolist() == (signal.rows.sum(-1) + taught).sum(-1).tolist()
    anchored = (signal.groups.origin == int(Origin.ANCHOR)).any(-1)
    for name, found in (("signal_count", signal.count), ("repaired", anchored)):
        assert torch.equal(update.counted[name], found.double().mean(-1)), name

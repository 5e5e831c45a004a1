"""One learning step in the simulator: every strategy, what it collects, and its gradient."""

from __future__ import annotations

import oracles
import pytest
import torch

from recast import STRATEGIES, Origin, parse_strategy
from recast.stage import MOST_ROUNDS
from sim.decoding.sample import path_logp
from sim.general.runs import Runs
from sim.general.step import account, collect, updates
from sim.policies.linear import Tabular
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=64, train_prompts=96, validation_prompts=16, test_prompts=16
)
HOW = Training(steps=4, batch=8, group=8, evaluations=1)
BEAMS = HOW.model_copy(update={"rollouts": "beam"})
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


@pytest.fixture(scope="module")
def params(world):
    return MLP(8).init(world.catalogue, 24, SEEDS, torch.float64)


def step(world, params, name, how=HOW, number=0, state=None):
    strategy = parse_strategy(name)
    state = state or strategy.start((len(SEEDS),), len(world.train))
    return collect(Runs(MLP(8), world, strategy, params, SEEDS, how), params, number, state)


def gradients(world, params, name, collected, how=HOW, policy=None):
    runs = Runs(policy or MLP(8), world, parse_strategy(name), params, SEEDS, how)
    found = []
    for loss_of in updates(runs, params, collected, 0.5):
        leaves = {key: value.detach().requires_grad_() for key, value in params.items()}
        slopes = torch.autograd.grad(loss_of(leaves).sum(), list(leaves.values()))
        found.append(dict(zip(leaves, slopes, strict=True)))
    return found


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_takes_a_step_and_pays_for_it(world, params, name):
    strategy = STRATEGIES[name]
    how = BEAMS if "beam_rank" in strategy.needs else HOW
    collected = step(world, params, name, how)
    (slopes,) = gradients(world, params, name, collected, how)
    assert all(value.isfinite().all() for value in slopes.values())
    spent, counted = account(strategy, how, collected, 1)
    assert (spent["rollouts"] > 0).all() == strategy.needs_rollouts
    assert (spent["labels"] > 0).any() == (strategy.anchors or strategy.learns_from_target)
    assert (spent["updated_rows"] <= HOW.batch * (strategy.width(HOW.group) + 1)).all()
    learns = (counted["signal_count"] > 0).any()
    assert bool(learns) == any(bool(value.any()) for value in slopes.values())


@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s.anchors])
def test_an_anchor_is_the_prompts_target(world, params, name):
    collected = step(world, params, name)
    anchor = collected.signal.groups.origin == int(Origin.ANCHOR)
    assert anchor.any()
    target = collected.batch.target.unsqueeze(-1).expand_as(collected.items)
    assert torch.equal(collected.items[anchor], target[anchor])


def test_a_hit_is_an_item_of_the_target_and_nothing_else(world, params):
    collected = step(world, params, "grpo")
    groups = collected.signal.groups
    assert torch.equal(groups.hit, collected.items == collected.batch.target.unsqueeze(-1))
    codes = world.catalogue.codes
    for b in range(HOW.batch):
        target = tuple(codes[collected.batch.target[0, b]].tolist())
        for g in range(HOW.group):
            path = tuple(codes[collected.items[0, b, g]].tolist())
            assert groups.score[0, b, g].item() == pytest.approx(
                oracles.structural_score([path], [target])
            )


def test_a_beam_group_holds_distinct_items_best_first_and_one_hit_at_most(world, params):
    collected = step(world, params, "rank_penalty", BEAMS)
    groups = collected.signal.groups
    encoded = MLP(8).encode(params, collected.batch.context)
    logp = path_logp(MLP(8), params, world.catalogue, encoded, collected.items).sum(-1)
    assert (logp.diff(dim=-1) <= 1e-12).all()
    for group in collected.items.flatten(0, 1).tolist():
        assert len(set(group)) == HOW.group
    assert (groups.hit.sum(-1) <= 1).all()
    assert torch.equal(groups.beam_rank[0, 0], torch.arange(HOW.group))


def test_places_of_a_beam_wider_than_the_catalogue_stay_empty(world, params):
    how = BEAMS.model_copy(update={"group": world.catalogue.items + 3})
    collected = step(world, params, "repair_only", how)
    groups = collected.signal.groups
    assert torch.equal(groups.valid.sum(-1), torch.full((2, 8), world.catalogue.items))
    assert groups.hit.sum(-1).eq(1).all()  # every item was offered
    assert not collected.signal.advantage[~groups.valid].any()


def test_dynamic_sampling_pays_until_its_batch_is_full_of_groups_that_vary(world, params):
    collected = step(world, params, "dynamic_sampling")
    groups = collected.signal.groups
    live = groups.valid.any(-1)
    varied = groups.hit.any(-1) & groups.miss.any(-1)
    assert torch.equal(live, varied)
    per_round = HOW.batch * HOW.group
    for run in range(len(SEEDS)):
        rounds, rest = divmod(int(collected.rollouts[run]), per_round)
        assert rest == 0
        assert 1 <= rounds <= MOST_ROUNDS
        assert live[run].all() or rounds == MOST_ROUNDS
    plain = step(world, params, "grpo").signal.groups
    assert (varied.sum(-1) >= (plain.hit.any(-1) & plain.miss.any(-1)).sum(-1)).all()


def test_a_prompt_of_dynamic_sampling_keeps_its_own_target(world, params):
    collected = step(world, params, "dynamic_sampling")
    expected = world.train.target[collected.batch.prompt]
    assert torch.equal(collected.batch.target, expected)
    hit = collected.items == expected.unsqueeze(-1)
    assert torch.equal(collected.signal.groups.hit, hit & collected.signal.groups.valid)


def test_greso_skips_no_prompt_at_first_and_prompts_that_were_constant_later(world, params):
    first = step(world, params, "greso")
    assert first.skipped.eq(0).all()
    grown = {
        name: value + 50 if name.endswith("_run") else value for name, value in first.state.items()
    }
    later = step(world, params, "greso", number=1, state=grown)
    assert (later.skipped > 0).all()
    assert torch.equal(later.rollouts, (HOW.batch - later.skipped) * HOW.group)
    assert not later.signal.advantage[~later.signal.groups.valid].any()


def test_greso_counts_the_visits_at_which_a_group_was_constant(world, params):
    first = step(world, params, "greso")
    groups = first.signal.groups
    dead = ~groups.hit.any(-1)
    runs = first.state["hard_run"].gather(1, first.batch.prompt)
    assert torch.equal(runs == 1, dead)


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [("grpo", 8, 8), ("grpo", 16, 4), ("recast", 8, 2), ("sft", 8, 1), ("grpo", 0, 1)],
)
def test_a_mini_batch_of_rows_sets_the_optimizer_steps(world, params, name, rows, expected):
    how = Training(steps=4, batch=8, group=8, evaluations=1, mini_batch=rows)
    collected = step(world, params, name, how)
    assert len(gradients(world, params, name, collected, how)) == expected


@pytest.mark.parametrize("name", ["recast", "contrast_only", "grpo", "luffy", "chord", "s_dpo"])
def test_mini_batches_add_up_to_the_whole(world, params, name):
    whole = gradients(world, params, name, step(world, params, name))[0]
    width = parse_strategy(name).width(8) + int(parse_strategy(name).learns_from_target)
    how = Training(steps=4, batch=8, group=8, evaluations=1, mini_batch=4 * width)
    halves = gradients(world, params, name, step(world, params, name, how), how)
    assert len(halves) == 2
    for key, value in whole.items():
        mean = (halves[0][key] + halves[1][key]) / 2
        assert torch.allclose(mean, value, rtol=0, atol=1e-12), key


def test_the_sampled_grpo_steps_mean_is_w_of_p_times_grad_log_p():
    world = build_synthetic(
        SyntheticWorld(
            items=4, codes=2, sft_prompts=8, train_prompts=8, validation_prompts=8, test_prompts=8
        )
    )
    policy, runs, group = Tabular(), 4000, 4
    seeds = tuple(range(runs))
    one = policy.init(world.catalogue, 24, (3,), torch.float64)
    params = {name: value.expand(runs, *value.shape[1:]) for name, value in one.items()}
    how = Training(steps=1, batch=8, group=group, evaluations=1)
    strategy = parse_strategy("credit=grpo(eps=0)")
    collected = collect(Runs(policy, world, strategy, params, seeds, how), params, 0, {})
    sampled = -gradients(world, params, "credit=grpo(eps=0)", collected, how, policy)[0]["table"]

    table = one["table"].clone().requires_grad_()
    context, target = world.train.context.unsqueeze(0), world.train.target.view(1, -1, 1)
    encoded = policy.encode({"table": table}, context)
    logp = path_logp(policy, {"table": table}, world.catalogue, encoded, target).sum((-2, -1))[0]
    weight = torch.tensor([oracles.grpo_weight(p, group) for p in logp.exp().tolist()])
    (exact,) = torch.autograd.grad((weight.double() * logp).mean(), table)
    error = sampled.std(0) / runs**0.5
    gap = (sampled.mean(0) - exact[0]).abs()
    assert (gap <= 4 * error + 1e-12).all()
    assert (exact.abs() > 20 * error.clamp(min=1e-9).unsqueeze(0)).any()

"""Repairs and selections treat each run and each group by itself, whatever the batch's shape.

Those that keep some rollouts keep the ones that the loops of `oracles` keep, for any option.
"""

from __future__ import annotations

from dataclasses import fields, replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import Origin, RolloutGroups
from recast.stage import bind
from recast.stages.repair import REPAIRS, adaptive, anchored, append, keep_distinct
from recast.stages.selection import SELECTIONS

RUNS, PROMPTS, CODES = 2, 3, 2
STATELESS = [name for name, row in REPAIRS.items() if row.start is None]


def batch(seed: int, width: int) -> RolloutGroups:
    """Two runs of three ragged groups with ties, with every optional input."""
    rng = torch.Generator().manual_seed(seed)
    shape = (RUNS, PROMPTS, width)

    def among(*values: float) -> torch.Tensor:
        picked = torch.randint(len(values), shape, generator=rng)
        return torch.tensor(values, dtype=torch.float64)[picked]

    reward = among(0.0, 0.0, 0.0, 1.0)
    slot = torch.arange(width).expand(shape)
    groups = RolloutGroups.of(
        reward,
        score=torch.where(reward > 0, 1.0, among(0.0, 0.01, 0.1)),
        valid=slot < torch.randint(width + 1, (RUNS, PROMPTS, 1), generator=rng),
        tie_key=torch.rand(shape, generator=rng, dtype=torch.float64),
        has_target=torch.rand(RUNS, PROMPTS, generator=rng) < 0.8,
        length=1 + slot,
        entropy=1 + torch.rand(*shape, CODES, generator=rng),
        beam_rank=slot,
        matched=among(0, 1, 2).long(),
        item=among(5, 6, 7).long(),
        logp=-1 - torch.rand(*shape, CODES, generator=rng),
        codes=torch.randint(4, (*shape, CODES), generator=rng),
        prompt=torch.arange(RUNS * PROMPTS).reshape(RUNS, PROMPTS),
    )
    return replace(groups, hinted=among(0, 1).long())


def part(groups: RolloutGroups, place: tuple[int, ...]) -> RolloutGroups:
    """Some runs, or one group of a batch, with its axis of prompts."""
    found = {
        f.name: value[place] if len(place) == 1 else value[place].unsqueeze(0)
        for f in fields(groups)
        if isinstance(value := getattr(groups, f.name), torch.Tensor)
    }
    return replace(groups, **found)


def same(one: RolloutGroups, other: RolloutGroups) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a is b or a == b for a, b in pairs
    )


PLACES = [(run,) for run in range(RUNS)] + [(r, b) for r in range(RUNS) for b in range(PROMPTS)]


@pytest.mark.parametrize("name", STATELESS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9_999), width=st.integers(1, 6))
def test_a_repair_of_a_batch_is_the_repair_of_each_of_its_groups(name, seed, width):
    groups, repair = batch(seed, width), bind("repair", REPAIRS, name)
    whole = repair(groups)
    assert all(same(part(whole, place), repair(part(groups, place))) for place in PLACES)
    if REPAIRS[name].injects:
        apart = torch.stack([anchored(part(whole, (run,))) for run in range(RUNS)])
        assert torch.equal(anchored(whole), apart)
    if REPAIRS[name].rounds is not None:
        alone = [repair.wanted(part(groups, (run,))) for run in range(RUNS)]
        assert torch.equal(repair.wanted(groups), torch.stack(alone))


@pytest.mark.parametrize("name", SELECTIONS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9_999), width=st.integers(1, 6))
def test_a_selection_of_a_batch_is_the_selection_of_each_of_its_groups(name, seed, width):
    groups, select = batch(seed, width), bind("select", SELECTIONS, name)
    whole = select(groups)
    for place in PLACES:
        alone = select(part(groups, place))
        assert torch.equal(whole[place], alone if len(place) == 1 else alone[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9_999), width=st.integers(1, 9))
def test_an_appended_slot_says_of_every_input_that_nothing_was_sampled(seed, width):
    groups = batch(seed, width)
    after = append(groups)
    last = {f.name: getattr(after, f.name) for f in fields(after)}
    last = {name: x[..., width:, :] if name in ("entropy", "logp", "codes") else x[..., width:]
            for name, x in last.items() if isinstance(x, torch.Tensor)
            and name not in ("prompt", "has_target")}  # fmt: skip
    for name in ("entropy", "logp", "hinted"):
        assert not last[name].any()
    assert bool((last["codes"] == -1).all() and (last["item"] == -1).all())
    assert bool((last["beam_rank"] == width).all())
    assert torch.equal(last["length"], groups.length.amax(-1, keepdim=True))
    there = groups.has_target & groups.valid.any(-1)
    assert torch.equal(last["origin"][..., 0] == int(Origin.ANCHOR), there)


def rollouts(groups: RolloutGroups, place: tuple[int, int]) -> tuple[list[int], list]:
    """Slots of a group's rollouts, and what an oracle knows of them."""
    slots = [i for i, real in enumerate(groups.valid[place].tolist()) if real]
    reward, score, key, item = (
        getattr(groups, name)[place].tolist() for name in ("reward", "score", "tie_key", "item")
    )
    return slots, [oracles.Rollout(reward[i], score[i], key[i], item=item[i]) for i in slots]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9_999),
    width=st.integers(1, 9),
    keep=st.integers(2, 10),
    factor=st.sampled_from((1.0, 1.2, 1.5, 2.0, 3.0)),
)
def test_of_each_group_those_stay_that_a_loop_keeps(seed, width, keep, factor):
    groups = batch(seed, width)
    distinct, pool = keep_distinct(groups, factor), adaptive(groups, keep)
    assert not pool.binary
    assert pool.hit_threshold == 0.0
    for place in [(r, b) for r in range(RUNS) for b in range(PROMPTS)]:
        slots, known = rollouts(groups, place)
        kept = {slots[i] for i in oracles.distinct(known, factor)}
        assert set(distinct.valid[place].nonzero().flatten().tolist()) == kept
        kept = {slots[i] for i in oracles.balanced(known, keep)}
        assert set(pool.valid[place].nonzero().flatten().tolist()) == kept
        values = dict(zip(slots, oracles.grpo([r.reward for r in known]), strict=True))
        expected = [values[i] if i in kept else 0.0 for i in range(width)]
        assert pool.reward[place].tolist() == pytest.approx(expected)

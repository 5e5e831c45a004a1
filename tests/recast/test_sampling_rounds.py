"""Rounds of sampling, against loops that fill one batch after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st

from recast.groups import RolloutGroups
from recast.sampling_rounds import asked_again, refills
from recast.stage import Bound, Rounds, Stage
from recast.stages.resample import one_sided

WANTED = {"refill": one_sided, "more": one_sided}


def repair(kind: str, most: int) -> Bound:
    return Bound(Stage(lambda groups: groups, rounds=Rounds(WANTED[kind], kind, most)), {})


@dataclass(frozen=True)
class Sampled:
    groups: RolloutGroups


def sampled(runs: int, prompts: int, seed: int, often: float = 0.4) -> Sampled:
    """Groups of three with hits now and then; some prompts were not rolled out at all."""
    draw = torch.Generator().manual_seed(seed)
    reward = (torch.rand(runs, prompts, 3, generator=draw) < often).float()
    there = torch.rand(runs, prompts, 1, generator=draw) < 0.8
    return Sampled(RolloutGroups.of(reward, valid=there.expand_as(reward)))


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 10), st.integers(0, 999)
)
def test_a_batch_is_filled_with_the_usable_groups_in_the_order_they_came(
    runs, prompts, size, most, seed
):
    asked = []

    def sample(number):
        asked.append(number)
        return sampled(runs, prompts, seed + number)

    rounds = list(refills(repair("refill", most), sampled(runs, prompts, seed), size, sample))
    filled, spent = [0] * runs, [0] * runs
    for number, one in enumerate(rounds):
        groups = sampled(runs, prompts, seed + number).groups
        paid = [0] * runs
        for run in range(runs):
            open_before = filled[run] < size
            for prompt in range(prompts):
                valid = groups.valid[run, prompt]
                paid[run] += int(valid.sum()) * open_before
                hits = groups.reward[run, prompt][valid]
                usable = 0 < hits.sum() < len(hits)
                place = filled[run] if usable and filled[run] < size else size
                filled[run] += place < size
                assert int(one.slot[run, prompt]) == place
        spent = [a + b for a, b in zip(spent, paid, strict=True)]
        assert one.rollouts.tolist() == paid
        assert one.filled.tolist() == filled
        full = all(count == size for count in filled)
        assert full == (one is rounds[-1]) or number == most - 1
    assert asked == list(range(1, len(rounds)))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 10), st.integers(0, 999))
def test_only_marked_prompts_are_asked_again_and_only_as_long_as_there_are_any(
    runs, prompts, most, seed
):
    asked = []

    def sample(number, again, wanted):
        asked.append(number)
        assert bool(again.any())
        assert torch.equal(again, wanted & pool[-1].groups.valid.any(-1))
        groups = sampled(runs, prompts, seed + number).groups
        valid = again.unsqueeze(-1).expand_as(groups.reward)
        return Sampled(RolloutGroups.of(groups.reward, valid=valid))

    def join(old, new, again):
        assert torch.equal(new.groups.valid.any(-1), again)
        both = (old.groups, new.groups)
        reward, valid = (torch.cat([getattr(g, n) for g in both], -1) for n in ("reward", "valid"))
        pool.append(Sampled(RolloutGroups.of(reward, valid=valid)))
        return pool[-1]

    pool = [sampled(runs, prompts, seed)]
    found, rollouts = asked_again(repair("more", most), pool[0], sample, join)
    assert found is pool[-1]
    before = pool[0].groups.valid.sum((-2, -1))
    assert torch.equal(rollouts, found.groups.valid.sum((-2, -1)) - before)
    assert asked == list(range(1, len(pool)))
    left = one_sided(found.groups) & found.groups.valid.any(-1)
    assert len(pool) == most or not bool(left.any())

"""Ragged batches of rollouts whose padding tempts, and how a signal is held against its oracle."""

import itertools
import math
from dataclasses import fields
from functools import cache
from typing import NamedTuple

import oracles
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from oracles import Rollout

from recast import (
    STRATEGIES,
    RolloutGroups,
    build_signal,
)

quick = settings(max_examples=25, deadline=None)


every_strategy = pytest.mark.parametrize("name", sorted(STRATEGIES))


REWARDS = (0.0, 0.0, 0.0, 1.0, 1.0, 0.1, 0.5, 2.0, -1.0)


ENTROPIES = ((0.0, 0.0), (1.0, 0.5), (0.25, 2.0))


EXTRAS = list(itertools.product((1.0, 2.0, 4.0), ENTROPIES, range(4), range(3)))


SCORES = (0.0, 0.0, 0.001, 0.01, 0.1, 0.5, 1.0)


TEMPTING = Rollout(9.0, 0.9, -9.0, length=50.0, entropy=(7.0, 9.0), rank=0, matched=3, item=0)


POISON = Rollout(math.nan, math.nan, math.nan, math.nan, (math.nan, math.nan))


KNOWN = st.sampled_from([True, True, True, False])


BLANK = Rollout(reward=0.0, score=0.0, key=0.0)


# Pass@4 needs groups of 4, or 5 where each stands against the others; the widest subset of 8 is
# everyone in groups of 8.
LEAST_WIDTH = {"pass_at_k": 4, "bgae": 4, "pods": 8, "pkpo": 5}


class Batch(NamedTuple):
    """Slots `[B][G]`, None where there is no rollout; keys are unique inside a group."""

    slots: list[list[Rollout | None]]
    has_target: list[bool]

    @property
    def ragged(self):
        return [[rollout for rollout in row if rollout is not None] for row in self.slots]

    def groups(self, padding=TEMPTING, dtype=torch.float64):
        filled = [[padding if r is None else r for r in row] for row in self.slots]

        def column(name, kind=dtype):
            return torch.tensor([[getattr(r, name) for r in row] for row in filled], dtype=kind)

        valid = torch.tensor([[r is not None for r in row] for row in self.slots])
        return RolloutGroups.of(
            column("reward"),
            score=column("score"),
            valid=valid,
            tie_key=column("key"),
            has_target=torch.tensor(self.has_target),
            length=column("length"),
            entropy=column("entropy"),
            beam_rank=column("rank", torch.int64),
            matched=column("matched", torch.int64),
            item=column("item", torch.int64),
            depth=4,
            logp=torch.tensor(
                [[[p + r.reward * 0 for p in r.logp] for r in row] for row in filled], dtype=dtype
            ),
            codes=torch.tensor([[r.codes for r in row] for row in filled]),
            prompt=torch.arange(len(filled)),
        )


@cache
def _slots(rewards, full):
    """What a slot may hold: a rollout, or nothing in one case of four. One draw for each slot: half
    of the time of these tests went into drawing its parts one by one."""
    cells = list(itertools.product(rewards, SCORES, range(len(EXTRAS))))
    return st.sampled_from(cells + [None] * (0 if full else len(cells) // 3))


@cache
def _orders(width):
    """Every order of so many places, by its number."""
    return st.integers(0, math.factorial(width) - 1)


def _order(number, width):
    left, order = list(range(width)), []
    for size in range(width, 0, -1):
        number, place = divmod(number, size)
        order.append(left.pop(place))
    return order


@st.composite
def batches(draw, shape=None, rewards=REWARDS, full=False, least=1):
    prompts, width = shape or (draw(st.integers(1, 3)), draw(st.integers(1, 6)))
    width += least - 1
    slot, number = _slots(rewards, full), _orders(width)
    rows = []
    for _ in range(prompts):
        drawn = [draw(slot) for _ in range(width)]
        keys, ranks = _order(draw(number), width), _order(draw(number), width)
        row = []
        for cell, key, rank in zip(drawn, keys, ranks, strict=True):
            if cell is None:
                row.append(None)
                continue
            reward, score, extra = cell
            length, entropy, matched, item = EXTRAS[extra]
            row.append(Rollout(reward, score, key / 8, length, entropy, rank, matched, item))
        rows.append(row)
    known = [draw(KNOWN) for _ in range(prompts)]
    return Batch(rows, known)


def batches_for(name, **more):
    """Batches that a strategy accepts: binary rewards where it counts hits, groups wide enough."""
    rewards = (0.0, 0.0, 1.0) if STRATEGIES[name].needs_binary else REWARDS
    return batches(rewards=rewards, least=LEAST_WIDTH.get(name, 1), **more)


def stack(*many):
    """Runs along a new leading axis."""
    named = [
        f.name for f in fields(RolloutGroups) if isinstance(getattr(many[0], f.name), torch.Tensor)
    ]
    stacked = {n: torch.stack([getattr(g, n) for g in many]) for n in named}
    return RolloutGroups(**stacked, depth=many[0].depth, binary=all(g.binary for g in many))


def signal_of(name, groups):
    return build_signal(STRATEGIES[name], groups)


def assert_same_bits(one, other):
    assert torch.equal(one.advantage, other.advantage)
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.groups.reward, other.groups.reward)
    assert torch.equal(one.groups.score, other.groups.score)
    assert torch.equal(one.groups.origin, other.groups.origin)


def assert_equals_oracle(name, batch, signal):
    advantages, rows = oracles.signal(name, batch.ragged, batch.has_target)
    for b, slots in enumerate(batch.slots):
        real = [i for i, rollout in enumerate(slots) if rollout is not None]
        if len(advantages[b]) > len(real):
            real.append(len(slots))
        padding = [i for i in range(signal.rows.shape[1]) if i not in real]
        assert signal.advantage[b, real].flatten().tolist() == pytest.approx(
            torch.tensor(advantages[b], dtype=torch.float64).flatten().tolist(), abs=1e-9
        )
        assert signal.rows[b, real].tolist() == rows[b]
        assert not signal.advantage[b, padding].any()
        assert not signal.rows[b, padding].any()

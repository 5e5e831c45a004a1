"""What the kernel drew and the gradient it found, read off the memory in which it works."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sim.kernel import draw
from sim.kernel.buffers import params_of
from sim.kernel.draw import TALLIES
from sim.kernel.shapes import Array
from sim.kernel.step import GIVEN_TRAIN, KEEP, SCORE, TRAIN
from sim.policies.protocol import Params
from sim.shortcuts.fast_path import FastPath, account


@dataclass(frozen=True)
class Walked:
    """Misses that were walked to the end: prompt, item, count `[n]` and the weight of each."""

    prompt: Array
    place: Array
    count: Array
    weight: Array


@dataclass(frozen=True)
class OneStep:
    """grads `[R, ...]`; spent, counted: as the general path's; hits `[P]` as sampled; reach
    `[P, L + 1]`: how far rollouts follow the targets' paths; walked."""

    grads: Params
    spent: dict[str, Tensor]
    counted: dict[str, Tensor]
    hits: Array
    reach: Array
    walked: Walked


def one_step(fast: FastPath, params: Params, step: int) -> OneStep:
    """One rollout phase of given parameters; the runs of `fast` stay as they are. Adam's first mean
    of a run's first step is a known share of its gradient. What follows from a path that is not
    finite is NaN."""
    grads, hits, reach, walked = [], [], [], []
    tally = np.zeros((len(fast._runs), TALLIES))
    slopes, batch = fast._slopes(step, 1), fast._how.batch
    for i, mine in enumerate(fast._runs):
        run = fast._run(params, i, mine.seed)
        run.frozen, run.reference = mine.frozen, mine.reference
        sound = bool(fast._call(SCORE, run, slopes, step))
        reach.append(fast._buffers.paths.reach.copy())
        task = TRAIN
        if fast._rules.plan == draw.GIVEN:
            fast._ask(run, step)
            task = GIVEN_TRAIN
        fast._call(task, run, slopes, step)
        hits.append(fast._buffers.demand.hits.copy())
        walked.append(_ended(fast, i * batch, sound))
        tally[i] = run.tally
        # In the type that Adam multiplies in.
        slope = run.flat.mean / run.flat.mean.dtype.type(1 - KEEP)
        grads.append(slope if sound else np.full_like(slope, np.nan))
    every = [np.concatenate(column) for column in zip(*walked, strict=True)]
    order = every[0].argsort(kind="stable")
    spent, counted = account(fast._strategy, fast._how, tally, np.ones(len(tally)))
    return OneStep(
        params_of(grads, fast._start),
        spent,
        {name: value / batch for name, value in counted.items()},
        np.concatenate(hits),
        np.concatenate(reach),
        Walked(*(column[order] for column in every)),
    )


def _ended(fast: FastPath, first_prompt: int, sound: bool) -> list[Array]:
    """The walkers that ended as items: as many as hold all misses that set out; of a step that is
    not sound none."""
    side, number = fast._depth % 2, fast._buffers.walkers.number
    out = int(fast._buffers.demand.misses.sum()) if sound else 0
    there = 1 + int(np.flatnonzero(number[side].cumsum() == out)[0]) if out else 0
    columns = [column[side, :there].copy() for column in fast._buffers.walkers]
    columns[0] += first_prompt
    return columns

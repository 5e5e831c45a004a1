"""Credit by level: when a signal asks where each miss leaves the target's path, and no more.

One uniform per rollout tells how far it follows the path. The signal is made from that by the
strategy itself, run by run, and only rollouts that carry weight are walked on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from recast.groups import Origin, RolloutGroups
from recast.loss import LossSettings, Rows, pack, strategy_loss
from recast.signal import Signal, build_signal
from recast.stages.repair import anchored
from recast.strategy import Strategy
from recast.structure import level_scores
from sim.seeds import stream
from sim.shortcuts.hits import random_groups


def depends_on_levels_alone(strategy: Strategy, group: int, depth: int) -> bool:
    """Rollouts of a group that leave at the same level and reach the actor have equal credit."""
    for trial in range(4):
        rng = stream(trial, "probe/levels")
        hits = torch.from_numpy(rng.integers(0, group + 1, 64))
        groups = random_groups(hits, group, depth, trial)
        signal = build_signal(strategy, groups)
        if signal.advantage.ndim != 2 or signal.rows.shape[1] != group:
            return False
        kind = groups.matched
        assert kind is not None
        kind = kind.masked_fill(signal.groups.origin == int(Origin.ANCHOR), depth)
        for level in range(depth):
            among = (kind == level) & signal.rows & (signal.advantage != 0)
            high = signal.advantage.masked_fill(~among, -torch.inf).amax(-1)
            low = signal.advantage.masked_fill(~among, torch.inf).amin(-1)
            if bool(((high - low).abs() > 1e-9)[among.any(-1)].any()):
                return False
    return True


@dataclass(frozen=True)
class Asked:
    """What one run's groups ask, numpy. total `[B, L + 1]`: derivative of the loss by each code of
    all rollouts that leave at a level, hits and anchors last; count `[B, L + 1]`: how many of them
    are walked; hits, rows, active, repaired `[B]`: as sampled, rows that reach the actor, those
    with credit, groups with an anchor."""

    total: np.ndarray
    count: np.ndarray
    hits: np.ndarray
    rows: np.ndarray
    active: np.ndarray
    repaired: np.ndarray


def ask_by_level(
    strategy: Strategy,
    group: int,
    loss: LossSettings,
    reach: np.ndarray,
    rng: np.random.Generator,
    dtype: torch.dtype,
) -> Asked:
    """One rollout phase of a run whose strategy `depends_on_levels_alone`; reach `[B, L + 1]`."""
    prompts, depth = len(reach), reach.shape[1] - 1
    u = torch.from_numpy(rng.random((1, prompts, group)))
    matched = (u.unsqueeze(-1) < torch.from_numpy(reach[None, :, None, 1:])).sum(-1)
    groups = RolloutGroups(
        reward=(matched == depth).to(dtype),
        score=level_scores(depth, dtype)[matched],
        valid=torch.ones_like(u, dtype=torch.bool),
        origin=torch.full_like(u, int(Origin.POLICY), dtype=torch.int8),
        tie_key=torch.from_numpy(rng.random(u.shape)).to(dtype),
        matched=matched,
        binary=True,
    )
    signal = build_signal(strategy, groups)
    rows = pack(signal, strategy.width(group))
    kind = matched.masked_fill(signal.groups.origin == int(Origin.ANCHOR), depth)
    place = kind.gather(-1, rows.index)[0] + (depth + 1) * torch.arange(prompts).unsqueeze(-1)
    weight = _slopes(strategy, signal, rows, depth, loss, dtype)[0]
    sent = rows.active[0] if loss.kl_weight else rows.active[0] & (weight != 0)

    def summed(values: torch.Tensor) -> np.ndarray:
        cells = values.new_zeros(prompts * (depth + 1))
        return cells.index_add_(0, place.view(-1), values.reshape(-1)).view(prompts, -1).numpy()

    return Asked(
        summed(weight.masked_fill(~sent, 0.0)),
        summed(sent.to(torch.int64)),
        signal.hits[0].numpy(),
        signal.rows.sum(-1)[0].numpy(),
        signal.active.sum(-1)[0].numpy(),
        anchored(signal.groups)[0].numpy(),
    )


def _slopes(
    strategy: Strategy,
    signal: Signal,
    rows: Rows,
    depth: int,
    loss: LossSettings,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Derivative of the policy's loss alone by each code of each row; `[1, B, U]`.

    Before the first step every ratio is 1, so log-probabilities of 0 stand for any.
    """
    if not strategy.has_credit:
        return torch.zeros_like(rows.advantage)
    leaf = torch.zeros(*rows.index.shape, depth, dtype=dtype, requires_grad=True)
    with torch.enable_grad():
        value = strategy_loss(
            replace(strategy, supervised="none"),
            replace(signal, supervised=False),
            rows,
            length=depth,
            settings=replace(loss, kl_weight=0.0),
            logp=leaf,
            old_logp=leaf.detach(),
        )
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return slope[..., 0]

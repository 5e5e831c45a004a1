"""Advantages of rollouts that lie in one row, as most trainers have them; torch alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from recast.adapters.limits import why_not_estimator
from recast.adapters.verl_batch import places
from recast.groups import RolloutGroups
from recast.signal import build_signal
from recast.strategies import as_strategy
from recast.strategy import Strategy


def flat_advantages(
    strategy: str | Strategy,
    reward: Tensor,
    group: Iterable[Hashable],
    length: Tensor | None = None,
) -> Tensor:
    """One advantage per rollout, `[N]`: the strategy's, 0 for a rollout that it leaves out.

    reward `[N]`: outcomes; group: a label per rollout, equal inside a group; length `[N]`: tokens
    of each response, a rollout without any is padding and gets 0.
    Raises ValueError, one line, for a strategy that `recast.adapters.limits.why_not_estimator`
    refuses: one that edits groups, looks at the target, or remembers batches.

    >>> import torch
    >>> flat_advantages("rloo", torch.tensor([1.0, 0.0, 0.0, 0.0]), ["a", "b", "a", "b"])
    tensor([ 1.,  0., -1.,  0.])
    """
    chosen = as_strategy(strategy)
    reason = why_not_estimator(chosen)
    if reason is not None:
        raise ValueError(f"strategy {chosen.text!r} is more than an advantage: {reason}")
    reward = reward.detach()
    number, place = (found.to(reward.device) for found in places(group))
    # Rollouts may be missing: a step whose widest group is too narrow is padded, not refused.
    shape = int(number.max()) + 1, max(int(place.max()) + 1, chosen.least_group)
    tokens = torch.ones_like(reward) if length is None else length

    def grid(flat: Tensor) -> Tensor:
        return flat.new_zeros(shape).index_put((number, place), flat)

    counted = grid(tokens)
    groups = RolloutGroups.of(grid(reward), valid=counted > 0, length=counted.clamp(min=1))
    signal = build_signal(chosen, groups)
    return (signal.advantage * signal.rows)[number, place]

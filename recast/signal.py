"""The signal that a strategy makes of a batch: repair, select, credit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stage import State
from recast.strategy import Strategy, require_inputs

PROBED = 257
"""Numbers of hits that `probe` looks at, at most."""


@dataclass(frozen=True)
class Signal:
    """What the actor learns from one batch.

    groups: after repair `[..., B, G]` (one slot wider where a repair appends); advantage
    `[..., B, G]`, or `[..., B, G, L]` where credit differs by token; rows: bool `[..., B, G]`, the
    rollouts that reach the actor; supervised: whether each target is learnt from as well.
    sampled: the groups before repair. state: for the next batch.
    """

    groups: RolloutGroups
    advantage: Tensor
    rows: Tensor
    supervised: bool
    sampled: RolloutGroups
    state: State = field(default_factory=dict)

    @property
    def hits(self) -> Tensor:
        """Hits of each group as sampled; int64 `[..., B]`."""
        return self.sampled.hit.sum(-1)

    @property
    def valid(self) -> Tensor:
        """Rollouts of each group as sampled; int64 `[..., B]`."""
        return self.sampled.valid.sum(-1)

    @property
    def active(self) -> Tensor:
        """Rollouts with a non-zero advantage; bool `[..., B, G]`."""
        return _active(self.advantage, self.rows)

    @property
    def count(self) -> Tensor:
        """Gradient-signal count per group: rollouts with a non-zero advantage, plus one for a
        supervised target; int64 `[..., B]`."""
        return self.active.sum(-1) + int(self.supervised)


def _active(advantage: Tensor, rows: Tensor) -> Tensor:
    active = advantage.to(torch.bool)
    return active.any(-1) if advantage.ndim > rows.ndim else active


def build_signal(strategy: Strategy, groups: RolloutGroups, state: State | None = None) -> Signal:
    """Turn rollout groups into a learning signal; shapes as in `Signal`.

    state: what the previous batch's signal returned, for strategies that remember.
    Raises ValueError when the strategy needs an input that the groups lack.

    >>> import torch
    >>> from recast import STRATEGIES, RolloutGroups
    >>> reward = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> score = torch.tensor([[0.1, 0.01, 0.0], [0.1, 1.0, 0.0]])
    >>> signal = build_signal(STRATEGIES["recast"], RolloutGroups.of(reward, score=score))
    >>> signal.advantage
    tensor([[-1.,  0.,  1.],
            [-1.,  1.,  0.]])
    >>> signal.groups.origin
    tensor([[0, 0, 1],
            [0, 0, 0]], dtype=torch.int8)
    """
    require_inputs(strategy, groups.given | {"reference", "path"}, groups.reward.shape[-1])
    if strategy.needs_binary and not groups.binary:
        raise ValueError(
            f"credit={strategy.credit} counts hits: it needs rewards that are 0 or 1; "
            "threshold them first, or choose another credit"
        )
    repair, select, credit = (strategy.stage(kind) for kind in ("repair", "select", "credit"))
    if not state:
        state = _fresh(strategy, groups)
    repaired = repair(groups, state=state)
    selected = select(repaired, state=state)
    if not strategy.sends_rows:
        selected = torch.zeros_like(selected)
    narrowed = repaired.narrowed(selected)
    advantage = credit(narrowed, state=state)
    if groups.hinted is not None:
        advantage = _beyond_hint(advantage, repaired)
    after = {
        **state,
        **repair.carry(groups, state=state),
        **select.carry(repaired, state=state),
        **credit.carry(narrowed, state=state),
    }
    if strategy.update == "active":
        selected = selected & _active(advantage, selected)
    return Signal(repaired, advantage, selected, strategy.learns_from_target, groups, state=after)


def _beyond_hint(advantage: Tensor, groups: RolloutGroups) -> Tensor:
    """The advantage of codes that were sampled; `[..., B, G, L]`."""
    assert groups.hinted is not None
    each = advantage if advantage.ndim > groups.reward.ndim else advantage.unsqueeze(-1)
    level = torch.arange(groups.depth, device=advantage.device)
    return torch.where(level >= groups.hinted.unsqueeze(-1), each, 0.0)


def _fresh(strategy: Strategy, groups: RolloutGroups) -> State:
    """The state before the first batch, where the groups are."""
    if strategy.coupling != "state":
        return {}
    prompts = groups.reward.shape[-2]
    if groups.prompt is not None:
        prompts = int(groups.prompt.max()) + 1
    fresh = strategy.start(groups.reward.shape[:-2], prompts)
    return {name: value.to(groups.reward.device) for name, value in fresh.items()}


def probe(strategy: Strategy, width: int = 16) -> Signal:
    """The signal on one batch that holds a group for each number of hits 0..width, or for 64 of
    them in a wider group, both ends included.

    Of wide groups, for `PROBED` numbers of hits, evenly spaced. Every optional input is made up:
    one matched code on the first miss, an entropy of 1 nat falling to .5, beams in order. What
    `recast.composition` and `recast strategies` look at.
    """
    slot = torch.arange(width, dtype=torch.float64)
    hits = torch.linspace(0, width, min(width + 1, PROBED)).round().long().unsqueeze(-1)
    reward = (slot < hits).to(torch.float64)
    rank = slot.to(torch.int64).expand_as(reward)
    matched = torch.where(reward > 0, 4, (slot == hits).to(torch.int64))
    groups = RolloutGroups.of(
        reward,
        score=torch.where(reward > 0, 1.0, 0.01 * (slot == hits)),
        tie_key=((slot + 0.5) / width).expand_as(reward),
        length=torch.ones_like(reward),
        entropy=torch.tensor([1.0, 0.5], dtype=torch.float64).expand(*reward.shape, 2),
        beam_rank=rank,
        matched=matched,
        item=rank,
        logp=torch.full((*reward.shape, 4), -1.0, dtype=torch.float64),
        codes=(torch.arange(4) >= matched.unsqueeze(-1)) * (1 + rank.unsqueeze(-1)),
        prompt=torch.arange(len(reward)),
        depth=4,
    )
    return build_signal(strategy, groups)

"""From prompts to a learning signal, and from the signal to packed rows.

Order: roll out, judge, repair (the ground truth's codes go into an anchored slot), credit, and only
then pack the active rows; no log-probability is computed before that, and none for an idle row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.lm.decode import beams, sample
from recast.lm.prefix import CausalLM
from recast.lm.seeds import uniforms
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary
from recast.strategies import Signal, Strategy, build_signal
from recast.structure import level_scores, matched_levels

Search = Literal["sample", "beam"]


@dataclass(frozen=True)
class Rows:
    """Packed rows of the prompts that reach the actor: index `[b]` into the batch; codes
    `[b, U, L]`; advantage `[b, U]` or `[b, U, L]`; active `[b, U]` (False = padding)."""

    index: Tensor
    codes: Tensor
    advantage: Tensor
    active: Tensor


def roll_out(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: Prompts,
    target: Tensor,
    *,
    search: Search,
    group: int,
    temperature: float,
    seed: int,
    step: int,
) -> tuple[RolloutGroups, Tensor]:
    """Sample or search G items per prompt and judge them; the groups and codes `[B, G, L]`.

    target `[B, L]`. The reward is 1 for the target's ID, the score is structural.
    """
    model.eval()
    batch = len(prompts)
    device = prompts.ids.device
    ranked: dict[str, Any] = {}
    if search == "beam":
        item, _ = beams(model, vocabulary, trie, prompts, group)
        codes = trie.codes[item.clamp(min=0)]
        valid = item >= 0
    else:
        draws = uniforms(seed, "rollouts", step, (batch, group, trie.depth)).to(device)
        rolled = sample(model, vocabulary, trie, prompts, draws, temperature)
        codes = rolled.codes
        valid = torch.ones(codes.shape[:2], dtype=torch.bool, device=device)
    matched = matched_levels(codes, target.unsqueeze(1))
    groups = RolloutGroups.of(
        (matched == trie.depth).float(),
        score=level_scores(trie.depth).to(device)[matched],
        valid=valid,
        tie_key=uniforms(seed, "ties", step, (batch, group)).float().to(device),
        **ranked,
    )
    return groups, codes


def learn_from(
    strategy: Strategy, groups: RolloutGroups, codes: Tensor, target: Tensor
) -> tuple[Signal, Rows]:
    """Repair, credit and pack; a repaired or appended slot carries the target's codes."""
    signal = build_signal(strategy, groups)
    width = signal.groups.reward.shape[-1]
    if width > codes.shape[1]:
        extra = target.unsqueeze(1).expand(-1, width - codes.shape[1], -1)
        codes = torch.cat([codes, extra], 1)
    anchor = (signal.groups.origin == int(Origin.ANCHOR)).unsqueeze(-1)
    codes = torch.where(anchor, target.unsqueeze(1), codes)
    return signal, pack(signal, codes)


def pack(signal: Signal, codes: Tensor) -> Rows:
    """Keep the rows that reach the actor, and the prompts that have any."""
    counts = signal.rows.sum(-1)
    index = (counts > 0).nonzero().squeeze(-1)
    width = int(counts.max()) if counts.numel() else 0
    # A stable sort keeps the rollouts' order, so packing never reorders a group.
    order = signal.rows[index].to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    keep = order.indices[:, :width]
    advantage = signal.advantage[index]
    if advantage.ndim == 3:
        advantage = advantage.gather(1, keep.unsqueeze(-1).expand(-1, -1, advantage.shape[-1]))
    else:
        advantage = advantage.gather(1, keep)
    return Rows(
        index=index,
        codes=codes[index].gather(1, keep.unsqueeze(-1).expand(-1, -1, codes.shape[-1])),
        advantage=advantage,
        active=signal.rows[index].gather(1, keep),
    )

"""Beam sets: G distinct items per prompt instead of G independent samples.

Beam search walks the trie level by level and keeps the most probable prefixes. Every item found
is distinct, so with one target per prompt at most one of the G can be a hit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sim.policies.protocol import Params, Policy
from sim.worlds.catalogue import Catalogue


def beam(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Beam search of a width; items `[R, B, W]` int64, best first, and their log-probability at
    T = 1 `[R, B, W]`.

    Where the catalogue offers fewer than `width` items the rest is item -1 with -inf. Width 1 is
    greedy decoding. encoded `[R, B, ...]`. Raises ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"beam width: {width} asked for; expected 1 or more")
    first = policy.node_logits(params, encoded, catalogue, 0, _root(encoded))
    runs, prompts, _, codes = first.shape
    node = torch.zeros(runs, prompts, 1, dtype=torch.int64)
    logp = first.new_zeros(runs, prompts, 1)
    for level, here in enumerate(catalogue.levels):
        live = node.clamp(min=0)
        logits = (
            first if level == 0 else policy.node_logits(params, encoded, catalogue, level, live)
        )
        step = torch.log_softmax(logits.masked_fill(~here.allowed[live], -torch.inf), dim=-1)
        candidates = (logp.unsqueeze(-1) + step).flatten(2)
        logp, chosen = candidates.topk(min(width, candidates.shape[-1]), dim=-1)
        node = here.next[live.gather(-1, chosen // codes), chosen % codes]
        node = node.masked_fill(logp == -torch.inf, -1)
    missing = (0, width - node.shape[-1])
    pad = torch.nn.functional.pad
    return pad(node, missing, value=-1), pad(logp, missing, value=-torch.inf)


def _root(encoded: Tensor) -> Tensor:
    return torch.zeros(encoded.shape[0], encoded.shape[1], 1, dtype=torch.int64)

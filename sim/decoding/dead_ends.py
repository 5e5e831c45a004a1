"""What evaluation makes of dead ends: leaves of a free catalogue that are no items.

Without dead ends (trie-constrained decoding) everything here is what it was. P prompts, N leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recast.metrics import coverage
from sim.decoding.enumerate import Enumeration, item_logp
from sim.worlds.catalogue import Catalogue


def valid_logp(logp: Tensor, catalogue: Catalogue) -> Tensor:
    """Log-probabilities `[P, N]` by which items are ranked: dead ends are listed nowhere."""
    void = catalogue.void
    return logp if void is None else logp.masked_fill(void, -torch.inf)


def invalid_share(logits: Enumeration, logp: Tensor, temperature: float) -> dict[str, Tensor]:
    """Chance that one rollout at a temperature is no item; `[P]` float64, empty without dead ends.

    logp `[P, N]`: at T = 1.
    """
    void = logits.catalogue.void
    if void is None:
        return {}
    if temperature != 1.0:
        logp = item_logp(logits, temperature).T
    return {"invalid_share": logp[:, void].double().exp().sum(-1)}


def covered(lists: Tensor, catalogue: Catalogue) -> float:
    """Share of the items that occur in at least one list; lists `[P, k]`."""
    if catalogue.void is None:
        return coverage(lists, catalogue.items)
    items = catalogue.items - int(catalogue.void.sum())
    shown = lists.masked_fill(catalogue.void[lists], -1)
    return coverage(shown, catalogue.items) * catalogue.items / items

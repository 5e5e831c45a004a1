"""What rollouts, training and evaluation ask of a policy over semantic IDs.

Parameters are a dict of tensors `[R, ...]`, the run axis first; every function is batched over runs
and never mixes them. A policy gives logits over the K codes at a trie node.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sim.policies.nodes import Params as Params
from sim.worlds.catalogue import Catalogue


class Policy(Protocol):
    """What rollouts, training and evaluation need of a policy."""

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        """Parameters of R fresh runs."""

    def encode(self, params: Params, context: Tensor) -> Tensor:
        """`[R, B, D]` features -> `[R, B, ...]`, computed once per prompt."""

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        """Logits over all K codes at nodes of one level; node `[R, B, M]` -> `[R, B, M, K]`."""

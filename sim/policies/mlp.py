"""The MLP: one hidden layer over the user's features and an embedding of the trie node.

Shapes: R runs, B prompts, D features, H hidden units, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.policies.nodes import NodeRows, Params, segment_outer, segment_products, tanh_
from sim.seeds import normals
from sim.worlds.catalogue import Catalogue


@dataclass(frozen=True)
class MLP:
    """logits = tanh(x W + E[node]) V_level + c_level, with `width` hidden units."""

    width: int = 64

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        width, codes = self.width, catalogue.n_codes
        shapes: dict[str, tuple[tuple[int, ...], float]] = {
            "input": ((features, width), features**-0.5),
            "node": ((catalogue.nodes, width), 0.3),
            "head": ((catalogue.depth, width, codes), 0.1 * width**-0.5),
        }
        params = {
            name: (scale * normals(seeds, f"init/{name}", shape)).to(dtype)
            for name, (shape, scale) in shapes.items()
        }
        params["bias"] = torch.zeros(len(seeds), catalogue.depth, codes, dtype=dtype)
        return params

    def encode(self, params: Params, context: Tensor) -> Tensor:
        return torch.bmm(context, params["input"])

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        runs, prompts, rows = node.shape
        flat = (node + catalogue.levels[level].offset).view(runs, -1)
        index = (flat + catalogue.nodes * torch.arange(runs).unsqueeze(1)).view(-1)
        embedded = params["node"].flatten(0, 1).index_select(0, index)
        hidden = torch.tanh(encoded.unsqueeze(2) + embedded.view(runs, prompts, rows, -1))
        logits = torch.baddbmm(
            params["bias"][:, level].unsqueeze(1), hidden.flatten(1, 2), params["head"][:, level]
        )
        return logits.view(runs, prompts, rows, -1)

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, rows: NodeRows
    ) -> tuple[Tensor, Tensor]:
        hidden = params["node"].flatten(0, 1).index_select(0, rows.node(catalogue))
        hidden = tanh_(hidden.add_(encoded.index_select(0, rows.prompt)))
        logits = segment_products(hidden, params["head"].flatten(0, 1), rows.bounds)
        bias = params["bias"].flatten(0, 1).index_select(0, rows.segment)
        return logits.add_(bias), hidden

    def backward_rows(
        self,
        params: Params,
        catalogue: Catalogue,
        rows: NodeRows,
        saved: Tensor,
        dlogits: Tensor,
        grads: Params,
        dencoded: Tensor,
    ) -> None:
        segment_outer(saved, dlogits, rows.bounds, grads["head"].flatten(0, 1))
        grads["bias"].flatten(0, 1).index_add_(0, rows.segment, dlogits)
        transposed = params["head"].flatten(0, 1).transpose(1, 2)
        inside = segment_products(dlogits, transposed, rows.bounds)
        inside.addcmul_(inside * saved, saved, value=-1.0)
        grads["node"].flatten(0, 1).index_add_(0, rows.node(catalogue), inside)
        dencoded.index_add_(0, rows.prompt, inside)

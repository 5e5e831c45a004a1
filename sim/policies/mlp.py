"""The MLP: one hidden layer over the user's features and an embedding of the trie node.

Shapes: R runs, B prompts, D features, H hidden units, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.policies.nodes import NodeRows, Params, segment_outer, segment_products, tanh_
from sim.seeds import normals
from sim.worlds.catalogue import Bucket, Catalogue

BLOCK = 16
"""Nodes whose hidden units are in memory at once; more would leave the cache."""


class AffineTanh:
    """x -> weight @ tanh(x + shift) + bias with one exponential per input instead of one per sum.

    tanh(x + s) = 1 - 2 / (1 + e^2x e^2s), so the sum over hidden units needs only reciprocals.
    shift `[R, m, H]`, weight `[R, m, w, H]`, bias `[R, m, w]`; x `[R, P, H]` -> `[R, m, w, P]`.
    Falls back to tanh where the product of exponentials could overflow.
    """

    def __init__(self, shift: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.shift, self.weight, self.bias = shift.unsqueeze(-1), weight, bias.unsqueeze(-1)
        self._safe = 20.0 if shift.dtype == torch.float32 else 170.0
        self._small = shift.abs().max().item() < self._safe
        self._factor = (2 * self.shift).exp_()
        self._plus = self.bias + weight.sum(-1, keepdim=True)
        self._by = -2 * weight

    def __call__(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        if not (self._small and x.abs().max().item() < self._safe):
            return torch.matmul(self.weight, torch.tanh(x.unsqueeze(1) + self.shift)) + self.bias
        found = x.new_empty(*self.weight.shape[:3], x.shape[-1])
        parts = [torch.split(v, BLOCK, 1) for v in (found, self._factor, self._by, self._plus)]
        for run, left in enumerate((2 * x).contiguous().exp_()):
            for out, factor, by, plus in zip(*parts, strict=True):
                half = torch.mul(left, factor[run]).add_(1).reciprocal_()
                torch.baddbmm(plus[run], by[run], half, out=out[run])
        return found


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

    def child_logits(
        self, params: Params, catalogue: Catalogue, level: int, bucket: Bucket
    ) -> AffineTanh:
        nodes = params["node"][:, catalogue.levels[level].offset + bucket.node]
        head = params["head"][:, level].transpose(1, 2)[:, bucket.code]
        return AffineTanh(nodes, head, params["bias"][:, level][:, bucket.code])

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

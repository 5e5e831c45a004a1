"""A log-linear policy: what the user brings and where one stands in the trie add up, nothing more.

logits = x W_level + c[node]: every level has one weight per (feature, code), shared by all nodes of
that level, and every node a bias per code. Shapes: R runs, B prompts, L levels, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.policies.nodes import Params, Rows, encode_by_table, encode_by_table_backward
from sim.seeds import normals
from sim.worlds.catalogue import Bucket, Catalogue


@dataclass(frozen=True)
class LogLinear:
    """weight `[R, D, L, K]`, bias `[R, nodes, K]`; its encoding is x W, `[R, B, L, K]`."""

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        shape = (features, catalogue.depth, catalogue.n_codes)
        weight = (0.01 * normals(seeds, "init/weight", shape)).to(dtype)
        bias = torch.zeros(len(seeds), catalogue.nodes, catalogue.n_codes, dtype=dtype)
        return {"weight": weight, "bias": bias}

    def encode(self, params: Params, context: Tensor) -> Tensor:
        weight = params["weight"]
        return torch.bmm(context, weight.flatten(2)).view(*context.shape[:2], *weight.shape[2:])

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        run = catalogue.nodes * torch.arange(node.shape[0]).view(-1, 1, 1)
        index = (node + catalogue.levels[level].offset + run).view(-1)
        bias = params["bias"].flatten(0, 1).index_select(0, index)
        return encoded[:, :, level].unsqueeze(2) + bias.view(*node.shape, -1)

    def child_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, bucket: Bucket
    ) -> Tensor:
        node = (catalogue.levels[level].offset + bucket.node).unsqueeze(-1)
        bias = params["bias"][:, node, bucket.code]
        return encoded[:, :, level].transpose(1, 2)[:, bucket.code] + bias.unsqueeze(-1)

    def encode_rows(self, params: Params, context: Tensor) -> Tensor:
        weight = params["weight"]
        return encode_by_table(context, weight).view(-1, *weight.shape[2:])

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, rows: Rows
    ) -> tuple[Tensor, Tensor]:
        place = rows.prompt * catalogue.depth + rows.segment % catalogue.depth
        logits = encoded.view(-1, encoded.shape[-1]).index_select(0, place)
        bias = params["bias"].flatten(0, 1).index_select(0, rows.node(catalogue))
        return logits.add_(bias), place

    def backward_rows(
        self,
        params: Params,
        catalogue: Catalogue,
        rows: Rows,
        saved: Tensor,
        dlogits: Tensor,
        grads: Params,
        dencoded: Tensor,
    ) -> None:
        dencoded.view(-1, dlogits.shape[1]).index_add_(0, saved, dlogits)
        grads["bias"].flatten(0, 1).index_add_(0, rows.node(catalogue), dlogits)

    def encode_backward(self, context: Tensor, dencoded: Tensor, grads: Params) -> None:
        encode_by_table_backward(context, dencoded, grads["weight"])

"""Policies that are linear in the user's features: a table, and a log-linear one.

Both read their encoding, x times a table of weights, at each node. Shapes: R runs, B prompts,
D features, L levels, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sim.policies.nodes import NodeRows, Params
from sim.seeds import normals
from sim.worlds.catalogue import Catalogue


class _Linear:
    """weights: the parameter `[R, D, .., K]` that features are multiplied by."""

    weights: ClassVar[str]

    def encode(self, params: Params, context: Tensor) -> Tensor:
        table = params[self.weights]
        return torch.bmm(context, table.flatten(2)).view(*context.shape[:2], *table.shape[2:])

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
        dencoded.view(-1, dlogits.shape[1]).index_add_(0, saved, dlogits)


@dataclass(frozen=True)
class Tabular(_Linear):
    """One free logit per (context feature, node, code): a table, for one-hot contexts."""

    weights = "table"

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        shape = (features, catalogue.nodes, catalogue.n_codes)
        return {"table": (0.01 * normals(seeds, "init/table", shape)).to(dtype)}

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        del params
        index = (node + catalogue.levels[level].offset).unsqueeze(-1)
        return encoded.gather(2, index.expand(*node.shape, encoded.shape[-1]))

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, rows: NodeRows
    ) -> tuple[Tensor, Tensor]:
        place = rows.prompt * catalogue.nodes + rows.place
        return encoded.view(-1, params["table"].shape[-1]).index_select(0, place), place


@dataclass(frozen=True)
class LogLinear(_Linear):
    """logits = x W_level + c[node]: weight `[R, D, L, K]`, shared by all nodes of a level, and
    bias `[R, nodes, K]`; what the user brings and where one stands in the trie add up, no more."""

    weights = "weight"

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        shape = (features, catalogue.depth, catalogue.n_codes)
        weight = (0.01 * normals(seeds, "init/weight", shape)).to(dtype)
        bias = torch.zeros(len(seeds), catalogue.nodes, catalogue.n_codes, dtype=dtype)
        return {"weight": weight, "bias": bias}

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        run = catalogue.nodes * torch.arange(node.shape[0]).view(-1, 1, 1)
        index = (node + catalogue.levels[level].offset + run).view(-1)
        bias = params["bias"].flatten(0, 1).index_select(0, index)
        return encoded[:, :, level].unsqueeze(2) + bias.view(*node.shape, -1)

    def forward_rows(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, rows: NodeRows
    ) -> tuple[Tensor, Tensor]:
        place = rows.prompt * catalogue.depth + rows.segment % catalogue.depth
        logits = encoded.view(-1, encoded.shape[-1]).index_select(0, place)
        bias = params["bias"].flatten(0, 1).index_select(0, rows.node(catalogue))
        return logits.add_(bias), place

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
        super().backward_rows(params, catalogue, rows, saved, dlogits, grads, dencoded)
        grads["bias"].flatten(0, 1).index_add_(0, rows.node(catalogue), dlogits)

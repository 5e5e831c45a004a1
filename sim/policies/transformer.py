"""A tiny transformer: one causal block over the user's token and the codes chosen so far.

With one block only the last token is asked, and the keys and values of the others depend on the
user alone or on a (level, code) alone: they are computed once per prompt and once per table entry,
not once per rollout. It has no hand-written node passes; `sim.general.step` trains it through
autograd, one run at a time. Shapes: R runs, B prompts, M nodes, L levels, K codes, H width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.policies.nodes import Params
from sim.seeds import normals
from sim.worlds.catalogue import Catalogue

HEADS = 2


@dataclass(frozen=True)
class Transformer:
    """Pre-normalised (RMS, no gain) attention with two heads and a GELU layer of 2 H units, both
    with residuals; one head and one table of code tokens per level, which stand for positions.

    Raises ValueError for a width that two heads cannot share.
    """

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < HEADS or self.width % HEADS:
            raise ValueError(f"width: {self.width} does not divide over {HEADS} attention heads")

    def init(
        self, catalogue: Catalogue, features: int, seeds: tuple[int, ...], dtype: torch.dtype
    ) -> Params:
        width, codes, depth = self.width, catalogue.n_codes, catalogue.depth
        square = ((width, width), width**-0.5)
        shapes: dict[str, tuple[tuple[int, ...], float]] = {
            "user": ((features, width), features**-0.5),
            "query": square,
            "key": square,
            "value": square,
            "output": ((width, width), 0.5 * width**-0.5),
            "up": ((width, 2 * width), width**-0.5),
            "down": ((2 * width, width), 0.5 * (2 * width) ** -0.5),
            "head": ((depth, width, codes), 0.1 * width**-0.5),
        }
        if depth > 1:
            shapes["token"] = ((depth - 1, codes, width), 0.3)
        params = {
            name: (scale * normals(seeds, f"init/{name}", shape)).to(dtype)
            for name, (shape, scale) in shapes.items()
        }
        params["bias"] = torch.zeros(len(seeds), depth, codes, dtype=dtype)
        return params

    def encode(self, params: Params, context: Tensor) -> Tensor:
        """The user's token, its key and its value side by side; `[R, B, 3 H]`."""
        user = torch.bmm(context, params["user"])
        scaled = _normalised(user)
        return torch.cat(
            [user, torch.bmm(scaled, params["key"]), torch.bmm(scaled, params["value"])], -1
        )

    def node_logits(
        self, params: Params, encoded: Tensor, catalogue: Catalogue, level: int, node: Tensor
    ) -> Tensor:
        runs, prompts, rows = node.shape
        user, key, value = encoded.unsqueeze(2).chunk(3, -1)
        if level == 0:
            # Every rollout of a prompt stands at the one root.
            query = torch.bmm(_normalised(user).squeeze(2), params["query"]).unsqueeze(2)
            last, keys, values = user, [key], [value]
        else:
            table = params["token"].flatten(1, 2)
            entry = catalogue.prefixes[level][node] + catalogue.n_codes * torch.arange(level)
            entry = entry + table.shape[1] * torch.arange(runs).view(-1, 1, 1, 1)
            scaled = _normalised(table)
            keyed, valued, asked = (
                torch.bmm(scaled, params[name]).flatten(0, 1) for name in ("key", "value", "query")
            )

            def at(rows_of: Tensor, place: int) -> Tensor:
                found = rows_of.index_select(0, entry[..., place].reshape(-1))
                return found.view(runs, prompts, rows, -1)

            last, query = at(table.flatten(0, 1), level - 1), at(asked, level - 1)
            keys = [key, *(at(keyed, place) for place in range(level))]
            values = [value, *(at(valued, place) for place in range(level))]
        hidden = last + _times(_attend(query, keys, values), params["output"])
        inner = torch.nn.functional.gelu(_times(_normalised(hidden), params["up"]))
        hidden = hidden + _times(inner, params["down"])
        logits = _times(_normalised(hidden), params["head"][:, level])
        logits = logits + params["bias"][:, level].view(runs, 1, 1, -1)
        return logits.expand(runs, prompts, rows, -1)


def _normalised(x: Tensor) -> Tensor:
    """x over its root mean square along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    """x `[R, B, M, p]` times weight `[R, p, q]`."""
    return torch.bmm(x.flatten(1, 2), weight).view(*x.shape[:3], -1)


def _attend(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Softmax attention of one query `[R, B, M, H]` over a few tokens, head by head."""

    def by_head(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], HEADS, -1)

    scale = (query.shape[-1] // HEADS) ** -0.5
    scores = [scale * (by_head(query) * by_head(key)).sum(-1) for key in keys]
    share = torch.softmax(torch.stack(scores, -1), -1).unbind(-1)
    mixed = [part.unsqueeze(-1) * by_head(value) for part, value in zip(share, values, strict=True)]
    return torch.stack(mixed).sum(0).flatten(-2)

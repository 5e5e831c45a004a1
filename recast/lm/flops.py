"""Floating-point operations of an actor update: the matrix products that the mathematics needs.

Counted: linear layers (2 per weight and token), attention (4 per query-key pair, head and channel;
causal, so a padded or masked pair does not count), the output layer on the codes of each level. A
backward pass is two forward passes. What checkpointing computes again is not counted, so a rate
made of these numbers is model FLOPs utilisation (MFU) as PaLM defines it (arXiv 2204.02311).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from recast.lm.prefix import CausalLM, backbone


def update_flops(
    model: CausalLM,
    lengths: Sequence[int],
    rows: Sequence[int],
    depth: int,
    width: int,
    shared: bool,
    reference: bool = False,
) -> float:
    """One forward and backward pass over groups: prompts of `lengths` tokens with `rows` rows each.

    depth: codes per row, L; width: codes per level, K; shared: one prompt forward per group;
    reference: the frozen reference scores the rows as well (one forward pass more).
    """
    tokens = pairs = heads = 0
    for length, count in zip(lengths, rows, strict=True):
        if not count:
            continue
        if shared:
            tokens += length + (depth - 1) * count
            pairs += length * (length + 1) // 2
            pairs += count * sum(length + level for level in range(1, depth))
            heads += 1 + (depth - 1) * count
        else:
            whole = length + depth - 1
            tokens += count * whole
            pairs += count * whole * (whole + 1) // 2
            heads += depth * count
    forward = forward_flops(model, tokens, pairs, heads * width)
    return (4.0 if reference else 3.0) * forward


def forward_flops(model: CausalLM, tokens: int, pairs: int, outputs: int) -> float:
    """One forward pass: tokens through every linear layer, query-key pairs of one layer, and
    outputs: logits computed by the output layer."""
    inner = backbone(model)
    config, output = inner.config, inner.get_output_embeddings()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    attention = 4.0 * config.num_hidden_layers * heads * size * pairs
    linear = 2.0 * linear_weights(model) * tokens
    return float(linear + attention + 2.0 * output.in_features * outputs)


def linear_weights(model: CausalLM) -> int:
    """Weights that each token meets in a matrix product: every linear layer but the output's."""
    output = backbone(model).get_output_embeddings()
    return sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not output
    )


def token_counts(lengths: torch.Tensor, rows: torch.Tensor) -> tuple[list[int], list[int]]:
    """Plain numbers of prompt lengths `[B]` and rows `[B]`, for `update_flops`."""
    return [int(n) for n in lengths.tolist()], [int(n) for n in rows.tolist()]

"""Rollouts down a catalogue's trie, and their log-probabilities, on TRL's rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recast.lm.decode import sample
from recast.lm.prefix import CausalLM, allowed_logits
from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary


def items_of(vocabulary: Vocabulary, trie: Trie) -> set[tuple[int, ...]]:
    """The items of a catalogue, each as the token ids of its codes."""
    table = vocabulary.table()
    tokens = [table[level][trie.codes[:, level].cpu()] for level in range(trie.depth)]
    return {tuple(row) for row in torch.stack(tokens, 1).tolist()}


def rolled_down(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: Sequence[Sequence[int]],
    draws: Tensor,
    temperature: float,
) -> list[list[int]]:
    """One item per prompt, as the token ids of its L codes; prompts are token ids of any length.

    draws `[B, 1, L]`: uniform in [0, 1), on the device of the trie.
    """
    longest = max(len(row) for row in prompts)
    ids = torch.full((len(prompts), longest), vocabulary.pad, dtype=torch.int64)
    for place, row in enumerate(prompts):
        ids[place, : len(row)] = torch.tensor(row)
    padded = PromptTokens(ids, torch.tensor([len(row) for row in prompts])).to(draws.device)
    codes = sample(model, vocabulary, trie, padded, draws, temperature).codes[:, 0].cpu()
    table = vocabulary.table()
    return torch.stack([table[lv][codes[:, lv]] for lv in range(codes.shape[1])], 1).tolist()


def scored_down(
    vocabulary: Vocabulary, trie: Trie, logits: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability of each chosen token and entropy of its level, both `[B, L]`, nats, over the
    codes that may follow.

    logits `[B, L, tokens]`: over the temperature; chosen `[B, L]`: token ids of an item's codes.
    """
    tokens = vocabulary.table(chosen.device)
    node = torch.zeros(len(chosen), dtype=torch.int64, device=chosen.device)
    logps, entropies = [], []
    for level in range(trie.depth):
        step = torch.log_softmax(
            allowed_logits(logits[:, level, tokens[level]], trie, level, node), -1
        )
        codes, real = trie.below(level, node)
        same = (tokens[level][codes] == chosen[:, level : level + 1]) & real
        slot = same.to(torch.uint8).argmax(-1)
        logps.append(step.gather(-1, slot.unsqueeze(-1)).squeeze(-1))
        entropies.append(-(step.exp() * step.clamp(min=-1e4)).sum(-1))
        node = trie.step(level, node, slot)[1]
    return torch.stack(logps, -1), torch.stack(entropies, -1)

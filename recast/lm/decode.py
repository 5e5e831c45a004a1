"""Trie-constrained decoding with one prompt forward per group.

The prompt's keys and values are computed once and shared: each step feeds the B x G newest codes
as G tokens of B sequences, and a 4-D mask lets a code see the prompt and its own ancestors. Nothing
is copied per rollout.

Shapes: B prompts, G rollouts or W beams, L levels, N items. Log-probabilities in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recast.lm.optional_extra import require
from recast.lm.prefix import (
    CausalLM,
    allowed_logits,
    backbone,
    code_head,
    hidden_states,
    last_state,
)
from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary


@dataclass(frozen=True)
class Rollouts:
    """codes `[B, G, L]`; logp `[B, G, L]` under the constrained policy at the sampling temperature;
    entropy `[B, G, L]` of the distribution that each code was drawn from, nats."""

    codes: Tensor
    logp: Tensor
    entropy: Tensor


@dataclass
class _Shared:
    """One batch being decoded: the cache grows by a block of codes per step."""

    model: CausalLM
    prompts: PromptTokens
    tokens: Tensor
    cache: Any
    real: Tensor
    logits: Tensor

    def step(self, codes: Tensor, level: int, sees: Tensor) -> Tensor:
        """Feed codes `[B, G]` of `level`; sees `[B, G, S]`: which earlier blocks' codes, its own
        included, each may attend to. Returns the next level's logits `[B, G, K]`."""
        prompt = self.real.unsqueeze(1).expand(-1, codes.shape[1], -1)
        mask = torch.cat([prompt, sees], -1).unsqueeze(1)
        position = (self.prompts.length.unsqueeze(-1) + level).expand_as(codes)
        ids = self.tokens[level][codes]
        states = hidden_states(self.model, ids, position, mask, self.cache)
        return code_head(self.model, states, self.tokens[level + 1])


def _start(model: CausalLM, vocabulary: Vocabulary, prompts: PromptTokens) -> _Shared:
    cache = require("transformers").DynamicCache(config=backbone(model).config)
    place = torch.arange(prompts.ids.shape[1], device=prompts.ids.device).expand_as(prompts.ids)
    real = place < prompts.length.unsqueeze(-1)
    states = hidden_states(model, prompts.ids, place, None, cache)
    tokens = vocabulary.table(prompts.ids.device)
    logits = code_head(model, last_state(states, prompts.length), tokens[0])
    return _Shared(model, prompts, tokens, cache, real, logits)


@torch.no_grad()
def sample(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: PromptTokens,
    uniforms: Tensor,
    temperature: float = 1.0,
    given: Tensor | None = None,
    hint: Tensor | None = None,
) -> Rollouts:
    """Draw G rollouts per prompt by inverting each step's distribution function.

    uniforms `[B, G, L]` in [0, 1). given `[B, L]`, hint `[B]`: the first `hint` codes of each
    rollout are not drawn but those of `given`, an item of the trie.
    """
    shared = _start(model, vocabulary, prompts)
    group, depth = uniforms.shape[1:]
    own = torch.eye(group, dtype=torch.bool, device=prompts.ids.device)
    own = own.expand(len(prompts), -1, -1)
    node = torch.zeros(len(prompts), group, dtype=torch.int64, device=prompts.ids.device)
    logits = shared.logits.unsqueeze(1).expand(-1, group, -1)
    codes, logps, entropies = [], [], []
    for level in range(depth):
        open_logits = allowed_logits(logits, trie, level, node) / temperature
        logp = torch.log_softmax(open_logits, -1)
        cdf = logp.double().exp().cumsum(-1)
        draw = uniforms[..., level].to(cdf.device) * cdf[..., -1]
        slot = torch.searchsorted(cdf, draw.unsqueeze(-1), right=True).squeeze(-1)
        # A draw on the last rounding step could land on padding: the last open child takes it.
        following, real = trie.below(level, node)
        slot = torch.minimum(slot, real.sum(-1) - 1)
        if given is not None and hint is not None:
            same = following == given[:, level].view(-1, 1, 1)
            forced = (same & real).to(torch.uint8).argmax(-1)
            slot = torch.where(level < hint.unsqueeze(-1), forced, slot)
        code, child = trie.step(level, node, slot)
        codes.append(code)
        logps.append(logp.gather(-1, slot.unsqueeze(-1)).squeeze(-1))
        entropies.append(entropy(logp))
        node = child
        if level + 1 < depth:
            logits = shared.step(codes[-1], level, own.repeat(1, 1, level + 1))
    return Rollouts(torch.stack(codes, -1), torch.stack(logps, -1), torch.stack(entropies, -1))


def entropy(logp: Tensor) -> Tensor:
    """Entropy in nats over the last axis; -inf counts as probability 0. `[..., V]` -> `[...]`."""
    return -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)


@torch.no_grad()
def beams(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens, width: int
) -> tuple[Tensor, Tensor]:
    """The items of a constrained beam search, best first; item `[B, W]`, logp `[B, W]`.

    width 1 is greedy decoding. Where the catalogue has fewer than W items reachable the item is -1
    and logp is -inf.
    """
    shared = _start(model, vocabulary, prompts)
    batch, device = len(prompts), prompts.ids.device
    node = torch.zeros(batch, 1, dtype=torch.int64, device=device)
    total = torch.zeros(batch, 1, device=device, dtype=shared.logits.dtype)
    logits = shared.logits.unsqueeze(1)
    sees = torch.zeros(batch, 1, 0, dtype=torch.bool, device=device)
    for level in range(trie.depth):
        open_logits = allowed_logits(logits, trie, level, node)
        every = (total.unsqueeze(-1) + torch.log_softmax(open_logits, -1)).flatten(1)
        # A dead beam's children are -inf - inf = NaN: keep them dead.
        every = every.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        total, place = every.topk(min(width, every.shape[1]), dim=-1)
        parent, slot = place // open_logits.shape[-1], place % open_logits.shape[-1]
        node = node.gather(1, parent)
        codes, node = trie.step(level, node, slot)
        if level + 1 < trie.depth:
            own = torch.eye(codes.shape[1], dtype=torch.bool, device=device)
            old = sees.gather(1, parent.unsqueeze(-1).expand(-1, -1, sees.shape[-1]))
            sees = torch.cat([old, own.expand(batch, -1, -1)], -1)
            logits = shared.step(codes, level, sees)
    item = torch.where(total > -torch.inf, node, -1)
    missing = width - item.shape[1]
    if missing > 0:
        item = torch.nn.functional.pad(item, (0, missing), value=-1)
        total = torch.nn.functional.pad(total, (0, missing), value=-torch.inf)
    return item, total


@dataclass(frozen=True)
class NodeLogits:
    """The policy on the whole trie. Per level: rows `[m_l]`, the nodes with a choice below them,
    and the logits of their children `[B, m_l, W_l]` (-inf on padding)."""

    trie: Trie
    rows: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]

    def item_logp(self, temperature: float = 1.0) -> Tensor:
        """Log-probability of every item, `[B, N]`, each code sampled at `temperature`."""
        found = self.logits[0].new_zeros(self.logits[0].shape[0], 1)
        for level, (rows, logits) in enumerate(zip(self.rows, self.logits, strict=True)):
            every = torch.arange(self.trie.nodes(level), device=logits.device)
            real = self.trie.below(level, every)[1]
            step = logits.new_zeros(len(logits), *real.shape)
            step[:, rows] = torch.log_softmax(logits / temperature, -1)
            # Children stand in the order of their parents.
            found = (found.unsqueeze(-1) + step)[:, real]
        return found


@torch.no_grad()
def enumerate_nodes(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens
) -> NodeLogits:
    """Logits at every node: exact probabilities of all items, at any temperature.

    Only nodes with more than one child, and their ancestors, go through the model.
    """
    shared = _start(model, vocabulary, prompts)
    batch, device = len(prompts), prompts.ids.device
    useful = _useful(trie)
    logits = shared.logits.unsqueeze(1)
    rows = torch.zeros(1, dtype=torch.int64, device=device)
    sees = torch.zeros(1, 0, dtype=torch.bool, device=device)
    every_row, every_logit = [], []
    for level in range(trie.depth):
        every_row.append(rows)
        node = rows.expand(batch, -1)
        every_logit.append(allowed_logits(logits, trie, level, node))
        if level + 1 == trie.depth:
            break
        parent_of, code_of = trie.parent[level], trie.label[level]
        fresh = useful[level + 1].nonzero().squeeze(-1)
        slot = torch.full((trie.nodes(level),), -1, dtype=torch.int64, device=device)
        slot[rows] = torch.arange(len(rows), device=device)
        own = torch.eye(len(fresh), dtype=torch.bool, device=device)
        sees, rows = torch.cat([sees[slot[parent_of[fresh]]], own], -1), fresh
        if len(fresh):
            codes = code_of[fresh].expand(batch, -1)
            logits = shared.step(codes, level, sees.expand(batch, -1, -1))
        else:
            logits = logits[:, :0]
    return NodeLogits(trie, tuple(every_row), tuple(every_logit))


def _useful(trie: Trie) -> list[Tensor]:
    """Per depth 0..L-1: nodes that branch, or have a descendant that does; bool `[n_l]`."""
    useful = [first.diff() > 1 for first in trie.first]
    for level in reversed(range(trie.depth - 1)):
        useful[level][trie.parent[level][useful[level + 1]]] = True
    useful[0][:] = True
    return useful

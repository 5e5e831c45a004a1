"""Log-probabilities of rollouts: the prompt once per group, or once per rollout.

Packed tree: `[prompt | level-0 codes of U rows | level-1 codes of U rows | ...]` is one sequence; a
4-D mask lets each code see the prompt and its own earlier codes, so a group costs P + (L - 1) U
tokens in place of U (P + L - 1). Both paths give the same numbers, with gradient.

Shapes: B prompts of at most P tokens, U rows per prompt, L levels of K codes. Log-probabilities
are in nats. With a trie they are those of trie-constrained sampling (the softmax runs over the
codes that can follow), without one those of the model's whole vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary

CausalLM = Any
"""A transformers causal LM (with or without PEFT adapters); untyped because it is optional."""


def backbone(model: CausalLM) -> CausalLM:
    """The causal LM inside a PEFT wrapper (adapters stay active), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states(
    model: CausalLM, ids: Tensor, position: Tensor, mask: Tensor, cache: Any = None
) -> Tensor:
    """Last hidden states `[B, T, d]` of tokens `[B, T]`.

    position `[B, T]`; mask bool `[B, 1, T, S]`, True = may attend, S = cached + T keys.
    """
    inner = backbone(model)
    dtype = inner.dtype
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill(~mask, torch.finfo(dtype).min)
    out = inner.model(
        input_ids=ids,
        position_ids=position,
        attention_mask=bias,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    states: Tensor = out.last_hidden_state
    return states


def prompt_mask(length: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Which prompt tokens are real `[B, P]`, and the causal mask among them `[B, P, P]`.

    A padded position sees itself, so that no softmax runs over nothing.
    """
    place = torch.arange(width, device=length.device)
    real = place < length.unsqueeze(-1)
    causal = place.unsqueeze(-1) >= place
    eye = place.unsqueeze(-1) == place
    return real, (causal & real.unsqueeze(-2)) | eye


def last_state(states: Tensor, length: Tensor) -> Tensor:
    """The state of each prompt's last token, `[B, d]`."""
    return states[torch.arange(len(length), device=length.device), length - 1]


def head(model: CausalLM, states: Tensor) -> Tensor:
    """Logits over the whole vocabulary, float32."""
    logits: Tensor = backbone(model).get_output_embeddings()(states)
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def allowed_logits(logits: Tensor, tokens: Tensor, trie: Trie, level: int, node: Tensor) -> Tensor:
    """Logits of the codes that may follow each node, `[..., W]`, -inf on padding.

    logits `[..., V]`; tokens `[L, K]`; node `[...]` indexes depth `level`.
    """
    here = tokens[level][trie.code[level][node]]
    return logits.gather(-1, here).masked_fill(~trie.allowed[level][node], -torch.inf)


def chosen_logp(
    logits: Tensor, tokens: Tensor, codes: Tensor, trie: Trie | None, temperature: float
) -> Tensor:
    """Log-probability of each chosen code: logits `[B, U, L, V]` -> `[B, U, L]`."""
    logits = logits / temperature
    if trie is None:
        chosen = torch.stack([tokens[lv][codes[..., lv]] for lv in range(codes.shape[-1])], -1)
        return torch.log_softmax(logits, -1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    nodes, slots, _ = trie.walk(codes)
    found = []
    for level in range(codes.shape[-1]):
        open_logits = allowed_logits(logits[..., level, :], tokens, trie, level, nodes[..., level])
        logp = torch.log_softmax(open_logits, -1)
        found.append(logp.gather(-1, slots[..., level, None]).squeeze(-1))
    return torch.stack(found, -1)


def packed_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    prompts: Prompts,
    codes: Tensor,
    trie: Trie | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probabilities of code paths `[B, U, L]` with one prompt forward per group."""
    states = packed_states(model, vocabulary, prompts, codes)
    tokens = vocabulary.table(prompts.ids.device)
    return chosen_logp(head(model, states), tokens, codes, trie, temperature)


def packed_states(
    model: CausalLM, vocabulary: Vocabulary, prompts: Prompts, codes: Tensor
) -> Tensor:
    """The states that predict each code of the paths `[B, U, L]`: `[B, U, L, d]`."""
    rows, depth = codes.shape[1:]
    device = prompts.ids.device
    tokens = vocabulary.table(device)
    width = prompts.ids.shape[1]
    real, among = prompt_mask(prompts.length, width)
    blocks = depth - 1
    chosen = [tokens[level][codes[..., level]] for level in range(blocks)]
    ids = torch.cat([prompts.ids, *chosen], 1)
    own = torch.eye(rows, dtype=torch.bool, device=device)
    total = width + blocks * rows
    mask = torch.zeros(len(prompts), total, total, dtype=torch.bool, device=device)
    mask[:, :width, :width] = among
    for block in range(blocks):
        start = width + block * rows
        mask[:, start : start + rows, :width] = real.unsqueeze(1)
        mask[:, start : start + rows, width : start + rows] = own.repeat(1, block + 1)
    place = torch.arange(width, device=device).expand(len(prompts), -1)
    after = [(prompts.length.unsqueeze(-1) + b).expand(-1, rows) for b in range(blocks)]
    states = hidden_states(model, ids, torch.cat([place, *after], 1), mask.unsqueeze(1))
    first = last_state(states, prompts.length).unsqueeze(1).expand(-1, rows, -1)
    levels = [states[:, width + b * rows : width + (b + 1) * rows] for b in range(blocks)]
    return torch.stack([first, *levels], 2)


def reencoded_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    prompts: Prompts,
    codes: Tensor,
    trie: Trie | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The same numbers, `[B, U, L]`, with the prompt encoded again for each row."""
    batch, rows, depth = codes.shape
    device = prompts.ids.device
    tokens = vocabulary.table(device)
    width = prompts.ids.shape[1]
    length = prompts.length.repeat_interleave(rows)
    ids = torch.cat(
        [
            prompts.ids.repeat_interleave(rows, 0),
            torch.full((batch * rows, depth - 1), vocabulary.pad, device=device),
        ],
        1,
    )
    flat = codes.reshape(-1, depth)
    line = torch.arange(len(ids), device=device)
    for level in range(depth - 1):
        ids[line, length + level] = tokens[level][flat[:, level]]
    _, mask = prompt_mask(length + depth - 1, width + depth - 1)
    place = torch.arange(width + depth - 1, device=device).expand(len(ids), -1)
    states = hidden_states(model, ids, place, mask.unsqueeze(1))
    picked = torch.stack([states[line, length - 1 + level] for level in range(depth)], 1)
    stacked = picked.view(batch, rows, depth, -1)
    return chosen_logp(head(model, stacked), tokens, codes, trie, temperature)

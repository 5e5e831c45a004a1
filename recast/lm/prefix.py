"""Log-probabilities of rollouts: the prompt once per group, or once per rollout.

Packed tree: `[prompt | level-0 codes of U rows | level-1 codes of U rows | ...]` is one sequence; a
4-D mask lets each code see the prompt and its own earlier codes, so a group costs P + (L - 1) U
tokens in place of U (P + L - 1). Both paths give the same numbers, with gradient.

Shapes: B prompts of at most P tokens, U rows per prompt, L levels of K codes. Log-probabilities
are in nats. With a trie they are those of trie-constrained sampling (the softmax runs over the
codes that can follow), without one those of the model's whole vocabulary.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary

CausalLM = Any
"""A transformers causal LM (with or without PEFT adapters); untyped because it is optional."""


def backbone(model: CausalLM) -> CausalLM:
    """The causal LM inside a PEFT wrapper (adapters stay active), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states(
    model: CausalLM, ids: Tensor, position: Tensor, mask: Tensor | None, cache: Any = None
) -> Tensor:
    """Last hidden states `[B, T, d]` of tokens `[B, T]`.

    position `[B, T]`; mask bool `[B, 1, T, S]`, True = may attend, S = cached + T keys. None is
    plain causal attention, for which the fused kernels need no mask: padding on the right is seen
    by itself alone.
    """
    inner = backbone(model)
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=inner.dtype, device=mask.device)
        bias = bias.masked_fill(~mask, torch.finfo(inner.dtype).min)
    body = inner.base_model
    held = {} if cache is None else {_cache_name(type(body).forward): cache}
    out = body(
        input_ids=ids,
        position_ids=position,
        attention_mask=bias,
        use_cache=cache is not None,
        **held,
    )
    states: Tensor = out.last_hidden_state
    return states


@functools.cache
def _cache_name(forward: Callable[..., Any]) -> str:
    """What a class's forward call takes its cache as: transformers renamed it in 5.24."""
    known = inspect.signature(forward).parameters
    return "cache" if "cache" in known else "past_key_values"


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


def code_head(model: CausalLM, states: Tensor, tokens: Tensor) -> Tensor:
    """Logits of one level's codes alone, float32: states `[..., d]`, tokens `[K]` -> `[..., K]`.

    A plain output layer is applied to these K rows of its weight; any other one in full.
    """
    output = backbone(model).get_output_embeddings()
    if type(output) is torch.nn.Linear:
        bias = None if output.bias is None else output.bias[tokens]
        logits = torch.nn.functional.linear(states, output.weight[tokens], bias)
    else:
        logits = output(states)[..., tokens]
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def allowed_logits(logits: Tensor, trie: Trie, level: int, node: Tensor) -> Tensor:
    """Logits of the codes that may follow each node, `[..., W]`, -inf on padding.

    logits `[..., K]`, of the level's codes; node `[...]` indexes depth `level`.
    """
    codes, real = trie.below(level, node)
    return logits.gather(-1, codes).masked_fill(~real, -torch.inf)


def level_logits(
    model: CausalLM, states: Sequence[Tensor], tokens: Tensor, trie: Trie | None
) -> list[Tensor]:
    """What chooses each code of a path: per level, logits of the level's codes, or of the whole
    vocabulary without a trie."""
    if trie is None:
        return [head(model, level) for level in states]
    return [code_head(model, level, tokens[lv]) for lv, level in enumerate(states)]


def chosen_logp(
    logits: Sequence[Tensor],
    tokens: Tensor,
    codes: Tensor,
    trie: Trie | None,
    temperature: float,
) -> Tensor:
    """Log-probability of each chosen code, `[B, U, L]`; codes `[B, U, L]`.

    logits: as from `level_logits`, `[B, U, ...]` per level, or `[B, 1, ...]` where a prompt's rows
    share them.
    """
    rows = codes.shape[1]
    found = []
    nodes, slots = (codes, codes) if trie is None else trie.walk(codes)[:2]
    for level, here in enumerate(logits):
        open_logits, chosen = here, tokens[level][codes[..., level]]
        if trie is not None:
            node = nodes[:, : here.shape[1], level]
            open_logits, chosen = allowed_logits(here, trie, level, node), slots[..., level]
        logp = torch.log_softmax(open_logits / temperature, -1).expand(-1, rows, -1)
        found.append(logp.gather(-1, chosen.unsqueeze(-1)).squeeze(-1))
    return torch.stack(found, -1)


def packed_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    prompts: PromptTokens,
    codes: Tensor,
    trie: Trie | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probabilities of code paths `[B, U, L]` with one prompt forward per group."""
    states = packed_states(model, vocabulary, prompts, codes)
    tokens = vocabulary.table(prompts.ids.device)
    return chosen_logp(level_logits(model, states, tokens, trie), tokens, codes, trie, temperature)


@torch.no_grad()
def path_codes(
    model: CausalLM,
    vocabulary: Vocabulary,
    prompts: PromptTokens,
    codes: Tensor,
    trie: Trie,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probabilities of every code that may follow on the way of paths `[B, L]`, `[B, L, K]`,
    -inf on padding; K: the most that may follow anywhere."""
    path = codes.unsqueeze(1)
    tokens = vocabulary.table(prompts.ids.device)
    states, nodes = packed_states(model, vocabulary, prompts, path), trie.walk(path)[0]
    found = []
    for level, here in enumerate(level_logits(model, states, tokens, trie)):
        open_logits = allowed_logits(here, trie, level, nodes[..., level])[:, 0]
        found.append(torch.log_softmax(open_logits / temperature, -1))
    widest = max(level.shape[-1] for level in found)
    padded = [torch.nn.functional.pad(f, (0, widest - f.shape[-1]), value=-math.inf) for f in found]
    return torch.stack(padded, 1)


def packed_states(
    model: CausalLM, vocabulary: Vocabulary, prompts: PromptTokens, codes: Tensor
) -> list[Tensor]:
    """The states that predict each code of the paths `[B, U, L]`, per level: `[B, 1, d]` for the
    first, which the rows of a prompt share, then `[B, U, d]`."""
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
    first = last_state(states, prompts.length).unsqueeze(1)
    return [first, *torch.split(states[:, width:], rows, 1)]


def reencoded_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    prompts: PromptTokens,
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
    place = torch.arange(width + depth - 1, device=device).expand(len(ids), -1)
    states = hidden_states(model, ids, place, None)
    picked = [states[line, length - 1 + lv].view(batch, rows, -1) for lv in range(depth)]
    return chosen_logp(level_logits(model, picked, tokens, trie), tokens, codes, trie, temperature)

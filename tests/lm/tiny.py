"""Tiny random models, ragged prompts and catalogues."""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers

from recast.items import Interaction
from recast.lm.evaluate import evaluation_set
from recast.lm.trie import Trie, build_trie
from recast.lm.update import RLSetup
from recast.lm.vocabulary import PromptTokens, Vocabulary, small_vocabulary

CODEBOOK = 5
ARCHITECTURES = ("qwen3", "llama")


def vocabulary(depth: int = 3, codebook: int = CODEBOOK) -> Vocabulary:
    return small_vocabulary(depth, codebook)


def model(architecture: str, vocab: Vocabulary, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": 1 + max(t for level in vocab.tokens for t in level),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
        "bos_token_id": 1,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    if architecture == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape)).eval()
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).eval()


def catalogue(seed: int, items: int = 20, depth: int = 3, codebook: int = CODEBOOK) -> Trie:
    draw = random.Random(seed)
    sids = {tuple(draw.randrange(codebook) for _ in range(depth)) for _ in range(items)}
    return build_trie(sorted(sids))


def prompts(vocab: Vocabulary, trie: Trie, seed: int, batch: int) -> PromptTokens:
    draw = random.Random(seed)
    sids = [tuple(row) for row in trie.codes.tolist()]
    return vocab.prompts(
        [[draw.choice(sids) for _ in range(draw.randrange(1, 6))] for _ in range(batch)]
    )


def paths(trie: Trie, seed: int, batch: int, rows: int) -> torch.Tensor:
    draw = random.Random(seed)
    chosen = [[draw.randrange(trie.items) for _ in range(rows)] for _ in range(batch)]
    return trie.codes[torch.tensor(chosen)]


def interactions(trie: Trie, count: int, seed: int = 0) -> list[Interaction]:
    draw = random.Random(seed)
    sids = [tuple(row) for row in trie.codes.tolist()]
    return [
        Interaction(
            f"u{i % 7}",
            tuple(draw.choice(sids) for _ in range(1 + i % 4)),
            draw.choice(sids),
        )
        for i in range(count)
    ]


def setup(architecture: str = "qwen3", items: int = 12, count: int = 40) -> RLSetup:
    vocab, trie = vocabulary(), catalogue(1, items)
    rows = interactions(trie, count)
    flags = {"seen": [i % 3 > 0 for i in range(count)]}
    held = evaluation_set(vocab, trie, rows, flags)
    return RLSetup(
        model=model(architecture, vocab),
        reference=model(architecture, vocab).requires_grad_(False),
        vocabulary=vocab,
        trie=trie,
        prompts=vocab.prompts([row.history for row in rows]),
        target=torch.tensor([row.target for row in rows]),
        evaluation={"test": held, "validation": held},
    )

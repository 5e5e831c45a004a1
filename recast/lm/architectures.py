"""Shapes of published models, for costs that need no trained weights.

Figures: the `config.json` that each model is published with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from recast.lm.device import CPU, Placement
from recast.lm.folder_checks import check_layers, loading
from recast.lm.memory import TrainedPart, check_room
from recast.lm.models import recompute
from recast.lm.optional_extra import LMError, require
from recast.lm.prefix import CausalLM
from recast.lm.vocabulary import BEGIN, Vocabulary, small_vocabulary

_QWEN3 = {
    "vocab_size": 151_936,
    "head_dim": 128,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40_960,
    "rope_theta": 1_000_000.0,
    "attention_dropout": 0.0,
}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "qwen3-0.6b": {
            **_QWEN3,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        "qwen3-1.7b": {
            **_QWEN3,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        "qwen3-8b": {
            **_QWEN3,
            "hidden_size": 4096,
            "intermediate_size": 12_288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "tie_word_embeddings": False,
        },
    }
)


def random_model(
    name: str,
    depth: int,
    codebook: int,
    placement: Placement = CPU,
    seed: int = 0,
    optimizer: TrainedPart = "nothing",
    copies: int = 0,
) -> tuple[CausalLM, Vocabulary]:
    """A model of a published shape with random weights, and a vocabulary whose codes come after
    the shape's own tokens.

    name: a key of `ARCHITECTURES`, or a folder with a `config.json`; optimizer, copies: what will
    be held beside it, as in `recast.lm.memory.check_memory`. Raises LMError, one line.
    """
    transformers = require("transformers")
    if name in ARCHITECTURES:
        config = transformers.Qwen3Config(**ARCHITECTURES[name], bos_token_id=BEGIN)
    elif (Path(name) / "config.json").is_file():
        with loading(name, "a config.json of a causal LM"):
            check_layers(name, json.loads((Path(name) / "config.json").read_text("utf-8")))
            config = transformers.AutoConfig.from_pretrained(name)
    else:
        raise LMError(
            f"--model: {name!r}; expected {', '.join(ARCHITECTURES)}, small, or a folder with a "
            "config.json"
        )
    with loading(name, "a config.json of a causal LM"):
        base = int(config.vocab_size)
        config.vocab_size = base + depth * codebook
        config.pad_token_id = None
        with torch.device("meta"):
            shape = transformers.AutoModelForCausalLM.from_config(config, dtype=placement.dtype)
        if placement.device.type != "meta":
            weights = sum(part.numel() for part in shape.parameters())
            check_room(name, weights, placement, optimizer, copies, ("--optimizer sgd", "sgd"))
    with torch.random.fork_rng(devices=[]), torch.device(placement.device):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=placement.dtype, attn_implementation=placement.attention
        )
    if placement.checkpointing:
        recompute(model)
    small = small_vocabulary(depth, codebook, recent=1_000_000)
    first = small.tokens[0][0]
    tokens = tuple(tuple(base + t - first for t in level) for level in small.tokens)
    return model, replace(small, tokens=tokens)

"""Models: the small one from scratch, or any local or hub causal LM (full or LoRA).

Weights are read and written as safetensors only; remote code runs only when the user asks for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recast.lm.device import CPU, Placement
from recast.lm.extra import LMError, require
from recast.lm.prefix import CausalLM, head, hidden_states, prompt_mask
from recast.lm.vocabulary import (
    Vocabulary,
    code_name,
    small_vocabulary,
    tokenizer_vocabulary,
)


@dataclass(frozen=True)
class SmallModel:
    """The default: Qwen3 architecture, about 0.95M parameters with 3 x 256 codes."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    hidden: int = 384


def build_small(
    vocabulary: Vocabulary, shape: SmallModel, seed: int, placement: Placement = CPU
) -> CausalLM:
    """A freshly initialised small model; the same seed gives the same weights on every device.

    Raises LMError without transformers.
    """
    transformers = require("transformers")
    size = 1 + max(token for level in vocabulary.tokens for token in level)
    config = transformers.Qwen3Config(
        vocab_size=size,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.before[0],
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.Qwen3ForCausalLM(config)
    return placed(model, placement)


def placed(model: CausalLM, placement: Placement) -> CausalLM:
    """The model on its device, in its type, with its attention kernel; activations are recomputed
    in the backward pass where the placement says so."""
    if placement.attention != "sdpa":
        model.set_attn_implementation(placement.attention)
    if placement.checkpointing:
        recompute(model)
    return model.to(device=placement.device, dtype=placement.dtype)


def recompute(model: CausalLM) -> None:
    """Compute activations again in the backward pass, in training mode."""
    # The name that transformers gives it now, and its older one.
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)({"use_reentrant": False})


def load_pretrained(
    name: str,
    depth: int,
    codebook: int,
    *,
    chat: bool = False,
    trust_remote_code: bool = False,
    gguf: str | None = None,
    placement: Placement = CPU,
) -> tuple[CausalLM, Any, Vocabulary]:
    """A local folder or hub id, its tokenizer with one token per code, and the vocabulary.

    gguf: a GGUF file inside the folder, which transformers converts.
    Raises LMError, one line: not found, no safetensors, too little memory, split codes, a head
    that this engine does not reproduce.
    """
    transformers = require("transformers")
    local = Path(name)
    if local.is_dir() and gguf is None and not list(local.glob("*.safetensors")):
        raise LMError(f"{name}: no *.safetensors file in this folder; other formats are not read")
    extra = {"gguf_file": gguf} if gguf else {"use_safetensors": True}
    check_memory(local)
    options = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            name, **options, **({"gguf_file": gguf} if gguf else {})
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, **options, **extra
        )
    except MemoryError:
        raise LMError(f"{name}: too little memory to load this model; take a smaller one") from None
    except (OSError, ValueError, ImportError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise LMError(f"{name}: cannot load a causal LM: {reason}") from None
    if gguf:
        # The converted weights are plain tensors; what says otherwise forbids saving them.
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    _zero_dropout(model)
    names = [code_name(level, code) for level in range(depth) for code in range(codebook)]
    if tokenizer.add_tokens([n for n in names if n not in tokenizer.get_vocab()]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.resize_token_embeddings(len(tokenizer))
    vocabulary = tokenizer_vocabulary(tokenizer, depth, codebook, chat=chat)
    check_head(model)
    return placed(model, placement), tokenizer, vocabulary


def with_lora(model: CausalLM, vocabulary: Vocabulary, rank: int = 8) -> CausalLM:
    """LoRA adapters on attention and MLP; the rows of the new code tokens train in full.

    Raises LMError without peft.
    """
    peft = require("peft")
    tokens = sorted({token for level in vocabulary.tokens for token in level})
    # Tied embeddings share the rows; an output layer of its own needs them too.
    tied = getattr(model.config, "tie_word_embeddings", False)
    places = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(places, tokens),
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)


def check_memory(folder: Path) -> None:
    """Raise LMError when the weights in float32 with gradient and Adam would not fit the machine.

    A folder's safetensors files are counted at four copies; a hub id is not checked beforehand.
    """
    size = (
        sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0
    )
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * size > have:
        raise LMError(
            f"{folder}: too little memory: about {4 * size / 2**30:.0f} GiB wanted for weights, "
            f"gradient and Adam, the machine has {have / 2**30:.0f} GiB; use --lora or a "
            "smaller model"
        )


def check_head(model: CausalLM) -> None:
    """Raise LMError when logits are not the output embedding of the last hidden state.

    Some architectures scale or cap them; this engine would then score another policy.
    """
    was_training = model.training
    model.eval()
    ids = torch.arange(1, 5).unsqueeze(0)
    length = torch.tensor([4])
    try:
        with torch.no_grad():
            _, mask = prompt_mask(length, 4)
            states = hidden_states(model, ids, torch.arange(4).unsqueeze(0), mask.unsqueeze(1))
            same = torch.allclose(head(model, states), model(input_ids=ids).logits, atol=1e-4)
    except (AttributeError, TypeError) as problem:
        raise LMError(
            f"{type(model).__name__}: not a decoder with a `model` and an output embedding "
            f"({problem}); Llama, Qwen and Mistral architectures work"
        ) from None
    finally:
        model.train(was_training)
    if not same:
        raise LMError(
            f"{type(model).__name__} changes its logits after the output embedding, which this "
            "engine does not reproduce; Llama, Qwen and Mistral architectures work"
        )


def _zero_dropout(model: CausalLM) -> None:
    # With dropout the policy that is scored is not the policy that sampled: step-1 KL is not 0.
    for name in ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if getattr(model.config, name, 0.0):
            setattr(model.config, name, 0.0)
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def default_vocabulary(depth: int, codebook: int) -> Vocabulary:
    """The small model's vocabulary for a catalogue."""
    return small_vocabulary(depth, codebook)

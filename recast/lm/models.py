"""Models: the small one from scratch, LoRA adapters, and what a model attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from recast.lm.device import CPU, Placement
from recast.lm.memory import check_room
from recast.lm.optional_extra import LMError, require
from recast.lm.prefix import CausalLM
from recast.lm.vocabulary import Vocabulary

LORA_SEED = 0
"""Of the adapters that every run of a start begins with, whatever the run's own seed."""


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

    Raises LMError without transformers, for a width that its heads cannot share, and for a model
    that does not fit into the memory.
    """
    transformers = require("transformers")
    if shape.width % (2 * shape.heads):
        raise LMError(
            f"width {shape.width}: expected a multiple of {2 * shape.heads}, for {shape.heads} "
            "attention heads"
        )
    size = 1 + max(token for level in vocabulary.tokens for token in level)
    layer = 4 * shape.width * shape.width + 3 * shape.width * shape.hidden
    name = f"a model of {shape.layers} layers and width {shape.width}"
    check_room(name, size * shape.width + shape.layers * layer, placement)
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


def with_lora(
    model: CausalLM, vocabulary: Vocabulary, rank: int = 8, seed: int = LORA_SEED
) -> CausalLM:
    """LoRA adapters on attention and MLP; the rows of the new code tokens train in full, and an
    output layer that has a bias as a whole, since peft's rows of one would lose the bias.

    The same seed gives the same adapters, whatever was drawn before. Raises LMError without peft,
    and where the model with fresh adapters says other things than without.
    """
    peft = require("peft")
    tokens = sorted({token for level in vocabulary.tokens for token in level})
    # Tied embeddings share the rows; an output layer of its own needs them too.
    tied = getattr(model.config, "tie_word_embeddings", False)
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    output = model.get_output_embeddings()
    biased = getattr(output, "bias", None) is not None
    layers = [model.get_input_embeddings(), *([] if tied or biased else [output])]
    places = [names[id(layer)] for layer in layers]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        # GPT-2 keeps its weights transposed.
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(places, tokens),
        modules_to_save=[names[id(output)]] if biased else None,
        task_type="CAUSAL_LM",
    )
    before = _said(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(model, config)
    near = 1e-4 if model.dtype == torch.float32 else 0.1
    if not torch.allclose(before, _said(adapted), atol=near, rtol=near):
        raise LMError(
            f"{type(model).__name__}: with fresh adapters it says other things than without; train "
            "it whole, without --lora"
        )
    return adapted


@torch.no_grad()
def _said(model: CausalLM) -> torch.Tensor:
    """Logits after a short sequence of the first tokens, in eval mode."""
    training = model.training
    ids = torch.arange(6, device=model.device).unsqueeze(0)
    logits: torch.Tensor = model.eval()(input_ids=ids).logits.float()
    model.train(training)
    return logits


def context(config: Any) -> int | None:
    """Tokens that every layer of a model attends to: its positions, or the window of layers that
    look no further; None where its configuration does not say."""
    inner = getattr(config, "text_config", None) or config
    found = [getattr(inner, "max_position_embeddings", None)]
    layers = getattr(inner, "layer_types", None)
    slides = "sliding_attention" in layers if layers else True
    if slides and getattr(inner, "use_sliding_window", True):
        found.append(getattr(inner, "sliding_window", None))
    sizes = [size for size in found if isinstance(size, int) and size > 0]
    return min(sizes, default=None)


def zero_dropout(model: CausalLM) -> None:
    """No dropout: with it the policy that is scored is not the one that sampled, and the KL of the
    first step is not 0. Architectures keep it as modules or as numbers, under many names."""
    inner = getattr(model.config, "text_config", None) or model.config
    for holder in (model.config, inner, *model.modules()):
        for name, value in list(vars(holder).items()):
            if isinstance(value, float) and "drop" in name:
                setattr(holder, name, 0.0)
        if isinstance(holder, torch.nn.Dropout):
            holder.p = 0.0

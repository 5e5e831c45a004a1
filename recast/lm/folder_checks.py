"""What a folder that others wrote must hold before it is read as a causal LM.

What libraries raise for one that they cannot load becomes one line.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recast.lm.memory import tensors
from recast.lm.optional_extra import LMError
from recast.lm.prefix import CausalLM

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
    "*.tiktoken",
)
READ = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
MOST_LAYERS = 1000
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of weights that need no scale beside them, as safetensors names them."""
OTHER_HEADS = ("Classification", "ForMaskedLM", "ForQuestionAnswering", "ForRewardModeling")
"""Ends of the names of architectures that write nothing."""


def check_files(name: str, folder: Path) -> None:
    """Raise LMError for a folder without weights that this reader takes, or of another kind."""
    if not list(folder.glob("*.safetensors")):
        raise LMError(no_weights(name, folder))
    for path in sorted(folder.glob("*.json")):
        _check_json(path)
    path = folder / "config.json"  # where it is missing transformers says so
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    check_plain(name, config.get("quantization_config"))
    check_layers(name, config)
    listed = config.get("architectures")
    writer = str(listed[0])[:60] if isinstance(listed, list) and listed else "it"
    if config.get("is_encoder_decoder") is True:
        raise LMError(f"{name}: {writer} is an encoder and a decoder; only causal LMs are read")
    if writer.endswith(OTHER_HEADS):
        raise LMError(f"{name}: {writer} is no causal LM; name the model that writes the items")
    for where, (kind, shape) in tensors(folder).items():
        if where.endswith(".weight") and len(shape) > 1 and kind not in FLOATS:
            raise LMError(
                f"{name}: {where} is stored as {kind} and config.json does not say how; take the "
                "model's plain weights"
            )


def check_layers(name: str, config: Mapping[str, Any]) -> None:
    """Raise LMError for a config.json of more layers than any model has: they would be made one by
    one before anything else is looked at."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, Mapping) else {}):
        for key in ("num_hidden_layers", "num_layers", "n_layers", "n_layer"):
            if isinstance(part.get(key), int) and part[key] > MOST_LAYERS:
                raise LMError(
                    f"{name}: {key} {str(part[key])[:20]} in config.json; expected at most "
                    f"{MOST_LAYERS:,}"
                )


def _check_json(path: Path) -> None:
    """Raise LMError for a file that transformers would read and that holds no JSON."""
    if path.name not in READ:
        return
    try:
        if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:100]
        raise LMError(f"{path}: damaged, not a JSON object: {reason}") from None


def check_whole(name: str, model: CausalLM, found: Mapping[str, Any]) -> None:
    """Raise LMError where files and model do not hold the same weights. A head that the model does
    not have at all, such as a critic's, is passed over."""
    lacking = sorted(found["missing_keys"])
    if lacking:
        raise LMError(
            f"{name}: its files lack {len(lacking)} weights that config.json asks for, such as "
            f"{lacking[0]}, which would be random"
        )
    parts = {_part(key) for key in model.state_dict()}
    spare = sorted(key for key in found["unexpected_keys"] if _part(key) in parts)
    if spare:
        raise LMError(
            f"{name}: its files hold {len(spare)} weights that a {type(model).__name__} of this "
            f"config.json has no place for, such as {spare[0]}; it would be another model"
        )


def _part(key: str) -> tuple[str, ...]:
    """Which part of a model a weight belongs to: its stack of layers, its head."""
    return tuple(key.split(".")[:-1][:2])


def no_weights(name: str, folder: Path) -> str:
    """What to say of a folder without weights: what reads its GGUF files, or where weights are, if
    they lie one folder below."""
    others = sorted(path.name for path in folder.glob("*.gguf"))
    if others:
        return (
            f"{name}: GGUF files alone ({', '.join(others[:3])}); `recast lm sft --model {name} "
            f"--gguf {others[0]}` reads one, other commands the model that it writes"
        )
    inside = sorted({path.parent.name for path in folder.glob("*/*.safetensors")})
    hint = f"; name one of the folders in it: {', '.join(inside[:4])}" if inside else ""
    return f"{name}: no *.safetensors file here; other formats are not read{hint}"


def check_plain(name: str, quantised: Any) -> None:
    """Raise LMError for weights that only a quantisation library could read and none could train;
    without the library some are read as if they were plain."""
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise LMError(
            f"{name}: its weights are quantised ({str(method or 'quantization_config')[:40]}); "
            "take the model's plain weights, or save it dequantised"
        )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a file of a tokenizer."""
    return any(list(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


@contextmanager
def loading(name: str, what: str = "a causal LM") -> Iterator[None]:
    """Turn what libraries raise for a folder that they cannot load `what` from into one line:
    raises LMError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise LMError(f"{name}: too little memory to load this model; take a smaller one") from None
    except LMError:
        raise
    except Exception as problem:  # noqa: BLE001  # tokenizers and safetensors raise plain ones
        reason = " ".join(str(problem).split())[:240]
        if not isinstance(problem, OSError | ValueError):
            reason = f"{type(problem).__name__}: {reason}"
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other shapes than config.json says"
        if "trust_remote_code" in reason or "custom code" in reason:
            reason = "it brings code of its own; --trust-remote-code would run that"
        raise LMError(f"{name}: cannot load {what}: {reason}") from None

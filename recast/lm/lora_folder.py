"""A folder of LoRA adapters: the model that they belong to, and that model with them merged in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recast.lm.memory import tensors
from recast.lm.optional_extra import LMError, require
from recast.lm.prefix import CausalLM

ADAPTERS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def adapted(folder: Path) -> str | None:
    """The folder or hub name of the model that a folder's LoRA adapters belong to; None for a
    folder that holds none. A path that leads nowhere from here is read from the folder of the
    adapters. Raises LMError for adapters that do not name their model."""
    path = folder / ADAPTERS
    if not path.is_file():
        return None
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = None
    if not isinstance(named, str) or not named:
        raise LMError(f"{path}: expected the adapters of a model, base_model_name_or_path")
    if folder.resolve() in (Path(named).resolve(), (folder / named).resolve()):
        raise LMError(f"{path}: base_model_name_or_path is the folder of the adapters itself")
    beside = folder / named
    return str(beside) if not Path(named).is_dir() and beside.is_dir() else named


def check_base(folder: Path, base: str) -> None:
    """Raise LMError where the adapters of a folder or their base cannot be here."""
    path = Path(base)
    if not path.is_dir() and (path.is_absolute() or base.startswith(".") or len(path.parts) > 2):
        raise LMError(f"{folder}: holds adapters of {base}, which is not here")
    if adapted(path) is not None:
        raise LMError(f"{folder}: its base {base} holds adapters too; merge those first")
    if not (folder / WEIGHTS).is_file():
        raise LMError(
            f"{folder}: {ADAPTERS} without {WEIGHTS}; take it away where the adapters are merged "
            "into the weights"
        )


def merged(folder: Path, model: CausalLM) -> CausalLM:
    """The model with a folder's adapters merged into its weights, and rows that they bring.

    Raises LMError for adapters of another model and those that cannot be merged.
    """
    peft = require("peft")
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    have = ends[0].weight.shape[0]
    known, output = (_rows(folder, model, layer, have) for layer in ends)
    wanted = known if known != have else output
    if known != output and not model.config.tie_word_embeddings:
        lacking = "embedding" if known != wanted else "output layer"
        raise LMError(
            f"{folder}: its tokens have {wanted} rows, and it brings none of the {lacking} for "
            "them; merge the adapters into their model where they were trained"
        )
    if wanted != have:
        model.resize_token_embeddings(wanted)
    model = peft.PeftModel.from_pretrained(model, folder)
    _check_adapters(folder, model)
    return model.merge_and_unload()


def _rows(folder: Path, model: CausalLM, layer: Any, have: int) -> int:
    """Rows of an embedding, input or output, once a folder's adapters are there: as many as they
    bring in full, else `have` and those of single tokens that follow on them.

    Raises LMError for single tokens with a gap before them.
    """
    name = next(name for name, module in model.named_modules() if module is layer)
    found = have
    for key, (_, shape) in tensors(folder).items():
        _, here, rest = key.partition(f".{name}.")
        if here and rest.endswith("weight") and "lora_" not in rest:
            return shape[0]
        if rest.endswith("trainable_tokens_delta"):
            found = _after_single_tokens(folder, name, have)
    return found


def _after_single_tokens(folder: Path, name: str, have: int) -> int:
    """Rows of the layer `name` with the single tokens that adapters train, which have to follow on
    the `have` rows of their model. Raises LMError otherwise."""
    conf = json.loads((folder / ADAPTERS).read_text(encoding="utf-8"))
    listed = conf.get("trainable_token_indices") or conf.get("token_indices") or []
    if isinstance(listed, dict):
        listed = next((rows for layer, rows in listed.items() if name.endswith(layer)), [])
    new = sorted(row for row in listed if row >= have)
    if new != list(range(have, have + len(new))):
        raise LMError(
            f"{folder}: trains the row of token {new[-1]}, and some before it are neither here nor "
            "in its model; merge the adapters into their model where they were trained"
        )
    return have + len(new)


def _check_adapters(folder: Path, model: CausalLM) -> None:
    """Raise LMError for adapters that cannot be merged, or that belong to another model."""
    conf = model.active_peft_config
    if not hasattr(model, "merge_and_unload"):
        raise LMError(
            f"{folder}: {getattr(conf.peft_type, 'value', conf.peft_type)} cannot be merged into "
            "the model's weights; LoRA can"
        )
    held = {name.split(" ", 1)[1] for name in tensors(folder)}
    names = require("peft").get_peft_model_state_dict(model, save_embedding_layers=False)
    lacking = sorted(set(names) - held)
    if lacking:
        raise LMError(
            f"{folder}: its adapters lack {lacking[0]}, so they belong to another model than "
            f"{conf.base_model_name_or_path}"
        )

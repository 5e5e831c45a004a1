"""What differs between TRL's releases, behind the names that the adapter uses.

The adapter needs the methods of `HOOKS`; a release serves when it has them all. What changed since
0.24: `_generate_single_turn` took texts and takes token ids, and returns other tuples; scoring
returns a third value where it knows of auxiliary losses; extra columns of the completions log, and
one place that gathers sharded parameters, came later.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

from torch.distributed.fsdp import FullyShardedDataParallel

from recast.adapters.trainer_imports import lacking, needed

OLDEST = "0.24"
"""The releases that this is tested with, first and last."""

HOOKS = (
    "_generate_single_turn",
    "_get_per_token_logps_and_entropies",
    "_generate_and_score_completions",
    "_prepare_inputs",
    "_compute_loss",
    "_set_signature_columns_if_needed",
)


def missing_hooks(trainer: type) -> list[str]:
    """The methods that the adapter overrides and that a trainer class does not have."""
    return [name for name in HOOKS if not callable(getattr(trainer, name, None))]


def passes_over(trainer: Any) -> bool:
    """Whether a trainer class computes its loss without `_compute_loss`, as a patched one may: the
    rows that a strategy drops would count, and its supervised terms would not."""
    loss = getattr(trainer, "compute_loss", None)
    code = getattr(inspect.unwrap(loss) if loss else None, "__code__", None)
    return code is not None and "_compute_loss" not in code.co_names


_ADAPTER, _INSTALL = "recast.adapters.trl", f"'trl>={OLDEST},<2'"
trl = needed(_ADAPTER, "trl", _INSTALL)
_parts: dict[str, Any] = {}
for _module, _name in (("trl", "GRPOTrainer"), ("trl.models", "unwrap_model_for_generation")):
    try:
        # trl imports its parts when they are asked for, and says then what they lack.
        _parts[_name] = getattr(needed(_ADAPTER, _module, _INSTALL), _name)
    except (AttributeError, RuntimeError, ImportError) as _problem:
        if str(_problem).startswith(_ADAPTER):
            raise
        raise ImportError(
            f"{_ADAPTER}: trl {trl.__version__} has no {_name} that imports here "
            f"({lacking(_problem)}); install it with: pip install {_INSTALL}"
        ) from None
GRPOTrainer: Any = _parts["GRPOTrainer"]
unwrap_model_for_generation: Any = _parts["unwrap_model_for_generation"]

if _lacking := missing_hooks(GRPOTrainer):
    raise ImportError(
        f"recast.adapters.trl: trl {trl.__version__} has no {_lacking[0]} in its GRPOTrainer; "
        f"the nearest release that has it is {OLDEST}: pip install 'trl>={OLDEST},<2'"
    )
if passes_over(GRPOTrainer):
    raise ImportError(
        f"{_ADAPTER}: {GRPOTrainer.__name__} of {GRPOTrainer.__module__} computes its loss without "
        "_compute_loss, so dropped rows would count and supervised terms would not; use TRL's own "
        "trainer (Unsloth replaces it when it is imported)"
    )

_SINGLE = list(inspect.signature(GRPOTrainer._generate_single_turn).parameters)
TAKES_IDS = "prompt_ids" in _SINGLE
"""Whether prompts come to `_generate_single_turn` as token ids, and it returns two values."""

_SCORE = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
SCORES_AUXILIARY = "compute_aux_loss" in _SCORE
"""Whether scoring returns a third value."""


def tokenised(trainer: Any, prompts: Sequence[Any]) -> list[list[int]]:
    """Token ids of prompts as `_generate_single_turn` gets them: ids, texts or messages."""
    if TAKES_IDS:
        return [list(ids) for ids in prompts]
    tool = trainer.processing_class
    texts = [
        prompt
        if isinstance(prompt, str)
        else tool.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    return [list(tool(text, add_special_tokens=False)["input_ids"]) for text in texts]


def single_turn(
    ids: list[list[int]], completions: list[list[int]], logprobs: Any, extra: Any
) -> tuple[Any, ...]:
    """What `_generate_single_turn` of this release returns."""
    return (completions, logprobs) if TAKES_IDS else (ids, completions, logprobs, extra)


def scored(logp: Any, entropies: Any) -> tuple[Any, ...]:
    """What scoring of this release returns."""
    return (logp, entropies, None) if SCORES_AUXILIARY else (logp, entropies)


def log_column(trainer: Any, column: str, values: list[Any]) -> None:
    """A column of the completions log, in releases that can have further ones."""
    log = getattr(trainer, "_log_completion_extra", None)
    if log is not None:
        log(column, values)


@contextlib.contextmanager
def whole_model(trainer: Any) -> Any:
    """The trainer's model to roll out with: sharded parameters gathered, checkpointing paused."""
    known = inspect.signature(unwrap_model_for_generation).parameters
    options = {
        "gather_deepspeed3_params": trainer.args.ds3_gather_for_generation,
        "gradient_checkpointing_kwargs": trainer.args.gradient_checkpointing_kwargs,
    }
    options = {name: value for name, value in options.items() if name in known}
    backend = getattr(trainer, "_dist", None)
    sharded: Any = contextlib.nullcontext()
    if backend is not None:
        sharded = backend.summon_full_params(trainer.model_wrapped, recurse=False)
    elif getattr(trainer, "is_fsdp_enabled", False):
        sharded = FullyShardedDataParallel.summon_full_params(trainer.model_wrapped, recurse=False)
    with (
        unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator, **options) as model,
        sharded,
    ):
        yield model

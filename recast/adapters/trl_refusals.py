"""What the TRL adapter cannot do, each in one line, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recast.adapters.limits import why_not_trl as why_not
from recast.lm.optional_extra import LMError
from recast.strategy import Strategy

TOKEN_SUMS = ("dapo", "cispo", "vespo")
"""Loss types that divide the sum over tokens by their number in the batch."""
ROW_MEANS = ("grpo", "dr_grpo", "sapo", "luspo")
"""Loss types that take a mean over rows."""
LOSS_TYPES = (*TOKEN_SUMS, *ROW_MEANS)

FUSED = "a fused loss scores no row by itself; leave it out"
LEFT = "it would be of the rows that are left after idle ones are dropped; leave it out"
REFUSED: dict[str, str] = {
    "use_liger_kernel": FUSED,
    "use_liger_loss": FUSED,
    "entropy_coef": LEFT,
    "use_adaptive_entropy": LEFT,
    "mask_truncated_completions": (
        "an item of max_completion_length tokens counts as truncated, the ground truth too; "
        "leave it out"
    ),
    "reward_weights": "the outcome is the only reward; leave it out",
}
"""Settings of GRPOConfig that are refused where they are on."""


def refuse(
    strategy: Strategy, config: Any, divisor: str, trie: Any = None, vocabulary: Any = None
) -> None:
    """Raise LMError for what a strategy, a GRPOConfig and the adapter's own options ask for."""
    reason = why_not(strategy)
    if reason:
        raise LMError(f"the TRL adapter: {reason}")
    if (trie is None) != (vocabulary is None):
        raise LMError("trie and vocabulary: give both or neither")
    if config is None:
        raise LMError("args: expected a GRPOConfig")
    if config.loss_type not in LOSS_TYPES:
        raise LMError(f"loss_type: {config.loss_type!r}; expected one of {', '.join(LOSS_TYPES)}")
    for name, problem in REFUSED.items():
        if getattr(config, name, None):
            raise LMError(f"{name}: {problem}")
    if getattr(config, "top_entropy_quantile", 1.0) < 1.0:
        raise LMError(f"top_entropy_quantile: {LEFT}")
    if divisor == "strategy" and config.loss_type not in TOKEN_SUMS:
        raise LMError(
            f"divisor='strategy' needs loss_type {', '.join(TOKEN_SUMS[:-1])} or {TOKEN_SUMS[-1]}, "
            f"got {config.loss_type}"
        )
    reason = why_not(strategy, config.num_generations or 8)
    if reason:
        raise LMError(f"the TRL adapter: {reason}")


def refuse_given(config: Any, model: Any, given: Mapping[str, Any]) -> None:
    """Raise LMError for what the trainer's other arguments ask for."""
    for name in ("tools", "rollout_func", "environment_factory"):
        if given.get(name) is not None:
            raise LMError(f"{name}: an answer of this adapter is one item; leave it out")
    adapted = given.get("peft_config") is not None or hasattr(model, "peft_config")
    if adapted and config.sync_ref_model:
        raise LMError(
            "sync_ref_model: with LoRA the reference is the model without its adapter, and TRL has "
            "no other to synchronise; leave it out"
        )
    source = getattr(getattr(model, "config", None), "_name_or_path", model)
    if config.beta and not adapted and not source:
        raise LMError(
            "beta: TRL loads the reference from the folder that the model was loaded from, and "
            "this one was made in memory; save it and load it with from_pretrained, or set beta=0"
        )

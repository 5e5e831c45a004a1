"""TRL's GRPO formulas, run as they stand inside its trainer's methods, without a model.

TRL writes advantage and loss inside `GRPOTrainer`, so its methods are called with a stand-in for
`self` that holds just what they read. Importing this module skips where TRL is missing.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

trainer_module = pytest.importorskip(
    "trl.trainer.grpo_trainer",
    reason="TRL is not installed; `make parity` runs this in an environment that has it",
)
GRPOTrainer = trainer_module.GRPOTrainer


class _Accelerator(SimpleNamespace):
    """One process: gathering and reducing change nothing."""

    device = torch.device("cpu")
    process_index = 0
    num_processes = 1
    sync_gradients = True

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    gather_for_metrics = gather

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def _stand_in(**changes: object) -> SimpleNamespace:
    nothing = dict.fromkeys(
        (
            "environment_factories",
            "environments",
            "tools",
            "pad_to_multiple_of",
            "off_policy_mask_threshold",
        )
    )
    off = dict.fromkeys(
        (
            "use_vllm",
            "mask_truncated_completions",
            "aux_loss_enabled",
            "_entropy_bonus_enabled",
            "log_multimodal",
        ),
        False,
    )
    logs = defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list))
    state = {
        "accelerator": _Accelerator(),
        "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "args": SimpleNamespace(
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            per_device_train_batch_size=1,
            gradient_checkpointing_kwargs=None,
            delta=None,
            use_bias_correction_kl=False,
        ),
        "num_iterations": 1,
        "current_gradient_accumulation_steps": 1,
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "importance_sampling_level": "token",
        "top_entropy_quantile": 1.0,
        "loss_type": "grpo",
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "multi_objective_aggregation": "sum_then_normalize",
        "reward_weights": torch.ones(1),
        "reward_func_names": ["outcome"],
        "_metrics": {"train": defaultdict(list)},
        "_logs": logs,
        "_pending_extra_logs": {},
        "_pending_metrics": {},
    }
    return SimpleNamespace(**(nothing | off | state | changes))


def advantage(reward: Tensor, valid: Tensor, scale_rewards: str) -> Tensor:
    """TRL's advantages; `[B, G]`. An invalid rollout counts as one that no reward scored."""
    prompts, width = reward.shape
    count = prompts * width
    scored = torch.where(valid, reward, torch.nan).reshape(count, 1)
    one_token = [[1]] * count
    trainer = _stand_in(
        scale_rewards=scale_rewards,
        num_generations=width,
        _generate=lambda prompts: (one_token, one_token, None, prompts, None, {}, None, None),
        _calculate_rewards=lambda *_: scored,
    )
    inputs = [{"prompt": f"prompt {row // width}"} for row in range(count)]
    output = GRPOTrainer._generate_and_score_completions(trainer, inputs)
    return output["advantages"].reshape(prompts, width)


def loss(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    loss_type: str,
    ref_logp: Tensor | None = None,
    beta: float = 0.0,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    level: str = "token",
) -> Tensor:
    """TRL's loss of N responses of T tokens: logp, old_logp, ref_logp, mask `[N, T]`; scalar."""
    trainer = _stand_in(
        loss_type=loss_type,
        beta=beta,
        epsilon_low=clip_low,
        epsilon_high=clip_high,
        importance_sampling_level=level,
        max_completion_length=mask.shape[1],
        _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp), None),
    )
    ids = torch.ones_like(mask, dtype=torch.int64)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantage,
        "old_per_token_logps": old_logp,
        "ref_per_token_logps": ref_logp,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)

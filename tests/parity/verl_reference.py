"""verl's public functions, called on a `Ragged` batch. Importing this skips where verl lacks."""

from __future__ import annotations

from typing import Any

import pytest
from ragged import Ragged
from torch import Tensor

core_algos = pytest.importorskip(
    "verl.trainer.ppo.core_algos",
    reason="verl is not installed; `make parity` runs this in an environment that has it",
)

from verl.workers.config import ActorConfig  # noqa: E402  # once verl is known to be there


class Config(dict[str, Any]):
    """The few options that verl's functions read, as items and as attributes."""

    __getattr__ = dict.__getitem__


def advantage(estimator: str, batch: Ragged, **options: Any) -> Tensor:
    """verl's advantage of each response: its value on the first token; `[N]`."""
    per_token, _ = core_algos.get_adv_estimator_fn(estimator)(
        token_level_rewards=batch.tokens.clone(),
        response_mask=batch.mask,
        index=batch.index,
        config=Config({"gamma": 1.0} | options),
        **options,
    )
    return per_token[:, 0]


def loss(
    name: str,
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    mode: str,
    clip_c: float = 1e9,
) -> Tensor:
    """verl's policy loss of N responses of T tokens; logp, old_logp, mask `[N, T]`; scalar.

    clip_c: verl's `clip_ratio_c`, moved out of reach unless given.
    """
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=clip_low,
        clip_ratio_high=clip_high,
        clip_ratio_c=clip_c,
    )
    value, _ = core_algos.get_policy_loss_fn(name)(
        old_log_prob=old_logp,
        log_prob=logp,
        advantages=advantage.unsqueeze(-1).expand_as(logp),
        response_mask=mask,
        loss_agg_mode=mode,
        config=config,
    )
    return value

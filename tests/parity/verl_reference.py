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

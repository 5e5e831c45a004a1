"""Strategies as advantage estimators of verl.

Importing this module registers every strategy that verl's estimators can serve, as `recast.NAME`.
In a run, `VERL_USE_EXTERNAL_MODULES=recast.adapters.verl` makes verl import it in each process, and
`algorithm.adv_estimator=recast.pods` chooses one. A module of your own that calls `register` adds
compositions the same way.

An estimator sees rewards, the response mask and the groups, nothing else. What needs more, or edits
groups, is refused by `why_not`; `recast.adapters.verl_trainer` does repair and dropping. The loss
stays verl's: set its `loss_agg_mode` as docs/adapters.md says for each denominator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from recast.adapters.flat import flat_advantages
from recast.adapters.limits import why_not_estimator as why_not
from recast.adapters.trainer_imports import needed
from recast.strategies import STRATEGIES, as_strategy
from recast.strategy import Strategy

OLDEST = (0, 5)
"""The estimators' arguments are the same since this release."""

_INSTALL = "'verl>=0.5,<1'"
_verl = needed(__name__, "verl", _INSTALL)
if tuple(int(part) for part in _verl.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(
        f"recast.adapters.verl works with verl 0.5 and later, found {_verl.__version__}; install "
        f"it with: pip install {_INSTALL}"
    )
_algorithms = needed(__name__, "verl.trainer.ppo.core_algos", _INSTALL)
if not hasattr(_algorithms, "register_adv_est"):
    raise ImportError(
        f"recast.adapters.verl: verl {_verl.__version__} has no register_adv_est in its "
        f"core_algos; install a release that has it with: pip install {_INSTALL}"
    )
register_adv_est = _algorithms.register_adv_est

Estimator = Callable[..., tuple[Tensor, Tensor]]


def estimator(strategy: Strategy) -> Estimator:
    """An advantage estimator of verl that computes a strategy's advantages.

    It takes token_level_rewards `[N, T]` (summed to the outcome), response_mask `[N, T]` and index
    `[N]` (labels), and returns advantages and returns `[N, T]`, both the advantage on every token
    of a response. A response without tokens is padding: it takes no part and gets 0.
    Raises ValueError, one line, for a strategy that `why_not` refuses.
    """
    reason = why_not(strategy)
    if reason is not None:
        raise ValueError(f"strategy {strategy.text!r} cannot be an estimator of verl: {reason}")

    def estimate(
        token_level_rewards: Tensor, response_mask: Tensor, index: Any, **_: Any
    ) -> tuple[Tensor, Tensor]:
        labels = index.tolist() if hasattr(index, "tolist") else index
        outcome = token_level_rewards.sum(-1)
        found = flat_advantages(strategy, outcome, labels, response_mask.sum(-1))
        advantage = found.unsqueeze(-1) * response_mask
        return advantage, advantage

    return estimate


def register(strategy: str | Strategy, name: str) -> None:
    """Register a strategy (a name or a composition) as verl's estimator `name`.

    Raises ValueError, one line, for one that verl's estimators cannot serve, or a name that is
    taken.
    """
    chosen = as_strategy(strategy)
    register_adv_est(name)(estimator(chosen))


ESTIMATORS = tuple(name for name, strategy in STRATEGIES.items() if why_not(strategy) is None)
"""Strategies that are registered as `recast.NAME`."""

for _name in ESTIMATORS:
    register(STRATEGIES[_name], f"recast.{_name}")

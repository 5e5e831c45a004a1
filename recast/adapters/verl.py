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

import verl
from torch import Tensor

from recast.adapters.flat import flat_advantages
from recast.adapters.limits import why_not_estimator as why_not
from recast.strategies import STRATEGIES, parse_strategy
from recast.strategy import Strategy

OLDEST = (0, 5)
"""The estimators' arguments are the same since this release."""

if tuple(int(part) for part in verl.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(
        f"recast.adapters.verl works with verl 0.5 and later, found {verl.__version__}; install it "
        "with: pip install 'verl>=0.5,<1'"
    )
try:
    from verl.trainer.ppo.core_algos import register_adv_est
except ImportError as problem:
    raise ImportError(
        f"recast.adapters.verl: verl {verl.__version__} does not import beside what is installed "
        f"({problem.msg.split(' (')[0]}); install it in an environment of its own"
    ) from None

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
    chosen = parse_strategy(strategy) if isinstance(strategy, str) else strategy
    register_adv_est(name)(estimator(chosen))


ESTIMATORS = tuple(name for name, strategy in STRATEGIES.items() if why_not(strategy) is None)
"""Strategies that are registered as `recast.NAME`."""

for _name in ESTIMATORS:
    register(STRATEGIES[_name], f"recast.{_name}")

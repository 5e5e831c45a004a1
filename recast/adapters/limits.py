"""What each trainer can serve, from what a strategy's stages declare; no trainer is needed.

The adapters refuse by these functions, and pages and documents ask them, so that both say the same.
Each takes a strategy and, where it is known, the group width, and returns why the trainer cannot
serve it, in one line, or None where it can. What depends on a trainer's own configuration as well
is checked by its adapter.
"""

from __future__ import annotations

from recast.adapters.sampled import GIVEN
from recast.strategy import Strategy, missing_input

SEEN = frozenset({"length"})
"""Inputs that an estimator of verl can fill: lengths come from the response mask."""


def why_not_trl(strategy: Strategy, group: int | None = None) -> str | None:
    """Why `recast.adapters.trl.RecastGRPOTrainer` cannot serve a strategy."""
    found = _not_in_place(strategy)
    return f"{found}; use `recast lm rl`" if found else missing_input(strategy, GIVEN, group)


def why_not_verl(strategy: Strategy, group: int | None = None) -> str | None:
    """Why `recast.adapters.verl_trainer`, registered as `recast_sync`, cannot serve a strategy."""
    found = _not_in_place(strategy)
    return f"{found}; use `recast lm rl`" if found else missing_input(strategy, GIVEN, group)


def why_not_estimator(strategy: Strategy, group: int | None = None) -> str | None:
    """Why an advantage estimator of verl (`recast.adapters.verl`) cannot serve a strategy."""
    if strategy.has_gate:
        return "its gate skips prompts before they are rolled out"
    if strategy.coupling == "state":
        return "it remembers earlier batches"
    if strategy.learns_from_target:
        return "it learns from the ground truth"
    if strategy.stage("repair").stage.injects:
        return "it puts the ground truth into groups; use recast.adapters.verl_trainer"
    if strategy.oversamples or strategy.samples_again:
        return "it samples more rollouts than it keeps"
    if "score" in strategy.needs:
        return "it ranks misses by structural score; use recast.adapters.verl_trainer"
    return _own_loss(strategy) or missing_input(strategy, SEEN, group)


def _not_in_place(strategy: Strategy) -> str | None:
    """What a trainer cannot do that samples each group once, before the strategy sees it."""
    repair = strategy.stage("repair").stage
    if strategy.has_gate:
        return f"it cannot do gate={strategy.gate}: prompts are rolled out before the strategy runs"
    if repair.injects == "extra" or strategy.rounds is not None or strategy.oversamples:
        return (
            f"it cannot do repair={strategy.repair}: groups keep the width and the prompts that "
            "they were sampled with"
        )
    return _own_loss(strategy)


def _own_loss(strategy: Strategy) -> str | None:
    """Why a trainer whose loss is its own cannot serve a strategy."""
    for kind in ("anchor_ratio", "ratio", "clip"):
        if not strategy.stage(kind).stage.idle:
            return f"its loss takes {kind} from the trainer, not {kind}={getattr(strategy, kind)}"
    return None

"""Learning signals for group-based RL on sparse hits: torch in, torch out.

groups = RolloutGroups.of(reward, score=score)
signal = build_signal(STRATEGIES["recast"], groups)
"""

from typing import TYPE_CHECKING

from recast.lazy_names import lazily

if TYPE_CHECKING:
    from recast.groups import Origin, RolloutGroups, regime
    from recast.ledger import CostLedger, RunRecord
    from recast.loss import (
        LossSettings,
        Rows,
        clipped_surrogate,
        denominator,
        kl_estimate,
        pack,
        policy_loss,
        strategy_loss,
        supervised_loss,
    )
    from recast.regimes import REGIMES
    from recast.signal import Signal, build_signal
    from recast.stages.supervised import Evidence
    from recast.strategies import STRATEGIES, parse_strategy
    from recast.strategy import Strategy, require_inputs
    from recast.structure import matched_levels, structural_score
else:
    __getattr__ = lazily(
        __name__,
        {
            "groups": ("Origin", "RolloutGroups", "regime"),
            "ledger": ("CostLedger", "RunRecord"),
            "loss": (
                "LossSettings",
                "Rows",
                "clipped_surrogate",
                "denominator",
                "kl_estimate",
                "pack",
                "policy_loss",
                "strategy_loss",
                "supervised_loss",
            ),
            "regimes": ("REGIMES",),
            "strategies": ("STRATEGIES", "parse_strategy"),
            "signal": ("Signal", "build_signal"),
            "strategy": ("Strategy", "require_inputs"),
            "structure": ("matched_levels", "structural_score"),
            "stages.supervised": ("Evidence",),
        },
    )

__all__ = [
    "REGIMES",
    "STRATEGIES",
    "CostLedger",
    "Evidence",
    "LossSettings",
    "Origin",
    "RolloutGroups",
    "Rows",
    "RunRecord",
    "Signal",
    "Strategy",
    "build_signal",
    "clipped_surrogate",
    "denominator",
    "kl_estimate",
    "matched_levels",
    "pack",
    "parse_strategy",
    "policy_loss",
    "regime",
    "require_inputs",
    "strategy_loss",
    "structural_score",
    "supervised_loss",
]

"""Learning signals for group-based RL on sparse hits: torch in, torch out.

groups = RolloutGroups.of(reward, score=score)
signal = build_signal(STRATEGIES["recast"], groups)
"""

from recast.groups import REGIMES, Origin, RolloutGroups, regime
from recast.ledger import CostLedger, RunRecord
from recast.loss import clipped_surrogate, denominator, kl_estimate, policy_loss, supervised_loss
from recast.strategies import STRATEGIES, Signal, Strategy, build_signal, parse_strategy
from recast.structure import matched_levels, structural_score

__all__ = [
    "REGIMES",
    "STRATEGIES",
    "CostLedger",
    "Origin",
    "RolloutGroups",
    "RunRecord",
    "Signal",
    "Strategy",
    "build_signal",
    "clipped_surrogate",
    "denominator",
    "kl_estimate",
    "matched_levels",
    "parse_strategy",
    "policy_loss",
    "regime",
    "structural_score",
    "supervised_loss",
]

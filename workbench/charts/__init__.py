"""Charts: each a pure function from a frame to an Altair chart whose title is a question.

A strategy keeps its place, colour, dash and mark in every chart, and any two strategies differ
without colour too. The description property carries the alt text.
"""

from typing import TYPE_CHECKING

from recast.lazy_names import lazily

if TYPE_CHECKING:
    from workbench.charts.budget import (
        budget_by_target,
        budget_shares,
        learning_curves,
        performance_profiles,
        waiting_curves,
    )
    from workbench.charts.decision_accuracy import do_probabilities_hold, what_knowing_costs
    from workbench.charts.diagnose import logged_regimes, other_widths, what_if
    from workbench.charts.efficiency import update_ratio
    from workbench.charts.exact import exact_directions
    from workbench.charts.learnability import signal_counts, weights, what_width_buys
    from workbench.charts.questions import (
        against_k,
        against_rate,
        against_temperature,
        differences,
        prompt_cost,
        remaining,
    )
    from workbench.charts.real import final_scores
    from workbench.charts.regimes import regimes_by_group
    from workbench.charts.runs import parallel, run_curves
    from workbench.charts.signals import advantages, counts_over_training, sid_tree
    from workbench.charts.story import group_story, verdict_map
    from workbench.charts.strategy_style import STYLE, in_order
    from workbench.charts.style import (
        COUNTS,
        INK,
        PAPER_POINT,
        PAPER_SHARES,
        REGIME_LABELS,
        Chart,
    )
    from workbench.charts.trade_offs import pareto_front, phase_map
    from workbench.charts.training import regimes_over_training, trade_off
    from workbench.spec.metrics import METRICS
    from workbench.spec.rungs import RUNGS
else:
    __getattr__ = lazily(
        __name__,
        {
            "budget": (
                "budget_by_target",
                "budget_shares",
                "learning_curves",
                "performance_profiles",
                "waiting_curves",
            ),
            "diagnose": ("logged_regimes", "other_widths", "what_if"),
            "efficiency": ("update_ratio",),
            "exact": ("exact_directions",),
            "trade_offs": ("pareto_front", "phase_map"),
            "learnability": ("signal_counts", "weights", "what_width_buys"),
            "decision_accuracy": ("RUNGS", "do_probabilities_hold", "what_knowing_costs"),
            "training": ("regimes_over_training", "trade_off"),
            "story": ("group_story", "verdict_map"),
            "strategy_style": ("STYLE", "in_order"),
            "questions": (
                "against_k",
                "against_rate",
                "against_temperature",
                "differences",
                "prompt_cost",
                "remaining",
            ),
            "real": ("final_scores",),
            "regimes": ("regimes_by_group",),
            "runs": ("parallel", "run_curves"),
            "signals": ("advantages", "counts_over_training", "sid_tree"),
            "style": (
                "COUNTS",
                "Chart",
                "INK",
                "METRICS",
                "PAPER_POINT",
                "PAPER_SHARES",
                "REGIME_LABELS",
            ),
        },
    )

__all__ = [
    "COUNTS",
    "INK",
    "METRICS",
    "PAPER_POINT",
    "PAPER_SHARES",
    "REGIME_LABELS",
    "RUNGS",
    "STYLE",
    "Chart",
    "advantages",
    "against_k",
    "against_rate",
    "against_temperature",
    "budget_by_target",
    "budget_shares",
    "counts_over_training",
    "differences",
    "do_probabilities_hold",
    "exact_directions",
    "final_scores",
    "group_story",
    "in_order",
    "learning_curves",
    "logged_regimes",
    "other_widths",
    "parallel",
    "pareto_front",
    "performance_profiles",
    "phase_map",
    "prompt_cost",
    "regimes_by_group",
    "regimes_over_training",
    "remaining",
    "run_curves",
    "sid_tree",
    "signal_counts",
    "trade_off",
    "update_ratio",
    "verdict_map",
    "waiting_curves",
    "weights",
    "what_if",
    "what_knowing_costs",
    "what_width_buys",
]

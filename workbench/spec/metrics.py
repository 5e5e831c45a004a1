"""The metrics by name: what each is called, and which of them are asked where.

What a name means is said in `sim.evaluate` and `recast.metrics`. Imports nothing, so that commands
can offer the names without loading what measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "area": "Area: Pass@k at its best temperature, mean over k",
        "c_at_1": "C(1): Pass@1 at its best temperature",
        "c_at_32": "C(32): Pass@32 at its best temperature",
        "hr_at_10": "HR@10, beam search",
        "pass_at_1": "Pass@1, sampled at T = 1",
        "pass_at_1_matched": "Pass@1, sampled at matched entropy",
        "greedy": "Greedy hit rate",
        "hr_at_1": "HR@1, beam search",
        "hr_at_5": "HR@5, beam search",
        "recall_at_10": "Recall@10",
        "ndcg_at_10": "NDCG@10",
        "pass_at_32": "Pass@32, sampled",
        "entropy": "Policy entropy (nats)",
    }
)
"""Every metric that a table shows with an interval, and what a reader calls it."""

UNORDERED = ("entropy",)
"""Metrics of which more is not better."""

SCORES = tuple(name for name in METRICS if name not in UNORDERED)
"""The metrics on which more is better."""

TuneMetric = Literal[
    "area",
    "c_at_1",
    "c_at_32",
    "hr_at_10",
    "recall_at_10",
    "ndcg_at_10",
    "greedy",
    "pass_at_1",
    "pass_at_1_matched",
    "pass_at_32",
]
"""What a learning rate may be chosen by."""

PRIMARY = ("area", "hr_at_10", "c_at_1")
"""The metrics that comparisons are made on; all others are shown beside them."""

COMPARED = (*PRIMARY, "c_at_32")
"""What studies of the simulator compare on."""

SAMPLED = ("pass_at_1", "pass_at_32")
"""As sampled at T = 1, where a sharper policy gains in the first and loses in the second."""

LM_METRICS = (*PRIMARY, "ndcg_at_10", "hr_at_1", *SAMPLED)
"""What is measured of each test prompt of a language model, and of what predicts one."""

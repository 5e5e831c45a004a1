"""prime-rl's token exports: what a tracker would have logged of them, one row per sequence.

`token_exports/step_<n>/rank_<r>.jsonl`, a line per sequence: step, export_step, loss_mask,
advantages, rewards (or null), inference_logprobs, trainer_logprobs, entropy, mismatch_kl,
is_masked, all per token. There is neither prompt nor group, so they are read as scalars: means over
the trained tokens of each step. Source: `prime_rl/trainer/rl/token_export.py` (main).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = frozenset({"token_ids", "loss_mask", "inference_logprobs", "trainer_logprobs"})

MEANS = {"entropy": "entropy/mean", "mismatch_kl": "mismatch_kl/mean", "rewards": "reward/mean",
         "is_masked": "actor/pg_clipfrac"}  # fmt: skip
"""Columns whose mean over the trained tokens is a scalar, and its name."""


class Exports:
    """Sums over the sequences of each step."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str], tuple[float, int]] = {}

    @staticmethod
    def fits(row: Mapping[str, Any]) -> bool:
        """Whether a line is such an export."""
        return set(row) >= COLUMNS

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one sequence; what is no list of numbers is passed over."""
        step, mask = row.get("export_step", row.get("step")), row.get("loss_mask")
        if not isinstance(step, int) or isinstance(step, bool) or not isinstance(mask, list):
            return
        mine, theirs = row["trainer_logprobs"], row["inference_logprobs"]
        if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
            try:
                gap = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
            except TypeError:
                gap = []
            self._take(step, "train_rollout_logprob_abs_diff", gap, mask)
        for column, name in MEANS.items():
            self._take(step, name, row.get(column), mask)
        self._add(step, "seq_len/mean", float(sum(map(bool, mask))), 1)

    def _take(self, step: int, name: str, values: Any, mask: Sequence[Any]) -> None:
        if not isinstance(values, list) or len(values) != len(mask):
            return
        kept = [v for v, m in zip(values, mask, strict=True) if m and isinstance(v, (int, float))]
        kept = [float(v) for v in kept if math.isfinite(v)]
        self._add(step, name, sum(kept), len(kept))

    def _add(self, step: int, name: str, total: float, count: int) -> None:
        before, many = self.sums.get((step, name), (0.0, 0))
        self.sums[step, name] = before + total, many + count

    def points(self) -> list[tuple[str, int, str, float]]:
        """run, step, name and mean of each scalar."""
        return [
            ("", step, name, total / count)
            for (step, name), (total, count) in self.sums.items()
            if count
        ]


__all__ = ["COLUMNS", "Exports"]

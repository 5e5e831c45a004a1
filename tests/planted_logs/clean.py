"""Logs without a fault, and the notes that are true of them all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from planted_logs.rollouts import Rows, changed, credited, log, risen, with_column

Fault = Callable[[int], Rows]
REGIMES: Mapping[str, dict[str, Any]] = {
    "sparse": {"mean": 0.25, "spread": 0.1},
    "balanced": {"mean": 0.4, "spread": 0.2},
    "easy": {"mean": 0.7, "spread": 0.1},
    "wide": {"mean": 0.15, "spread": 0.1, "group": 32, "batch": 8},
    "narrow": {"mean": 0.5, "spread": 0.02, "group": 4},
    "same prompts": {"mean": 0.4, "spread": 0.2, "repeat": True},
    "few items": {"mean": 0.4, "spread": 0.2, "items": 5},
}


def healthy(seed: int) -> Rows:
    """A run that learns and logs all that one could wish for, all of it in order."""
    rows = risen(seed, 0.25, 0.6)
    for name, value in {
        "entropy": lambda t, rng: float(0.8 - 0.3 * t + 0.05 * rng.random()),
        "kl": lambda t, rng: float(0.001 + 0.05 * t * rng.random()),
        "tokens": lambda t, rng: int(min(1023, rng.lognormal(5 + 0.3 * t, 0.4))),
        "finish_reason": lambda _, rng: "length" if rng.random() < 0.02 else "stop",
        "logprob_diff": lambda _, rng: float(rng.exponential(0.005)),
        "clip_ratio": lambda _, rng: float(rng.exponential(0.01)),
        "staleness": lambda _, rng: int(rng.integers(0, 2)),
    }.items():
        rows = with_column(rows, name, value)
    return rows


def healthy_shaped(seed: int) -> Rows:
    """Accuracy and a format point that everyone gets, accuracy rising."""
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"accuracy": row["reward"], "reward": row["reward"] + 0.1},
    )


def healthy_ratings(seed: int) -> Rows:
    """A score between 0 and 1 that rises."""
    rng = np.random.default_rng(seed)
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"reward": float(rng.beta(2 + row["step"] / 10, 5))},
    )


def healthy_penalties(seed: int) -> Rows:
    """Never a positive reward; penalties become smaller."""
    rng = np.random.default_rng(seed)
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"reward": -float(rng.exponential(300 / row["step"]))},
    )


def labels(seed: int) -> Rows:
    """A classification: answers are one of four words."""
    words = ("cat", "dog", "bird", "fish")
    rng = np.random.default_rng(seed)
    return credited(
        [
            {
                **{name: row[name] for name in ("step", "prompt")},
                "reward": row["reward"],
                "prediction": words[0] if row["reward"] else str(rng.choice(words[1:])),
            }
            for row in log(seed, mean=0.6, spread=0.5)
        ]
    )


def group_by_step(seed: int) -> Rows:
    """G is 4 in every third step, by design."""
    return credited([row for i, row in enumerate(log(seed)) if row["step"] % 3 or i % 8 < 4])


CLEAN: Mapping[str, Fault] = {
    **{
        name: lambda seed, options=options: log(100 + seed, **options)
        for name, options in REGIMES.items()
    },
    "learns, all columns": healthy,
    "two rewards": healthy_shaped,
    "ratings": healthy_ratings,
    "penalties": healthy_penalties,
    "labels": labels,
    "G by step": group_by_step,
}

ALLOWED: Mapping[str, frozenset[str]] = {
    "ratings": frozenset({"no_raw_outcome"}),
    "penalties": frozenset({"no_raw_outcome"}),
}
"""Notes that are true of a clean log."""

"""Kinds of recommendation: how noisy a choice is, how many are made, and from which items."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecommendationTask:
    """One kind of recommendation. noise: temperature of the true preferences (higher = noisier
    targets); draws: items a user takes per prompt, repeats counted once; labelled: the prompt
    names one of `LABELS` and only items that carry it can be targets; share: of prompts in a
    mixed world."""

    noise: float
    draws: int = 1
    labelled: bool = False
    share: float = 1.0


LABELS = 8
TASKS = {
    "short_video": RecommendationTask(noise=0.3, draws=3, share=3.0),
    "ad": RecommendationTask(noise=0.25),
    "product": RecommendationTask(noise=0.2, draws=2),
    "interactive": RecommendationTask(noise=0.12),
    "label": RecommendationTask(noise=0.4, labelled=True),
}
"""Five tasks that differ in sparsity, targets per prompt and constraint, after the five
recommendation tasks of OpenOneRec; their levels are ours."""

"""Signs of trouble in one rollout, from whatever columns a trainer logs besides the reward.

Fields: repetition (share of the 4-grams of a completion that occur in it before); mismatch (mean
size of the log-prob difference between rollout engine and training per token, nats) and
mismatch_sequence (size of its sum); clipped (share of clipped ratios); lag (steps between the
weights that sampled and the step). Texts and lists are looked through in the first rollouts and in
a sample of the others, null elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

SCHEMA: Mapping[str, Any] = {
    "repetition": pl.Float32,
    "mismatch": pl.Float32,
    "mismatch_sequence": pl.Float32,
    "clipped": pl.Float32,
    "lag": pl.Float32,
}

NAMES: Mapping[str, Sequence[str]] = {
    "rollout_logps": (
        "rollout_log_probs",
        "generation_logprobs",
        "inference_logprobs",
        "sampling_logprobs",
        "rollout_logprobs",
        "sampling_per_token_logps",
        "vllm_logprobs",
    ),
    "training_logps": (
        "log_probs",
        "prev_logprobs",
        "trainer_logprobs",
        "old_log_probs",
        "training_logprobs",
        "old_per_token_logps",
    ),
    "token_mask": ("loss_mask", "token_loss_mask", "response_mask", "completion_mask"),
    "logp_gap": (
        "logprob_diff",
        "logprob_difference",
        "sampling_logp_difference",
        "rollout_probs_diff",
        "mismatch",
    ),
    "clipped": ("clip_ratio", "clip_fraction", "clipfrac", "pg_clipfrac"),
    "lag": ("staleness", "off_policy_steps", "policy_lag", "lag", "off_policyness", "version_lag"),
    "version": ("weight_version", "policy_version", "head_version", "model_version"),
}
"""Columns of each sign, in lower case."""

FIRST = 20_000
"""Rollouts that are all looked through; beyond, one of `EVERY`."""

EVERY = 16


def looked_at(height: int, before: int) -> list[int]:
    """Places in a block whose texts are looked through; before: rollouts ahead of the block."""
    return [at for at in range(height) if before + at < FIRST or (before + at) % EVERY == 0]


def repetitions(prediction: pl.Series, places: Sequence[int]) -> pl.Series:
    """`repetition` of the completions at these places; Float32, null elsewhere."""
    found: list[float | None] = [None] * len(prediction)
    for at, said in zip(places, prediction.gather(list(places)), strict=True):
        found[at] = repetition(said or "")
    return pl.Series("repetition", found, dtype=pl.Float32)


def repetition(text: str) -> float | None:
    """Share of the 4-grams of words that occurred before; None of fewer than 20 words."""
    words = text.split(maxsplit=1000)[:1000]
    if len(words) < 20:
        return None
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams)


def gaps(
    rollout: pl.Series, training: pl.Series, mask: pl.Series | None, places: Sequence[int]
) -> tuple[pl.Series, pl.Series]:
    """`mismatch` and `mismatch_sequence` of lists of log-probs (or JSON text of them)."""
    mean: list[float | None] = [None] * len(rollout)
    whole: list[float | None] = [None] * len(rollout)
    for at in places:
        one, other = _flat(rollout[at]), _flat(training[at])
        if not one or len(one) != len(other):
            continue
        use = _flat(mask[at]) if mask is not None else []
        use = use if len(use) == len(one) else [1.0] * len(one)
        apart = [a - b for a, b, m in zip(one, other, use, strict=True) if m]
        apart = [gap for gap in apart if math.isfinite(gap)]
        if apart:
            mean[at], whole[at] = sum(map(abs, apart)) / len(apart), abs(sum(apart))
    return pl.Series(mean, dtype=pl.Float32), pl.Series(whole, dtype=pl.Float32)


def _flat(values: Any) -> list[float]:
    """A list of numbers, also as JSON text or wrapped in another list; empty for all else."""
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except (ValueError, RecursionError):
            return []
    if isinstance(values, pl.Series):
        values = values.to_list()
    if isinstance(values, list) and len(values) == 1 and isinstance(values[0], (list, pl.Series)):
        values = list(values[0])
    if not isinstance(values, list):
        return []
    good = all(isinstance(one, (int, float)) for one in values)
    return [float(one) for one in values] if good else []


def lags(lag: pl.Series, version: pl.Series, step: pl.Series) -> pl.Series:
    """`lag` as logged, or the step less the version of the weights that sampled."""
    behind = step - version
    usable = ((behind >= 0) & (behind < 2**20)).fill_null(False)
    return lag.clip(0, None).fill_null(behind.set(~usable, None)).cast(pl.Float32)

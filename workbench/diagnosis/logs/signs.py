"""Signs of trouble in one rollout, from whatever columns a trainer logs besides the reward.

Fields: truncated (cut off by the length limit); chars (of the completion); repetition (share of its
4-grams that occur in it before, of every rollout at first, later of a sample); mismatch (mean size
of the log-prob difference between rollout engine and training per token, nats) and
mismatch_sequence (size of its sum); clipped (share of clipped ratios); lag (steps between the
weights that sampled and the step).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

SCHEMA: Mapping[str, Any] = {
    "truncated": pl.Boolean,
    "chars": pl.Int32,
    "repetition": pl.Float32,
    "mismatch": pl.Float32,
    "mismatch_sequence": pl.Float32,
    "clipped": pl.Float32,
    "lag": pl.Float32,
}

TRUNCATED = ("is_truncated", "truncated", "is_clipped", "length_clipped", "overlong")
FINISH = ("finish_reason", "stop_reason", "stop_condition", "status", "finish_reasons")
CUT = {"length", "max_length", "max_tokens", "truncated", "max_new_tokens", "context_length",
       "max_total_tokens", "max_turns", "prompt_too_long"}  # fmt: skip
ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed", "complete", "done",
         "tool_calls", "finished"}  # fmt: skip
ROLLOUT = ("rollout_log_probs", "generation_logprobs", "inference_logprobs", "sampling_logprobs",
           "rollout_logprobs", "sampling_per_token_logps", "vllm_logprobs")  # fmt: skip
TRAINING = ("log_probs", "prev_logprobs", "trainer_logprobs", "old_log_probs", "training_logprobs",
            "old_per_token_logps")  # fmt: skip
DIFFERENCE = ("logprob_diff", "logprob_difference", "sampling_logp_difference",
              "rollout_probs_diff", "mismatch")  # fmt: skip
CLIPPED = ("clip_ratio", "clip_fraction", "clipfrac", "pg_clipfrac", "clipped_ratio")
LAG = ("staleness", "off_policy_steps", "policy_lag", "lag", "off_policyness", "version_lag")
VERSION = ("weight_version", "policy_version", "head_version", "model_version", "policy_step")
MASK = ("loss_mask", "token_loss_mask", "response_mask", "completion_mask")
_NAMES = (TRUNCATED, FINISH, ROLLOUT, TRAINING, MASK, DIFFERENCE, CLIPPED, LAG, VERSION)
EVERY = 20_000
"""Rollouts whose text is looked through; beyond, one of sixteen."""


@dataclass(frozen=True)
class Signs:
    """Which columns of a row hold signs; each name is "" where none does."""

    truncated: str = ""
    finish: str = ""
    rollout: str = ""
    training: str = ""
    mask: str = ""
    difference: str = ""
    clipped: str = ""
    lag: str = ""
    version: str = ""

    @classmethod
    def of(cls, columns: Iterable[str]) -> Signs:
        """Find them among the columns of a row."""
        named = {name.lower(): name for name in columns}
        found = (next((named[n] for n in names if n in named), "") for names in _NAMES)
        return cls(*found)

    def read(
        self, row: Mapping[str, Any], prediction: str | None, step: int, place: int
    ) -> tuple[Any, ...]:
        """The fields of `SCHEMA`, in its order, None where the row does not say. place: the number
        of the rollout in the log."""
        look = prediction is not None and (place < EVERY or place % 16 == 0)
        gap, whole = self._mismatch(row)
        return (
            self._truncated(row, prediction),
            None if prediction is None else min(len(prediction), 2**31 - 1),
            repetition(prediction or "") if look else None,
            gap,
            whole,
            _share(row.get(self.clipped)) if self.clipped else None,
            self._lag(row, step),
        )

    def _truncated(self, row: Mapping[str, Any], prediction: str | None) -> bool | None:
        said = row.get(self.truncated) if self.truncated else None
        if isinstance(said, (bool, int, float)) and said in (0, 1):
            return bool(said)
        if isinstance(said, str) and said.lower() in ("true", "false"):
            return said.lower() == "true"
        why = row.get(self.finish) if self.finish else None
        if isinstance(why, list) and why:
            why = why[-1]
        if isinstance(why, str):
            word = why.lower().rsplit(".", 1)[-1]
            if word in CUT or word in ENDED:
                return word in CUT
        if prediction is not None and prediction.startswith("<think>"):
            return "</think>" not in prediction
        return None

    def _mismatch(self, row: Mapping[str, Any]) -> tuple[float | None, float | None]:
        if self.rollout and self.training:
            one, other = _flat(row.get(self.rollout)), _flat(row.get(self.training))
            use = _flat(row.get(self.mask)) if self.mask else []
            if one and len(one) == len(other):
                use = use if len(use) == len(one) else [1] * len(one)
                return _gap(one, other, use)
        said = row.get(self.difference) if self.difference else None
        if isinstance(said, (int, float)) and math.isfinite(said):
            return abs(float(said)), None
        return None, None

    def _lag(self, row: Mapping[str, Any], step: int) -> float | None:
        said = row.get(self.lag) if self.lag else None
        if isinstance(said, (int, float)) and math.isfinite(said):
            return max(0.0, float(said))
        version = row.get(self.version) if self.version else None
        if isinstance(version, (int, float)) and 0 <= step - version < 2**20:
            return float(step - version)
        return None


def _flat(values: Any) -> list[Any]:
    """A list of numbers, also one that is wrapped in another list."""
    if isinstance(values, list) and values and isinstance(values[0], list):
        values = values[0]
    return values if isinstance(values, list) else []


def _gap(
    one: Sequence[Any], other: Sequence[Any], use: Sequence[Any]
) -> tuple[float | None, float | None]:
    try:
        gaps = [float(a) - float(b) for a, b, m in zip(one, other, use, strict=True) if m]
    except (TypeError, ValueError):
        return None, None
    gaps = [gap for gap in gaps if math.isfinite(gap)]
    if not gaps:
        return None, None
    return sum(map(abs, gaps)) / len(gaps), abs(sum(gaps))


def _share(value: Any) -> float | None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if ok else None


def repetition(text: str) -> float | None:
    """Share of the 4-grams of words that occurred before; None of fewer than 20 words."""
    words = text.split()[:2000]
    if len(words) < 20:
        return None
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams)

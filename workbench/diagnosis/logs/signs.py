"""Signs of trouble in rollouts, from whatever columns a trainer logs besides the reward.

truncated (cut off by the length limit); chars (of the completion); words (of every rollout at
first, later of a sample); open (it ends in the
middle of a sentence; null for short ones); repetition (share of its 4-grams that occur in it
before, of every rollout at first, later of a sample); mismatch (mean size of the log-prob
difference between rollout engine and training per token, nats) and mismatch_sequence (size of its
sum); clipped (share of clipped ratios); lag (steps between the weights that sampled and the
step).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from workbench.diagnosis.logs.column_values import VERDICTS, numbers, texts

SCHEMA: Mapping[str, Any] = {
    "truncated": pl.Boolean,
    "chars": pl.Int32,
    "words": pl.Int32,
    "open": pl.Boolean,
    "repetition": pl.Float32,
    "mismatch": pl.Float32,
    "mismatch_sequence": pl.Float32,
    "clipped": pl.Float32,
    "lag": pl.Float32,
}

TRUNCATED = ("is_truncated", "truncated", "is_clipped", "length_clipped")
FINISH = ("finish_reason", "stop_reason", "stop_condition", "status", "finish_reasons")
CUT = ("length", "max_length", "max_tokens", "truncated", "max_new_tokens", "context_length",
       "max_total_tokens", "max_turns", "max_turns_exceeded", "max_prompt_length_exceeded",
       "max_response_length_exceeded", "prompt_too_long", "max_input_tokens", "max_output_tokens",
       "compaction_failed")  # fmt: skip
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed", "complete", "done",
         "env_done", "tool_calls", "finished")  # fmt: skip
JUDGED = VERDICTS.keys() - {"true", "false", "yes", "no"}
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
NAMES: Mapping[str, tuple[str, ...]] = {
    "truncated": TRUNCATED + FINISH,
    "mismatch": DIFFERENCE,
    "mismatch_sequence": ("mismatch_sequence",),
    "clipped": CLIPPED,
    "lag": LAG,
    "version": VERSION,
}
"""Columns of numbers or words that hold signs; lists per token go through `compact` first."""

SENTENCE = 60
"""Bytes below which a text may well end in a word."""

EVERY, THEN = 8_000, 32
"""Rollouts whose text is looked through; beyond, one of so many."""

WORDS_THEN = 8
"""As `THEN`, of those whose words are counted."""


def signs(
    found: Mapping[str, Sequence[pl.Series]], prediction: pl.Series, step: pl.Series, first: int
) -> dict[str, pl.Series]:
    """The fields of `SCHEMA` for a block of rows. found: for each of `NAMES` the columns that are
    there; first: the number of the first row in the log."""

    def number(name: str) -> pl.Series:
        columns = [numbers(one) for one in found.get(name, ())]
        return columns[0] if columns else _nothing(prediction)

    lag, version = number("lag"), number("version")
    behind = step - version
    behind = behind.set(~((behind >= 0) & (behind < 2**20)).fill_null(False), None)
    clipped = number("clipped")
    prediction = _plain(prediction)
    return {
        "truncated": _truncated(found.get("truncated", ()), prediction),
        "chars": prediction.str.len_chars(),
        "words": _words(prediction, first),
        "open": _open(prediction),
        "repetition": _repetitions(prediction, first),
        "mismatch": number("mismatch").abs(),
        "mismatch_sequence": number("mismatch_sequence").abs(),
        "clipped": clipped.set(~clipped.is_between(0, 1).fill_null(False), None),
        "lag": lag.clip(0).fill_null(behind),
    }


def compact(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose lists of log-probs per token became mismatch and mismatch_sequence."""
    named = {name.lower(): name for name in row}
    one = next((_flat(row[named[n]]) for n in ROLLOUT if n in named), [])
    other = next((_flat(row[named[n]]) for n in TRAINING if n in named), [])
    mask = next((_flat(row[named[n]]) for n in MASK if n in named), [])
    heavy = {named[n] for n in (*ROLLOUT, *TRAINING, *MASK) if n in named}
    kept = {name: value for name, value in row.items() if name not in heavy}
    if one and len(one) == len(other):
        use = mask if len(mask) == len(one) else [1] * len(one)
        mean, whole = _gap(one, other, use)
        kept |= {"mismatch": mean, "mismatch_sequence": whole}
    return kept


def has_tokens(row: Mapping[str, Any]) -> bool:
    """Whether a row holds log-probs of two engines per token."""
    names = {name.lower() for name, value in row.items() if isinstance(value, list)}
    return bool(names & set(ROLLOUT)) and bool(names & set(TRAINING))


def _nothing(like: pl.Series) -> pl.Series:
    return pl.Series([None] * len(like), dtype=pl.Float64)


def _truncated(columns: Sequence[pl.Series], prediction: pl.Series) -> pl.Series:
    found = pl.Series([None] * len(prediction), dtype=pl.Boolean)
    for column in columns:
        flag = numbers(column)
        word = texts(column).str.strip_chars(" \"'[]").str.to_lowercase()
        # `success` and the like judge the rollout, or the call that made it.
        other = ~flag.is_in([0.0, 1.0]) | word.is_in(list(JUDGED))
        flag = flag.set(other.fill_null(True), None).cast(pl.Boolean)
        word = word.str.extract(r"([a-z_]+)$")
        said = word.is_in(list(CUT))
        known = (said | word.is_in(list(ENDED))).fill_null(False)
        found = found.fill_null(flag).fill_null(said.set(~known, None))
    thinks = prediction.str.starts_with("<think>").fill_null(False)
    if not thinks.any():
        return found
    goes_on = ~prediction.str.contains("</think>", literal=True)
    # Thoughts that end like an answer were not cut: the tag was never written.
    ended = goes_on & ~_open(prediction).fill_null(True)
    return found.fill_null(goes_on.set(~thinks | ended.fill_null(False), None))


def _plain(prediction: pl.Series) -> pl.Series:
    """Texts; of a conversation as JSON what its last message says."""
    chat = prediction.str.starts_with("[{").fill_null(False)
    if not chat.any():
        return prediction
    said = prediction.str.extract(r'(?s).*"content": ?"((?:[^"\\]|\\.)*)"')
    return prediction.zip_with(~(chat & said.is_not_null()), said)


def _words(prediction: pl.Series, first: int) -> pl.Series:
    """Words, counted by what stands between them."""
    place = np.arange(first, first + len(prediction), dtype=np.uint64)
    # One of so many without a rhythm: rollouts of a group stand at equal distances.
    chosen = (place < EVERY) | ((place * np.uint64(2654435761) >> np.uint64(16)) % WORDS_THEN == 0)
    counted = prediction.filter(pl.Series(chosen)).str.count_matches("[ \n]") + 1
    words = np.zeros(len(prediction), np.int64)
    words[chosen] = counted.fill_null(0).to_numpy()
    return pl.Series(words).set(pl.Series(~chosen) | prediction.is_null(), None)


def _open(prediction: pl.Series) -> pl.Series:
    """Whether the last character can end no answer: a letter, a comma, an operator."""
    end = prediction.str.slice(-8).str.strip_chars_end()
    said = end.str.contains(r"[\p{L},;:(\[{+\-=/\\&]$")
    return said.set(prediction.str.len_bytes().fill_null(0) < SENTENCE, None)


def _repetitions(prediction: pl.Series, first: int) -> pl.Series:
    place = np.arange(first, first + len(prediction))
    chosen = np.flatnonzero((place < EVERY) | (place % THEN == 0))
    said = [repetition(text) if text is not None else None for text in prediction[chosen]]
    none = pl.Series([None], dtype=pl.Float32).new_from_index(0, len(prediction))
    return none.scatter(chosen, pl.Series(said, dtype=pl.Float32)) if said else none


def repetition(text: str) -> float | None:
    """Share of the 4-grams of words that occurred before; None of fewer than 20 words."""
    words = text[:40_000].split()[:2000]
    if len(words) < 20:
        return None
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams)


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


__all__ = ["NAMES", "SCHEMA", "compact", "has_tokens", "repetition", "signs"]

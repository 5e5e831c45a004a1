"""slime's and miles' dumps: `<rollout_id>.pt` of `--save-debug-rollout-data` and
`--save-debug-train-data`, and miles' `trajectories/rollout_<id>.jsonl.gz`.

{"rollout_id", "samples": [group_index, index, prompt, response, response_length, label, reward,
status, rollout_log_probs, weight_versions, metadata, ...]}. Opened with torch's weights_only, so a
file that holds more than tensors and plain values is refused. A reward may be a dict, of which
`reward`, `score` or `acc` is read.

Data of training have no text: samples (format_version 2), or a file per rank with columns
(rollout_data), of tokens, response_lengths, rewards (normalised by then), raw_reward of the whole
batch, advantages, log_probs and rollout_log_probs per token. Beside the rollouts (`train_data/`
and `rollout_data/` of --dump-details) they are joined with them. Samples whose tokens before the
response are the same are one group. Source: `slime/ray/rollout.py`, `slime/utils/types.py`,
`slime/observability/train_data_utils.py`, miles `rollout.py` (main).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow

JOINED = ("advantage", "log_probs", "rollout_log_probs", "loss_mask")
"""What data of training say of a sample beyond its rollout."""


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per sample of a rollout; lines of samples are rows already."""
    trained = [row for _, row in _trained(record)]
    if trained:
        yield from trained
        return
    samples = record.get("samples")
    for sample in samples if isinstance(samples, list) else [record]:
        if not isinstance(sample, dict):
            continue
        row = {"rollout_id": record.get("rollout_id"), **sample}
        reward = row.get("reward")
        if isinstance(reward, dict):
            numbers = {k: v for k, v in reward.items() if isinstance(v, (bool, int, float))}
            first = next((k for k in ("reward", "score", "acc") if k in numbers), None)
            row |= {name: v for name, v in numbers.items() if name not in row}
            row["reward"] = numbers[first] if first else next(iter(numbers.values()), None)
        logprobs = row.get("rollout_log_probs")
        if isinstance(logprobs, list):
            known = [v for v in logprobs if isinstance(v, (int, float))]
            row["logp"] = sum(known) if known else None
        row.pop("tokens", None)
        versions = row.get("weight_versions")
        if isinstance(versions, list) and versions and str(versions[0]).isdecimal():
            row["weight_version"] = int(versions[0])
        yield row


def join(record: LogRow, trained: Sequence[LogRow]) -> bool:
    """Put what training made of a dump's samples into them: their advantages and log-probs. False
    where these records of training are of other samples, by their places and lengths."""
    samples = record.get("samples")
    rows = {at: row for one in trained for at, row in _trained(one)}
    if not isinstance(samples, list) or not rows or max(rows) >= len(samples):
        return False
    pairs = [(samples[at], row) for at, row in rows.items() if at >= 0]
    if len(pairs) < len(rows) or not all(
        isinstance(sample, dict) and sample.get("response_length") == row["response_length"]
        for sample, row in pairs
    ):
        return False
    for sample, row in pairs:
        sample |= {name: row[name] for name in JOINED if row[name] is not None}
    return True


def _trained(record: LogRow) -> Iterator[tuple[int, LogRow]]:
    """The samples of data of training with their places among the rollouts, -1 where nobody says;
    nothing where the record is of rollouts."""
    samples, columns = record.get("samples"), record.get("rollout_data")
    if isinstance(columns, dict):
        many = len(columns.get("response_lengths") or ())
        lists = {k: v for k, v in columns.items() if isinstance(v, list) and len(v) == many}
        samples = [{name: value[place] for name, value in lists.items()} for place in range(many)]
    samples = samples if isinstance(samples, list) else []
    whole = (columns if isinstance(columns, dict) else record).get("raw_reward")
    whole = whole if isinstance(whole, list) else []
    for place, sample in enumerate(samples):
        if not isinstance(sample, dict) or "response_lengths" not in sample:
            return
        at = sample.get("partition", sample.get("rollout_position"))
        at = place if at is None and len(whole) == len(samples) else at
        raw = whole[at] if isinstance(at, int) and at < len(whole) else None
        row = _sample_of_training(record, sample, sample.get("local_raw_reward", raw))
        yield at if isinstance(at, int) else -1, row


def _sample_of_training(record: LogRow, sample: LogRow, raw: Any) -> LogRow:
    tokens, many = sample.get("tokens"), int(sample["response_lengths"])
    tokens = tokens if isinstance(tokens, list) else []
    first = len(tokens) - many
    advantages = sample.get("advantages")
    return {
        "rollout_id": record.get("rollout_id"),
        "prompt": json.dumps(tokens[:first]) if first > 0 else None,
        "response": json.dumps(tokens[first:]) if first > 0 else None,
        "response_length": many,
        "reward": raw if raw is not None else sample.get("rewards"),
        "advantage": advantages[0] if isinstance(advantages, list) and advantages else None,
        "status": "truncated" if sample.get("truncated") else "completed",
        "log_probs": sample.get("log_probs"),
        "rollout_log_probs": sample.get("rollout_log_probs"),
        "loss_mask": sample.get("loss_masks"),
    }


FORMAT = LogFormat(
    name="slime",
    names={
        "step": ("rollout_id",),
        "prompt": ("prompt",),
        "group": ("group_index",),
        "prediction": ("response",),
        "target": ("label",),
        "reward": ("reward", "final_reward"),
        "logp": ("logp",),
        "advantage": ("advantage",),
        "tokens": ("response_length",),
        "truncated": ("status",),
    },
    typical=(
        frozenset({"rollout_id", "samples"}),
        frozenset({"rollout_id", "rollout_data"}),
        frozenset({"group_index", "response", "reward"}),
    ),
    step_of_file=r"(?:^|[/_])(\d+)(?:_\d+)?\.(?:pt|jsonl)$",
    unpack=unpack,
    versions="slime and miles main",
)

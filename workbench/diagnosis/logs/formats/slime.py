"""slime's and miles' dumps: `<rollout_id>.pt` of `--save-debug-rollout-data` and
`--save-debug-train-data`, and miles' `trajectories/rollout_<id>.jsonl.gz`.

{"rollout_id", "samples": [group_index, index, prompt, response, response_length, label, reward,
status, rollout_log_probs, weight_versions, metadata, ...]}. Opened with torch's weights_only, so a
file that holds more than tensors and plain values is refused. A reward may be a dict, of which
`reward`, `score` or `acc` is read.

Data of training have no text: samples (format_version 2), or a file per rank with columns
(rollout_data), of tokens, response_lengths, rewards (normalised by then), raw_reward of the whole
batch, advantages, log_probs and rollout_log_probs per token. Samples whose tokens before the
response are the same are one group. Source: `slime/ray/rollout.py`, `slime/utils/types.py`,
`slime/observability/train_data_utils.py`, miles `rollout.py` (main).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per sample of a rollout; lines of samples are rows already."""
    trained = list(_trained(record))
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


def _trained(record: LogRow) -> Iterator[LogRow]:
    """The samples of data of training; nothing where the record is of rollouts."""
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
        yield _sample_of_training(record, sample, sample.get("local_raw_reward", raw))


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

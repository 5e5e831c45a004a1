"""slime's and miles' `--save-debug-rollout-data`: `<rollout_id>.pt`.

{"rollout_id", "samples": [group_index, index, prompt, response, response_length, label, reward,
status, rollout_log_probs, weight_versions, metadata, ...]}. Opened with torch's weights_only, so a
file that holds more than tensors and plain values is refused. A reward may be a dict, of which
`reward`, `score` or `acc` is read. Source: `slime/ray/rollout.py`, `slime/utils/types.py` (main).
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per sample of a rollout; lines of samples are rows already."""
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
        "tokens": ("response_length",),
        "truncated": ("status",),
    },
    typical=(
        frozenset({"rollout_id", "samples"}),
        frozenset({"group_index", "response", "reward"}),
    ),
    step_of_file=r"(\d+)\.pt$",
    unpack=unpack,
    versions="slime and miles main",
)

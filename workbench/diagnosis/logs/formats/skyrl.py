"""SkyRL's dumped evaluations: `<data source>.jsonl` of one step.

input_prompt, output_response, score (a number, or one per token), stop_reason, env_class,
env_extras, data_source. Source: `skyrl/train/utils/trainer_utils.py` (0.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """The row, with the score of a rollout and the target that its environment knows."""
    row = dict(record)
    score = row.get("score")
    if isinstance(score, list):
        known = [one for one in score if isinstance(one, (int, float))]
        row["score"] = sum(known) if known else None
    row["target"] = _target(row.pop("env_extras", None))
    yield row


def _target(extras: Any) -> Any:
    model = (
        extras.get("reward_spec") or extras.get("reward_model")
        if isinstance(extras, dict)
        else None
    )
    return model.get("ground_truth") if isinstance(model, dict) else None


FORMAT = LogFormat(
    name="skyrl",
    names={
        "step": ("step", "global_step"),
        "prompt": ("input_prompt",),
        "prediction": ("output_response",),
        "target": ("target",),
        "reward": ("score",),
        "task": ("data_source",),
        "truncated": ("stop_reason",),
        "split": ("split",),
    },
    typical=(frozenset({"input_prompt", "output_response", "score"}),),
    step_of_file=r"(?:global_)?step_?(\d+)",
    unpack=unpack,
    versions="SkyRL 0.3",
)

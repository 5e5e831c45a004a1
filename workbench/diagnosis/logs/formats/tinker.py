"""tinker-cookbook's iteration_<n>/train_rollout_summaries.jsonl: one line per trajectory.

split, iteration, group_idx, traj_idx, tags, total_reward, final_reward, trajectory_metrics, steps
(ob_len, ac_len, reward, metrics). There is no text; metrics of the last step such as `correct` and
`format` are read as the outcome and the format. Source: `tinker_cookbook/rl/rollout_logging.py`
(0.6.1).
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.diagnosis.logs.column_names import OUTCOMES
from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """The row, with the metrics of the trajectory and of its last step beside it."""
    steps = [one for one in record.get("steps") or [] if isinstance(one, dict)]
    row = {name: value for name, value in record.items() if name != "steps"}
    metrics = record.get("trajectory_metrics")
    last = steps[-1].get("metrics") if steps else None
    for found in (metrics, last):
        if isinstance(found, dict):
            kept = ("format", "truncated", *OUTCOMES)
            row |= {name: found[name] for name in kept if name in found}
    tags = record.get("tags")
    row["task"] = tags[0] if isinstance(tags, list) and tags else None
    lengths = [one.get("ac_len") for one in steps]
    known = [one for one in lengths if isinstance(one, (int, float))]
    row["tokens"] = sum(known) if known else None
    yield row


FORMAT = LogFormat(
    name="tinker",
    names={
        "step": ("iteration",),
        "group": ("group_idx",),
        "reward": ("total_reward", "final_reward"),
        "task": ("task",),
        "tokens": ("tokens",),
        "format": ("format",),
        "truncated": ("truncated",),
        "split": ("split",),
    },
    typical=(frozenset({"group_idx", "traj_idx", "total_reward"}),),
    step_of_file=r"iteration_(\d+)/",
    unpack=unpack,
    versions="tinker-cookbook 0.6.1",
)

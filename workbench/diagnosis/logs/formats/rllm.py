"""rLLM's episodes: one JSON document per episode in `train_step_<n>_epoch_<m>/`.

training_step, episode_id, task, task_hash, is_correct, termination_reason, trajectories with name,
uid, reward and steps. The episodes of one task in one step are a group; an episode with several
trajectories (agents) has a group for each name. Source: `rllm/utils/episode_logger.py` (main).
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.diagnosis.logs.layout import LogFormat, LogRow


def unpack(record: LogRow) -> Iterator[LogRow]:
    """One row per trajectory."""
    for trajectory in record.get("trajectories") or []:
        if not isinstance(trajectory, dict):
            continue
        steps = [one for one in trajectory.get("steps") or [] if isinstance(one, dict)]
        name = str(trajectory.get("name") or "")
        yield {
            "training_step": record.get("training_step"),
            "group": f"{record.get('task_hash')}:{name}",
            "prompt": record.get("task"),
            "response": steps[-1].get("model_response") if steps else None,
            "reward": trajectory.get("reward"),
            "is_correct": record.get("is_correct"),
            "name": name,
            "termination_reason": record.get("termination_reason"),
        }


FORMAT = LogFormat(
    name="rllm",
    names={
        "step": ("training_step",),
        "prompt": ("prompt",),
        "group": ("group",),
        "prediction": ("response",),
        "reward": ("reward",),
        "task": ("name",),
        "truncated": ("termination_reason",),
    },
    typical=(frozenset({"task_hash", "trajectories"}),),
    step_of_file=r"step_(\d+)",
    unpack=unpack,
    versions="rLLM main",
)

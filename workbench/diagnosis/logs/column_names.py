"""Names of columns that mean the same in every trainer's log."""

from __future__ import annotations

OUTCOMES = (
    "raw_outcome",
    "raw_reward",
    "outcome",
    "acc",
    "accuracy",
    "accuracy_reward",
    "accuracyreward",
    "correct",
    "is_correct",
    "correctness",
    "correctness_reward",
    "hit",
    "pass_at_1",
    "hit_reward",
    "exact_match",
    "exact_match_reward",
    "em",
    "solved",
    "success",
    "pass",
)
"""Columns that hold a raw outcome, in order of preference."""

NO_PROMPT = "no prompt: expected a column such as prompt, prompt_id or input"
FORMATS = ("format", "format_reward", "format_ok", "well_formed", "strict_format_reward")
SPLITS = ("split", "data_split", "dataset_split", "mode", "phase", "is_eval", "is_validate",
          "is_validation", "evaluation")  # fmt: skip
STAGES = ("stage", "type", "kind", "event")
"""Columns that say many things, also that a row is an evaluation's."""
IMAGES = ("image", "images", "image_path", "image_paths", "image_id", "image_url", "img")
TURNS = ("turn", "turn_idx", "turn_id", "turn_index")
ROLLOUTS = ("rollout_id", "rollout_idx", "rollout_index", "trajectory_id", "traj_id", "traj_idx",
            "traj_uid", "trajectory_uid", "trajectory_idx", "episode_idx", "rollout_uid",
            "episode_id", "session_id", "sample_id", "sample_idx")  # fmt: skip
TASKS = ("problem_id", "problem_idx", "question_id", "task_id", "task_idx", "example_id",
         "example_idx", "instance_id", "scenario_id", "user_id")  # fmt: skip
"""Ids of what was asked: they stand for the prompt where nothing else does, or where prompts differ
between the rollouts of a group."""

EVALUATION = ("eval", "evaluation", "val", "valid", "validation", "test", "dev", "true", "1")
NO_REWARD = ("completion_length", "num_tokens", "length", "index", "idx", "id", "epoch", "seed")

__all__ = ["EVALUATION", "FORMATS", "IMAGES", "NO_PROMPT", "NO_REWARD", "OUTCOMES", "ROLLOUTS",
           "SPLITS", "STAGES", "TASKS", "TURNS"]  # fmt: skip

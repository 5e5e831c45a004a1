"""Logs with one planted fault each, and what a fault may rightly bring along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from planted_logs.policy_faults import (
    all_at_the_limit,
    answers_grow,
    answers_loop,
    answers_shrink,
    cut_at_one_length,
    cut_by_finish_reason,
    engines_differ,
    entropy_explodes,
    entropy_goes,
    entropy_is_going,
    falls_at_the_end,
    kl_explodes,
    queue_too_long,
    ratios_clipped,
    reward_is_hacked,
    stands_still,
    weights_never_synced,
)
from planted_logs.reward_faults import (
    advantages_are_all_zero,
    advantages_with_the_wrong_sign,
    divided_by_nothing,
    one_function_never_pays,
    one_task_hardly_hits,
    rewards_in_another_order,
    rewards_that_are_no_number,
)
from planted_logs.rollouts import LONG, Rows, changed, credited, groups_of, log, semantic_id

Fault = Callable[[int], Rows]


def constant_reward(seed: int) -> Rows:
    return changed(log(seed), lambda row: {"reward": 0.25, "advantage": 0.0})


def format_guard_by_its_column(seed: int) -> Rows:
    rng = np.random.default_rng(seed)

    def judge(row: dict[str, Any]) -> dict[str, Any]:
        ok = rng.random() < 0.03
        return {"format_reward": float(ok), "reward": row["reward"] * ok, "advantage": 0.0}

    return changed(log(seed), judge)


def format_guard_by_the_answers(seed: int) -> Rows:
    rng = np.random.default_rng(seed)

    def judge(row: dict[str, Any]) -> dict[str, Any]:
        if rng.random() < 0.05:
            return {}
        return {"prediction": f"I recommend {row['prediction'][:5]}", "reward": 0.0}

    return changed(log(seed), judge)


def format_guard_on_hits(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(
        log(seed),
        lambda row: {"outcome": row["reward"], "reward": row["reward"] * (rng.random() < 0.2)},
    )


def shaped_hides(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(
        log(seed, mean=0.1),
        lambda row: {"outcome": row["reward"], "reward": row["reward"] + 0.1 * rng.random()},
    )


def no_raw_outcome(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(log(seed), lambda _: {"reward": float(rng.random())})


def kl_on_dead_groups(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(log(seed, mean=0.08), lambda _: {"kl": float(rng.exponential(0.05))})


def group_of_one(seed: int) -> Rows:
    return log(seed, group=1, batch=64)


def ids_per_rollout(seed: int) -> Rows:
    return [{**row, "group": place, "advantage": 0.0} for place, row in enumerate(log(seed))]


def groups_split(seed: int) -> Rows:
    rows = log(seed)
    for place, row in enumerate(rows):
        if place % 8 >= 5 and row["step"] % 2:
            row["prompt"] += " (second worker)"
    return rows


def groups_merged(seed: int) -> Rows:
    """Prompts of one text; the trainer compared them as one group."""
    return credited(
        [
            {**row, "prompt": row["prompt"][:-1]} if row["prompt"].endswith(("1", "2")) else row
            for row in log(seed)
        ]
    )


def targets_mixed(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(log(seed), lambda row: {"target": semantic_id(int(rng.integers(200)))})


def advantages_shuffled(seed: int) -> Rows:
    rows = log(seed, mean=0.2)
    order = np.random.default_rng(seed).permutation(len(rows))
    advantages = [row["advantage"] for row in rows]
    return [{**row, "advantage": advantages[order[i]]} for i, row in enumerate(rows)]


def prompts_interleaved(seed: int) -> Rows:
    """Rows in the order P1 P2 P1 P2, advantages over every G in a row."""
    rows = log(seed)
    made: Rows = []
    for step in sorted({row["step"] for row in rows}):
        mine = groups_of([row for row in rows if row["step"] == step])
        flat = [group[place] for place in range(8) for group in mine]
        for start in range(0, len(flat), 8):
            cut = flat[start : start + 8]
            rewards = np.array([row["reward"] for row in cut])
            value = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
            made += [{**row, "advantage": float(a)} for row, a in zip(cut, value, strict=True)]
    return made


def rejected_rows_in_the_mean(seed: int) -> Rows:
    """Half of the groups were normalised with rows that were dropped before they were logged."""
    rng = np.random.default_rng(seed)
    made: Rows = []
    for place, mine in enumerate(groups_of(log(seed, group=8))):
        rewards = np.array([row["reward"] for row in mine])
        more = rng.integers(0, 2, 1 + place % 4).astype(float) if place % 2 else rewards[:0]
        every = np.concatenate([rewards, more])
        value = (rewards - every.mean()) / (every.std(ddof=1) + 1e-6)
        made += [{**row, "advantage": float(a)} for row, a in zip(mine, value, strict=True)]
    return made


def absurd_advantages(seed: int) -> Rows:
    """Leave-one-out deviations, zero where a single rollout differs."""
    made: Rows = []
    for mine in groups_of(log(seed)):
        rewards = np.array([row["reward"] for row in mine])
        for place, row in enumerate(mine):
            others = np.delete(rewards, place)
            value = (rewards[place] - others.mean()) / (others.std(ddof=1) + 1e-6)
            made.append({**row, "advantage": float(value)})
    return made


def raw_rewards(seed: int) -> Rows:
    return [{**row, "advantage": row["reward"]} for row in log(seed)]


def whitened_over_the_batch(seed: int) -> Rows:
    rows = log(seed)
    by_step: dict[int, list[float]] = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row["reward"])
    return [
        {
            **row,
            "advantage": (row["reward"] - float(np.mean(by_step[row["step"]])))
            / (float(np.std(by_step[row["step"]])) + 1e-8),
        }
        for row in rows
    ]


def advantages_of_another_reward(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    made: Rows = []
    for mine in groups_of(log(seed)):
        rewards = np.array([row["reward"] for row in mine])
        other = rewards + 0.3 * rng.random(len(rewards))
        value = (other - other.mean()) / (other.std(ddof=1) + 1e-6)
        if np.ptp(rewards) == 0:
            value = np.zeros(len(rewards))
        made += [{**row, "advantage": float(a)} for row, a in zip(mine, value, strict=True)]
    return made


def duplicates_of_one(seed: int) -> Rows:
    rows = log(seed)
    return [{**row, "prediction": rows[i - i % 8]["prediction"]} for i, row in enumerate(rows)]


def duplicates_in_pairs(seed: int) -> Rows:
    rows = log(seed)
    return credited(
        [
            {**row, **{c: rows[i - i % 2][c] for c in ("prediction", "reward")}}
            for i, row in enumerate(rows)
        ]
    )


def duplicates_at_the_end(seed: int) -> Rows:
    rows = log(seed, **LONG)
    return credited(
        [
            {**row, **{c: rows[i - i % 8][c] for c in ("prediction", "reward")}}
            if row["step"] > 35
            else row
            for i, row in enumerate(rows)
        ]
    )


def beams_repeat(seed: int) -> Rows:
    rows = log(seed, mean=0.5)
    return [{**row, "beam_rank": i % 8, "prediction": rows[i - i % 2]["prediction"]}
            for i, row in enumerate(rows)]  # fmt: skip


def reward_grows(seed: int) -> Rows:
    return changed(log(seed), lambda row: {"reward": row["reward"] * (1 + row["step"] / 5)})


def reward_reweighted(seed: int) -> Rows:
    return changed(log(seed), lambda row: {"reward": row["reward"] * (1 if row["step"] < 7 else 5)})


def reward_model_drifts(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return changed(
        log(seed), lambda row: {"reward": float(rng.normal() * (1 if row["step"] < 7 else 4))}
    )


def diluted_denominator(seed: int) -> Rows:
    return log(seed, mean=0.05, spread=0.3, batch=32)


def starved(seed: int) -> Rows:
    return log(seed, mean=0.02, batch=32)


def saturated(seed: int) -> Rows:
    return log(seed, mean=0.97, batch=32)


def pass_at_k_falls(seed: int) -> Rows:
    return [
        {**row, "step": step, "prompt": f"{step} {row['prompt']}"}
        for step in range(1, 13)
        for row in log(
            100 * seed + step, steps=1, batch=112, mean=0.25 + 0.025 * step, spread=0.075 * step
        )
    ]


def repeated_batches(seed: int) -> Rows:
    rows = log(seed)
    return rows + [{**row, "step": 13} for row in rows if row["step"] == 12]


def reward_of_the_prompt(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    made: Rows = []
    for mine in groups_of(log(seed)):
        level = float(rng.choice([-3.0, -1.0, 2.0]))
        made += [{**row, "reward": level, "advantage": 0.0} for row in mine]
    return made


def one_task_gets_nothing(seed: int) -> Rows:
    return changed(
        log(seed, mean=0.5, spread=0.1),
        lambda row: {"reward": row["reward"] * (row["task"] == "ad")},
    )


FAULTS: Mapping[Fault, str] = {
    rewards_that_are_no_number: "unusable_rewards",
    rewards_in_another_order: "contradicting_rewards",
    one_task_hardly_hits: "starved_task",
    one_function_never_pays: "silent_function",
    divided_by_nothing: "missing_advantages",
    advantages_are_all_zero: "zero_advantages",
    advantages_with_the_wrong_sign: "reversed_advantages",
    constant_reward: "constant_reward",
    format_guard_by_its_column: "format_guard",
    format_guard_by_the_answers: "format_guard",
    format_guard_on_hits: "format_guard",
    shaped_hides: "shaped_hides",
    no_raw_outcome: "no_raw_outcome",
    kl_on_dead_groups: "kl_on_dead_groups",
    group_of_one: "group_of_one",
    ids_per_rollout: "group_of_one",
    groups_split: "groups_mixed",
    groups_merged: "groups_mixed",
    targets_mixed: "groups_mixed",
    advantages_shuffled: "groups_mixed",
    prompts_interleaved: "groups_mixed",
    rejected_rows_in_the_mean: "rows_outside_mean",
    absurd_advantages: "absurd_advantages",
    raw_rewards: "no_group_baseline",
    whitened_over_the_batch: "no_group_baseline",
    advantages_of_another_reward: "unknown_advantages",
    duplicates_of_one: "duplicated_rollouts",
    duplicates_in_pairs: "duplicated_rollouts",
    duplicates_at_the_end: "duplicated_rollouts",
    beams_repeat: "duplicated_rollouts",
    reward_grows: "reward_drift",
    reward_reweighted: "reward_drift",
    reward_model_drifts: "reward_drift",
    diluted_denominator: "diluted_denominator",
    starved: "starved",
    saturated: "saturated",
    pass_at_k_falls: "pass_at_k_falls",
    repeated_batches: "repeated_batches",
    reward_of_the_prompt: "reward_ignores_rollout",
    one_task_gets_nothing: "silent_task",
    cut_by_finish_reason: "truncated",
    cut_at_one_length: "truncated",
    all_at_the_limit: "truncated",
    answers_shrink: "length_collapse",
    answers_grow: "length_growth",
    answers_loop: "repetition",
    entropy_goes: "entropy_collapse",
    entropy_is_going: "entropy_collapse",
    entropy_explodes: "entropy_explosion",
    kl_explodes: "kl_explosion",
    engines_differ: "rollout_mismatch",
    weights_never_synced: "rollout_mismatch",
    ratios_clipped: "clipped_ratios",
    queue_too_long: "stale_rollouts",
    stands_still: "plateau",
    falls_at_the_end: "late_collapse",
    reward_is_hacked: "reward_hacking",
}

FOLLOWS: Mapping[str, frozenset[str]] = {
    name: frozenset(said.split())
    for name, said in {
        "format_guard": "starved diluted_denominator duplicated_rollouts groups_mixed",
        "kl_on_dead_groups": "starved diluted_denominator",
        "starved": "diluted_denominator",
        "silent_task": "starved diluted_denominator format_guard",
        "diluted_denominator": "starved",
        "saturated": "diluted_denominator",
        "no_raw_outcome": "reward_drift",
        "reward_drift": "no_raw_outcome",
        "shaped_hides": "starved",
        "pass_at_k_falls": "diluted_denominator",
        "groups_mixed": "rows_outside_mean unknown_advantages",
        "truncated": "constant_reward starved",
        "reward_hacking": "shaped_hides late_collapse no_raw_outcome",
        "late_collapse": "starved diluted_denominator",
        "kl_explosion": "kl_on_dead_groups",
        "repetition": "duplicated_rollouts length_collapse length_growth contradicting_rewards",
        "duplicated_rollouts": "diluted_denominator pass_at_k_falls contradicting_rewards",
        "starved_task": "starved diluted_denominator",
        "unusable_rewards": "rows_outside_mean",
    }.items()
}
"""What a fault brings along, and is right to."""

FLAT = frozenset({"plateau"})
"""Made-up logs do not learn: that they stand still is true of all that are long enough."""

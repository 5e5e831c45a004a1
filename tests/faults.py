"""Logs with one planted fault each, and clean ones; what a fault may rightly bring along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from planted import Rows, changed, credited, log, semantic_id

Fault = Callable[[int], Rows]
LONG: dict[str, Any] = {"steps": 40, "batch": 8}


def groups_of(rows: Rows) -> list[Rows]:
    """The rows of each group, in the order of the log."""
    found: dict[tuple[Any, Any], Rows] = {}
    for row in rows:
        found.setdefault((row["step"], row["prompt"]), []).append(row)
    return list(found.values())


def with_column(rows: Rows, name: str, value: Callable[[float, np.random.Generator], Any]) -> Rows:
    """The rows with one more column: a function of how far the run is (0 to 1) and of chance."""
    rng = np.random.default_rng(7)
    last = max(row["step"] for row in rows)
    return [{**row, name: value(row["step"] / last, rng)} for row in rows]


def risen(seed: int, start: float, end: float, steps: int = 40, **options: Any) -> Rows:
    """A run whose mean hit rate moves from start to end."""
    return [
        {**row, "step": step, "prompt": f"{step} {row['prompt']}"}
        for step in range(1, steps + 1)
        for row in log(
            1000 * seed + step,
            steps=1,
            batch=8,
            mean=start + (end - start) * step / steps,
            **options,
        )
    ]


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


def cut_by_finish_reason(seed: int) -> Rows:
    return with_column(
        log(seed), "finish_reason", lambda _, rng: "length" if rng.random() < 0.6 else "stop"
    )


def cut_at_one_length(seed: int) -> Rows:
    return with_column(log(seed), "tokens", lambda _, rng: int(min(512, rng.lognormal(6, 0.6))))


def all_at_the_limit(seed: int) -> Rows:
    rows = changed(log(seed), lambda _: {"reward": 0.0})
    return [{**row, "tokens": 256} for row in rows]


def answers_shrink(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "tokens", lambda t, rng: max(1, int(rng.normal(200 * (1 - t) + 3, 10)))
    )


def answers_grow(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "tokens", lambda t, rng: int(rng.normal(150 + 800 * t, 40))
    )


def answers_loop(seed: int) -> Rows:
    words = [f"word{n}" for n in range(500)]

    def text(t: float, rng: np.random.Generator) -> str:
        return (
            "over and over again we say " * 10
            if rng.random() < t * 1.2
            else " ".join(rng.choice(words, 60))
        )

    return with_column(log(seed, **LONG), "prediction", text)


def entropy_goes(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "entropy", lambda t, rng: float(2 * np.exp(-5 * t) + 0.01 * rng.random())
    )


def entropy_is_going(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "entropy", lambda t, rng: float(np.exp(-1.6 * t) * rng.uniform(0.9, 1.1))
    )


def entropy_explodes(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "entropy", lambda t, rng: float(0.4 + 4 * t**3 + 0.05 * rng.random())
    )


def kl_explodes(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "kl", lambda t, rng: float(0.01 + 20 * t**6 * rng.random())
    )


def engines_differ(seed: int) -> Rows:
    rows = with_column(
        log(seed, **LONG), "rollout_log_probs", lambda _, rng: (-rng.exponential(1, 12)).tolist()
    )
    rng = np.random.default_rng(seed)
    return [
        {**row, "log_probs": (np.array(row["rollout_log_probs"]) + rng.normal(0, 0.3, 12)).tolist()}
        for row in rows
    ]


def weights_never_synced(seed: int) -> Rows:
    return with_column(
        log(seed, **LONG), "logprob_diff", lambda t, rng: float(0.4 * t * rng.uniform(0.8, 1.2))
    )


def ratios_clipped(seed: int) -> Rows:
    return with_column(log(seed, **LONG), "clip_ratio", lambda _, rng: float(rng.uniform(0.3, 0.6)))


def queue_too_long(seed: int) -> Rows:
    return with_column(log(seed, **LONG), "staleness", lambda _, rng: int(rng.integers(5, 12)))


def stands_still(seed: int) -> Rows:
    return log(seed, steps=60, batch=16, mean=0.3)


def falls_at_the_end(seed: int) -> Rows:
    rows = risen(seed, 0.3, 0.6)
    rng = np.random.default_rng(seed)
    return changed(
        rows, lambda row: {"reward": row["reward"] * (row["step"] < 37 or rng.random() < 0.1)}
    )


def reward_is_hacked(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    rows = risen(seed, 0.6, 0.2)
    return changed(
        rows,
        lambda row: {
            "outcome": row["reward"],
            "reward": row["reward"] + 2 * float(rng.random() < row["step"] / 40),
        },
    )


FAULTS: Mapping[Fault, str] = {
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
        "repetition": "duplicated_rollouts length_collapse length_growth",
        "duplicated_rollouts": "diluted_denominator",
    }.items()
}
"""What a fault brings along, and is right to."""

FLAT = frozenset({"plateau"})
"""Made-up logs do not learn: that they stand still is true of all that are long enough."""

REGIMES: Mapping[str, dict[str, Any]] = {
    "sparse": {"mean": 0.25, "spread": 0.1},
    "balanced": {"mean": 0.4, "spread": 0.2},
    "easy": {"mean": 0.7, "spread": 0.1},
    "wide": {"mean": 0.15, "spread": 0.1, "group": 32, "batch": 8},
    "narrow": {"mean": 0.5, "spread": 0.02, "group": 4},
    "same prompts": {"mean": 0.4, "spread": 0.2, "repeat": True},
    "few items": {"mean": 0.4, "spread": 0.2, "items": 5},
}


def healthy(seed: int) -> Rows:
    """A run that learns and logs all that one could wish for, all of it in order."""
    rows = risen(seed, 0.25, 0.6)
    for name, value in {
        "entropy": lambda t, rng: float(0.8 - 0.3 * t + 0.05 * rng.random()),
        "kl": lambda t, rng: float(0.001 + 0.05 * t * rng.random()),
        "tokens": lambda t, rng: int(min(1023, rng.lognormal(5 + 0.3 * t, 0.4))),
        "finish_reason": lambda _, rng: "length" if rng.random() < 0.02 else "stop",
        "logprob_diff": lambda _, rng: float(rng.exponential(0.005)),
        "clip_ratio": lambda _, rng: float(rng.exponential(0.01)),
        "staleness": lambda _, rng: int(rng.integers(0, 2)),
    }.items():
        rows = with_column(rows, name, value)
    return rows


def healthy_shaped(seed: int) -> Rows:
    """Accuracy and a format point that everyone gets, accuracy rising."""
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"accuracy": row["reward"], "reward": row["reward"] + 0.1},
    )


def healthy_ratings(seed: int) -> Rows:
    """A score between 0 and 1 that rises."""
    rng = np.random.default_rng(seed)
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"reward": float(rng.beta(2 + row["step"] / 10, 5))},
    )


def healthy_penalties(seed: int) -> Rows:
    """Never a positive reward; penalties become smaller."""
    rng = np.random.default_rng(seed)
    return changed(
        risen(seed, 0.3, 0.6),
        lambda row: {"reward": -float(rng.exponential(300 / row["step"]))},
    )


def labels(seed: int) -> Rows:
    """A classification: answers are one of four words."""
    words = ("cat", "dog", "bird", "fish")
    rng = np.random.default_rng(seed)
    return credited(
        [
            {
                **{name: row[name] for name in ("step", "prompt")},
                "reward": row["reward"],
                "prediction": words[0] if row["reward"] else str(rng.choice(words[1:])),
            }
            for row in log(seed, mean=0.6, spread=0.5)
        ]
    )


def group_by_step(seed: int) -> Rows:
    """G is 4 in every third step, by design."""
    return credited([row for i, row in enumerate(log(seed)) if row["step"] % 3 or i % 8 < 4])


CLEAN: Mapping[str, Fault] = {
    **{
        name: lambda seed, options=options: log(100 + seed, **options)
        for name, options in REGIMES.items()
    },
    "learns, all columns": healthy,
    "two rewards": healthy_shaped,
    "ratings": healthy_ratings,
    "penalties": healthy_penalties,
    "labels": labels,
    "G by step": group_by_step,
}

ALLOWED: Mapping[str, frozenset[str]] = {
    "ratings": frozenset({"no_raw_outcome"}),
    "penalties": frozenset({"no_raw_outcome"}),
}
"""Notes that are true of a clean log."""

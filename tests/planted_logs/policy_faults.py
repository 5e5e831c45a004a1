"""Planted faults of answers and of the policy: length, entropy, engines, collapse."""

from __future__ import annotations

import numpy as np

from planted_logs.rollouts import LONG, Rows, changed, log, risen, with_column


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

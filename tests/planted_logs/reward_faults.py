"""Planted faults of the reward: what becomes of it on the way to the trainer."""

from __future__ import annotations

import numpy as np

from planted_logs.rollouts import Rows, changed, credited, groups_of, log


def rewards_that_are_no_number(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    bad = lambda _: {"reward": float("nan")} if rng.random() < 0.05 else {}  # noqa: E731
    return changed(log(seed), bad)


def rewards_in_another_order(seed: int) -> Rows:
    """Rewards of a step were computed rightly and put beside other rollouts."""
    rng = np.random.default_rng(seed)
    rows = log(seed, items=4)
    for step in {row["step"] for row in rows}:
        mine = [row for row in rows if row["step"] == step]
        for row, place in zip(mine, rng.permutation(len(mine)), strict=True):
            row["new"] = mine[place]["reward"]
    return credited([{**row, "reward": row.pop("new")} for row in rows])


def one_task_hardly_hits(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    luck = {row["prompt"]: rng.random() < 0.05 for row in log(seed, steps=24)}
    return credited(
        changed(
            log(seed, steps=24, mean=0.5),
            lambda row: {} if row["task"] == "ad" or luck[row["prompt"]] else {"reward": 0.0},
        )
    )


def one_function_never_pays(seed: int) -> Rows:
    names = {"reward": "accuracy_reward"}
    rows = [{names.get(name, name): value for name, value in row.items()} for row in log(seed)]
    return [{**row, "soft_format_reward_func": 0.0} for row in rows]


def divided_by_nothing(seed: int) -> Rows:
    """No eps: the advantages of groups of equal rewards are 0 / 0."""
    rows = log(seed, mean=0.2, spread=0.4)
    for group in groups_of(rows):
        if len({row["reward"] for row in group}) == 1:
            for row in group:
                row["advantage"] = float("nan")
    return rows


def advantages_are_all_zero(seed: int) -> Rows:
    return [{**row, "advantage": 0.0} for row in log(seed)]


def advantages_with_the_wrong_sign(seed: int) -> Rows:
    return [{**row, "advantage": -row["advantage"]} for row in log(seed)]

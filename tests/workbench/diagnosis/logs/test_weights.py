"""Weights of reward functions, solved from advantages that known weights made."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_logs import rollouts as planted

from workbench.diagnosis.logs.layout import REWARD
from workbench.diagnosis.logs.read import read_log
from workbench.diagnosis.logs.weights import solve


def table(weights, scale: str, seed: int = 0, groups: int = 60, size: int = 8, noise: float = 0.0):
    """Columns of binary, graded and constant functions, and the advantages of their sum."""
    rng = np.random.default_rng(seed)
    shape = (groups, size)
    columns = [
        (rng.random(shape) < rng.beta(1, 1, (groups, 1))).astype(float),
        rng.normal(0.3, 0.5, shape),
        np.full(shape, 0.5),
        rng.integers(50, 400, shape).astype(float),
    ]
    reward = sum(w * c for w, c in zip(weights, columns, strict=True))
    centred = reward - reward.mean(1, keepdims=True)
    step = np.repeat(np.arange(groups) // 6, size).reshape(shape)
    divisor = np.ones(shape)
    if scale == "group":
        divisor = np.broadcast_to(reward.std(1, ddof=1, keepdims=True) + 1e-4, shape)
    elif scale == "batch":
        divisor = np.stack([np.full(size, reward[step[:, 0] == s].std(ddof=1) + 1e-4)
                            for s in step[:, 0]])  # fmt: skip
    advantage = centred / divisor + noise * rng.normal(size=shape)
    return pl.DataFrame(
        {
            "key": np.repeat(np.arange(groups), size).astype(np.uint64),
            "step": step.ravel(),
            "advantage": advantage.ravel(),
            **{REWARD + name: c.ravel() for name, c in zip("abcd", columns, strict=True)},
        }
    )


@settings(max_examples=25, deadline=None)
@given(
    weights=st.tuples(
        st.sampled_from([1.0, 2.0, 0.5]), st.sampled_from([0.0, 0.1, 0.3, 1.0, -0.5])
    ),
    scale=st.sampled_from(["group", "batch", "none"]),
    seed=st.integers(0, 1000),
)
def test_the_weights_that_made_the_advantages_are_found(weights, scale, seed):
    found = solve(table((*weights, 1.0, 0.0), scale, seed), list("abcd"))
    assert found is not None
    assert found.explained > 0.999
    assert "c" not in found.of
    largest = 1.0 if scale == "none" else max(map(abs, weights))
    assert found.of["a"] == pytest.approx(weights[0] / largest, abs=0.011)
    assert found.of["b"] == pytest.approx(weights[1] / largest, abs=0.011)
    assert found.of["d"] == 0
    if weights[1]:
        assert found.scale == scale


def test_advantages_that_no_weights_explain_give_none():
    assert solve(table((1.0, 0.5, 1.0, 0.0), "group", noise=1.0), list("abcd")) is None
    shuffled = table((1.0, 0.5, 1.0, 0.0), "group").with_columns(
        pl.col("advantage").shuffle(seed=1)
    )
    assert solve(shuffled, list("abcd")) is None
    assert solve(table((1.0, 0, 0, 0), "group").with_columns(advantage=None), ["a"]) is None


def as_trl(rows: planted.Rows, path, **columns) -> None:
    frame = pl.DataFrame(rows)
    pl.DataFrame(
        {"step": frame["step"], "prompt": frame["prompt"], "completion": frame["prediction"],
         **columns}
    ).write_parquet(path)  # fmt: skip


def test_without_advantages_columns_of_lengths_and_counts_are_no_rewards(tmp_path):
    rows = planted.log(steps=2)
    reward = pl.Series([row["reward"] for row in rows])
    as_trl(rows, tmp_path / "a.parquet", answer_reward=reward, num_turns=reward * 0 + 3,
           completion_tokens=reward + 100)  # fmt: skip
    log = read_log([tmp_path / "a.parquet"])
    assert log.reading.functions == {"answer_reward": 1.0}
    as_trl(rows, tmp_path / "b.parquet", reward_len=reward, tok_len_penalty=reward)
    assert list(read_log([tmp_path / "b.parquet"]).reading.functions) == [
        "reward_len",
        "tok_len_penalty",
    ]


def test_a_function_that_returns_none_leaves_its_rows_to_the_others(tmp_path):
    """Tasks with a judge each; a third function shapes; in every eighth group nothing judges."""
    rows = planted.log(steps=8, batch=8)
    reward = [row["reward"] for row in rows]
    place = [i // 8 % 8 for i in range(len(rows))]
    math = [r if p < 4 else None for r, p in zip(reward, place, strict=True)]
    code = [r if 4 <= p < 7 else None for r, p in zip(reward, place, strict=True)]
    as_trl(rows, tmp_path / "a.parquet", accuracy_reward=pl.Series(math),
           code_reward=pl.Series(code), format_reward=pl.Series([0.25] * len(rows)))  # fmt: skip
    log = read_log([tmp_path / "a.parquet"])
    assert log.reading.standing_in == ("code_reward",)
    assert log.reading.unjudged == 8
    assert log.rollouts.height == len(rows) * 7 // 8
    assert log.rollouts["outcome"].to_list() == [
        r for r, p in zip(reward, place, strict=True) if p < 7
    ]

"""Tables of the measured comparison, from values whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from workbench.real.tables import (
    StudyValues,
    against_simulator,
    differences,
    scores,
    sentences,
    wide,
)
from workbench.spec.metrics import LM_METRICS
from workbench.stats.two_way import Draws

ROWS = ("start", "sft", "grpo", "recast")


def measured(seeds: int = 10, gain: float = 0.1, prompts: int = 60) -> StudyValues:
    """sft is above everything else by `gain`, the rest is the same noise."""
    rng = np.random.default_rng(3)
    base = rng.random((1, len(LM_METRICS), 1, prompts))
    noise = 0.01 * rng.normal(size=(len(ROWS), len(LM_METRICS), seeds, prompts))
    values = base + noise
    values[1] += gain
    users = tuple(f"u{i // 2}" for i in range(prompts))
    seen = np.arange(prompts) < 40
    return StudyValues(ROWS, values, users, {"seen": seen, "new": ~seen}, seeds, 0.5)


def test_a_real_difference_is_named_and_noise_is_not():
    found = measured()
    gaps = differences(found)
    verdicts = {(r["control"], r["strategy"]): r["verdict"] for r in gaps.iter_rows(named=True)}
    assert verdicts["start", "sft"] == "above"
    assert verdicts["sft", "grpo"] == verdicts["sft", "recast"] == "below"
    assert verdicts["start", "recast"] == verdicts["grpo", "recast"] == "not told apart"
    told = sentences(gaps, found.seeds)
    assert "hr_at_1 against start: above: sft; not told apart: grpo, recast." in told
    cell = wide(gaps, "start").filter(strategy="sft")["hr_at_10"][0]
    (row,) = gaps.filter(control="start", strategy="sft", metric="hr_at_10").to_dicts()
    assert row["difference"] == pytest.approx(0.1, abs=0.005)
    figures = (f"{row[name]:+.4f}" for name in ("difference", "difference_low", "difference_high"))
    assert cell == "{} [{}, {}]*".format(*figures)


def test_supervision_with_averaged_weights_or_a_decaying_rate_is_a_control_where_it_was_run():
    found = replace(measured(), rows=("start", "sft averaged", "sft decaying", "recast"))
    gaps = differences(found)
    assert gaps["control"].unique(maintain_order=True).to_list() == list(found.rows[:3])
    verdict = gaps.filter(control="sft averaged", strategy="recast")["verdict"]
    assert set(verdict) == {"below"}


def test_below_ten_seeds_nothing_is_claimed():
    gaps = differences(measured(seeds=9))
    assert set(gaps["verdict"]) == {"no claim"}
    assert sentences(gaps, 9) == ["9 seeds: no claim of a seed-level difference is made."]
    assert scores(measured(seeds=4), {})["hr_at_1_low"].null_count() == len(ROWS)


def test_p_values_are_corrected_over_all_rows_and_metrics_of_one_control():
    """One metric of one row, real at .05 alone, among 3 rows x 6 metrics of pure noise."""
    found = measured(gain=0.0)
    rng = np.random.default_rng(5)
    noise = rng.normal(size=found.values.shape[-1])
    found.values[1, 0] += 0.018 + 0.06 * (noise - noise.mean())
    _, drawn = Draws.of(found.users, found.seeds).means(found.values)
    apart = drawn[1, 0] - drawn[0, 0]
    raw = 2 * (1 + min((apart <= 0).sum(), (apart >= 0).sum())) / (1 + len(apart))
    row = differences(found).filter(control="start", strategy="sft", metric="hr_at_1")
    assert 0.001 < raw < 0.05 < row["p_corrected"][0]
    assert row["verdict"][0] == "not told apart"


def test_scores_are_the_means_of_each_slice():
    found = measured()
    table = scores(found, {"grpo": (1e-3, 30)}, ("all", "seen", "new"))
    for label, keep in (("all", slice(None)), ("seen", slice(0, 40)), ("new", slice(40, None))):
        row = table.filter(slice=label, strategy="grpo").row(0, named=True)
        mean = found.values[2, LM_METRICS.index("pass_at_1")][:, keep].mean()
        assert row["pass_at_1"] == pytest.approx(mean)
        assert row["pass_at_1_low"] < mean < row["pass_at_1_high"]
        assert (row["lr"], row["step"]) == (1e-3, 30)
    assert table.filter(strategy="start")["step"].to_list() == [0, 0, 0]
    found.slices["new"][:] = False
    assert scores(found, {}, ("all", "new"))["slice"].unique().to_list() == ["all"]


def test_the_simulators_ranking_is_compared_by_name_over_shared_strategies():
    found = measured()
    order = {"start": None, "sft": 0.9, "recast": 0.2, "grpo": 0.1, "maxrl": 0.5}
    rows = [
        {
            "run": f"{name}-{seed}", "strategy": name, "seed": seed, "split": "test",
            "slice": "all", "step": 10, "tuned": True,
            **dict.fromkeys(LM_METRICS, value + 0.001 * seed),
        }
        for name, value in order.items()
        if value is not None
        for seed in range(3)
    ]  # fmt: skip
    table = against_simulator(found, pl.DataFrame(rows))
    assert table["strategies"].to_list() == [3] * len(LM_METRICS)
    mine = found.values[1:, 0].mean((-2, -1))
    wanted = np.corrcoef(np.argsort(np.argsort(mine)), [2, 0, 1])[0, 1]
    assert table["rho"][0] == pytest.approx(wanted)

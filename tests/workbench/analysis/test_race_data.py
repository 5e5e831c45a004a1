"""What a race takes from stored runs: a cell, and its rates."""

from __future__ import annotations

import polars as pl

from workbench.analysis.race import compared_with, simulated_cell, tuned_rates
from workbench.analysis.tuning import mark_tuned


def rows(cell: str, world: str, strategy: str, rates: list[float], best: float) -> pl.DataFrame:
    """Two seeds at each rate, validated best at one of them."""
    return pl.DataFrame(
        [
            {"cell": cell, "world": world, "strategy": strategy, "seed": seed, "lr": lr}
            | {"run": f"{cell}{strategy}{seed}{lr}", "split": split, "slice": "all", "step": 10}
            | {"area": float(lr == best)}
            for lr in rates
            for seed in (0, 1)
            for split in ("validation", "test")
        ]
    )


def test_a_race_opens_with_the_rates_of_the_largest_simulated_cell_that_were_chosen_among_several():
    stored = mark_tuned(
        pl.concat(
            [
                rows("small", "synthetic", "grpo", [0.1, 0.2], 0.1),
                rows("real", "lm:office", "grpo", [1e-5, 1e-4, 1e-3, 1e-2], 1e-5),
                rows("large", "synthetic", "grpo", [0.01, 0.02, 0.03], 0.02),
                rows("large", "synthetic", "sft", [0.5], 0.5),
            ]
        )
    )
    assert set(simulated_cell(stored)["cell"]) == {"large"}
    assert tuned_rates(simulated_cell(stored)) == {"grpo": 0.02}


def test_a_store_without_simulated_runs_gives_no_rate_and_nothing_to_compare():
    real = mark_tuned(rows("real", "lm:office", "grpo", [1e-5, 1e-4], 1e-5))
    for stored in (real, pl.DataFrame()):
        cell = simulated_cell(stored)
        assert cell.is_empty()
        assert tuned_rates(cell) == {}
        assert compared_with(rows("r", "live", "grpo", [0.1], 0.1), cell, "area", "These") == ""

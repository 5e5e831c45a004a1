"""When a grid of learning rates grows."""

from __future__ import annotations

import polars as pl
import pytest
from sweeping import TINY

from workbench.analysis.tuning import beyond_the_edge
from workbench.spec.sweep import Run, Tune


@pytest.mark.parametrize(
    ("values", "further"),
    [
        ((0.3, 0.2, 0.4, 0.1), 0.0003),  # the best lies inside, and below the start: lower ones
        ((0.3, 0.2, 0.6, 0.1), None),
        ((0.1, 0.2, 0.3, 0.6), 3.0),
    ],
)
def test_a_row_that_only_loses_is_tried_at_lower_rates(values, further):
    """A rate of 0 is the start, so a best that is worse than the start is not the row's best."""
    rates = (0.003, 0.03, 0.3, 1.0)
    runs = [Run(TINY.experiment, "grpo", lr, 0) for lr in rates]
    about = {"cell": runs[0].config["cell"], "strategy": "grpo", "seed": 0}
    rows = [
        {**about, "run": run.key, "lr": run.lr, "step": step, "area": area}
        for run, value in zip(runs, values, strict=True)
        for step, area in ((0, 0.5), (4, value))
    ]
    frame = pl.DataFrame(rows).with_columns(split=pl.lit("validation"), slice=pl.lit("all"))
    more = beyond_the_edge(runs, frame, Tune(lr=rates))
    assert [run.lr for run in more] == (
        [] if further is None else [pytest.approx(further, rel=0.2)]
    )


def test_a_grid_grows_where_any_metric_that_is_shown_has_its_best_on_an_edge():
    rates = (0.01, 0.02, 0.04)
    runs = [Run(TINY.experiment, "grpo", lr, 0) for lr in rates]
    about = {"cell": runs[0].config["cell"], "strategy": "grpo", "seed": 0, "step": 4}
    found = zip((0.2, 0.3, 0.1), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1), strict=True)
    rows = [
        {**about, "run": run.key, "lr": run.lr, "area": area, "hr_at_10": hr, "c_at_1": one}
        for run, (area, hr, one) in zip(runs, found, strict=True)
    ]
    frame = pl.DataFrame(rows).with_columns(split=pl.lit("validation"), slice=pl.lit("all"))

    def grown(*also: str) -> list[float]:
        return [run.lr for run in beyond_the_edge(runs, frame, Tune(lr=rates, also=also))]

    assert grown() == []
    assert grown("hr_at_10") == [0.08]
    assert grown("hr_at_10", "c_at_1", "area", "c_at_1") == [0.08, 0.005]

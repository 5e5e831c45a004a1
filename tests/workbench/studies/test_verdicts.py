"""From intervals to verdicts, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_effects import row

from workbench.stats.estimates import interval
from workbench.stats.samples import mean
from workbench.studies.verdicts import (
    judge_close,
    judge_level,
    judge_number,
    judge_trend,
    side,
    together,
)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "compatible"),
        (0.3, 0.9, "compatible"),
        (0.4, 0.9, "not reproduced"),
        (-0.3, 0.05, "not reproduced"),
        (-0.1, 0.2, "inconclusive"),  # holds "no effect" as well
        (None, 0.2, "inconclusive"),
        (0.4, None, "not reproduced"),
        (None, None, "inconclusive"),
    ],
)
def test_meeting_a_range_is_compatible_at_best(low, high, verdict):
    assert judge_number(low, high, (0.091, 0.366), 0.0) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.03, 0.06, "reproduced"),
        (0.0, 0.756, "inconclusive"),  # holds the figure, and everything else
        (0.041, 0.5, "inconclusive"),
        (0.1, 0.5, "not reproduced"),
        (0.001, 0.02, "not reproduced"),  # better than the paper is not the paper's figure
        (0.02, None, "inconclusive"),
        (0.2, None, "not reproduced"),
        (None, None, "inconclusive"),
    ],
)
def test_a_figure_needs_the_whole_interval_within_a_factor_of_it(low, high, verdict):
    assert judge_close(low, high, 0.041) == verdict


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_noise_is_no_evidence_for_a_share_that_is_not_the_papers(spread):
    """True median share .10, 2.4 times the paper's: noise may hide that, never turn it round."""
    rng = np.random.default_rng(1)
    found = [
        judge_close(*interval(0.1 * np.exp(rng.normal(0, spread, 10)), mean), 0.041)
        for _ in range(100)
    ]
    assert found.count("reproduced") <= 2


@pytest.mark.parametrize(
    ("low", "high", "trend", "level"),
    [
        (0.1, 0.2, "reproduced", "not reproduced"),
        (-0.2, -0.1, "not reproduced", "not reproduced"),
        (-0.1, 0.2, "inconclusive", "not reproduced"),
        (0.95, 0.99, "reproduced", "reproduced"),
        (0.5, 0.96, "reproduced", "inconclusive"),
        (0.0, 0.2, "inconclusive", "not reproduced"),
        (None, None, "inconclusive", "inconclusive"),
        (0.1, None, "reproduced", "inconclusive"),
    ],
)
def test_a_trend_excludes_zero_and_a_level_is_kept(low, high, trend, level):
    assert judge_trend(low, high) == trend
    assert judge_level(low, high, 0.95) == level


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ("RR", "reproduced"),
        ("RN", "only where"),
        ("RI", "only where"),
        ("NN", "not reproduced"),
        ("NI", "not reproduced"),
        ("NII", "inconclusive"),
        ("II", "inconclusive"),
        ("CC", "compatible"),
        ("CR", "compatible"),
        ("CN", "only where"),
        ("TT", "shown, not judged"),
        ("", "shown, not judged"),
    ],
)
def test_settings_add_up_to_one_verdict(verdicts, overall):
    words = dict(
        zip(
            "RNITC",
            ("reproduced", "not reproduced", "inconclusive", "shown, not judged", "compatible"),
            strict=True,
        )
    )
    verdict, where = together([row(words[v], setting=f"cell {i}") for i, v in enumerate(verdicts)])
    assert verdict == overall
    assert where == ("m: cell 0" if overall == "only where" else "")


def test_rows_that_do_not_decide_do_not_count():
    assert together([row("reproduced"), row("not reproduced", counts=False)])[0] == "reproduced"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
@settings(deadline=None)
def test_an_interval_lies_on_one_side_exactly_when_the_number_is_missed(low, width, paper, span):
    figure = (paper, paper + span)
    missed = judge_number(low, low + width, figure, 99.0) == "not reproduced"
    assert bool(side(low, low + width, figure)) == missed

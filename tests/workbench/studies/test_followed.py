"""A ranking held against results, beside a count by hand."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.errors import UserError
from workbench.stats.p_values import holm
from workbench.studies.prediction.followed import held_against, read_results


def ranking(scores: dict[str, float]) -> pl.DataFrame:
    """first, second, difference of every pair."""
    pairs = list(itertools.combinations(scores, 2))
    return pl.DataFrame(
        [{"first": a, "second": b, "difference": scores[a] - scores[b]} for a, b in pairs]
    )


def results(values: dict[str, list[float]]) -> pl.DataFrame:
    """strategy, seed, value."""
    return pl.DataFrame(
        [
            {"strategy": name, "seed": seed, "value": value}
            for name, row in values.items()
            for seed, value in enumerate(row)
        ]
    )


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 5))
def test_it_counts_what_a_loop_over_pairs_counts(number, seeds, many):
    rng = np.random.default_rng(number)
    names = [f"row {i}" for i in range(many)]
    scores = dict(zip(names, rng.normal(size=many), strict=True))
    values = {name: list(rng.normal(rng.normal(), 0.3, seeds)) for name in names}
    held = held_against(ranking(scores), results(values))
    expected, p_values = {}, []
    for one, other in itertools.combinations(names, 2):
        best, worst = (one, other) if scores[one] > scores[other] else (other, one)
        gaps = np.subtract(values[best], values[worst])
        expected[best, worst] = gaps.mean()
        p_values.append(float(stats.ttest_rel(values[best], values[worst]).pvalue))
    found = {(r["first"], r["second"]): r for r in held.pairs.to_dicts()}
    assert found.keys() == expected.keys()
    for pair, p in zip(expected, holm(p_values), strict=True):
        assert found[pair]["measured"] == pytest.approx(expected[pair])
        assert found[pair]["alike"] == (expected[pair] > 0)
        assert found[pair]["p_holm"] == pytest.approx(p)


def test_only_seeds_that_both_have_count_and_what_was_not_run_is_named():
    held = held_against(
        ranking({"a": 2.0, "b": 1.0, "c": 0.0}),
        results({"a": [1.0, 9.0, 9.0], "b": [2.0]}),
    )
    row = held.pairs.row(0, named=True)
    assert (row["seeds"], row["alike"], row["p_holm"], held.missing) == (1, False, None, ("c",))
    assert "Not run: c." in held.text()


def test_no_pair_with_results_is_an_error_that_names_both_sides():
    with pytest.raises(UserError, match="no two of a, b share a seed with results; it has z"):
        held_against(ranking({"a": 2.0, "b": 1.0}), results({"z": [1.0]}))


@pytest.mark.parametrize("seed", ["1.5", "nan", "1e300", "x", "-0.5"])
def test_a_seed_is_a_whole_number_and_is_never_cut_to_one(seed, tmp_path):
    file = tmp_path / "results.csv"
    file.write_text(f"strategy,seed,value\nsft,2.0,1\nsft,{seed},1\n")
    with pytest.raises(UserError, match=r"results\.csv: "):
        read_results(file, "pass_at_1")
    file.write_text("strategy,seed,value\nsft,2.0,1\n")
    assert read_results(file, "pass_at_1")["seed"].to_list() == [2]

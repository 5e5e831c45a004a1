"""Prediction: decision accuracy on planted pairs, stated probabilities, theory, and a whole study
on a made-up data folder."""

from __future__ import annotations

import itertools
import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recast.lm.dataset import load_data
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction import missing_runs
from workbench.studies.prediction.accuracy import (
    ELSEWHERE,
    accuracy_table,
    compared,
    decision_accuracy,
    elsewhere,
    judged,
    pairs_of,
    reliability,
    slope,
    stated_probabilities,
)
from workbench.studies.prediction.protocol import START, Case, PredictionPlan, case_of
from workbench.studies.prediction.small_policies import SmallRung, several_hits, world_of
from workbench.studies.prediction.study import RATES, PredictionStudy
from workbench.studies.prediction.theory import COUNTED_PROMPTS, climbs, counted, score

ROWS = ("a", "b", "c", "d", "e", "f")


def planted(rung: str, data: str, levels: list[float], seeds: int = 3) -> pl.DataFrame:
    """Pairs of rows whose true values are `levels`, the same on every metric."""
    rng = np.random.default_rng(len(rung) + len(data))
    values = np.array(levels)[:, None, None, None] + 0.01 * rng.normal(
        size=(len(levels), len(LM_METRICS), seeds, 50)
    )
    return pairs_of(rung, data, ROWS, values, [str(i) for i in range(50)])


RISING = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture(scope="module")
def pairs() -> pl.DataFrame:
    return pl.concat(
        [
            *(planted("dear", data, RISING) for data in ("one", "two")),
            *(planted("like", data, [x / 7 for x in RISING]) for data in ("one", "two")),
            *(planted("unlike", data, RISING[::-1]) for data in ("one", "two")),
            planted("torn", "one", RISING),
            planted("torn", "two", RISING[::-1]),
        ]
    )


@pytest.mark.parametrize(("cheap", "wanted"), [("like", 1.0), ("unlike", 0.0), ("torn", 0.5)])
def test_decision_accuracy_is_the_share_of_real_pairs_ordered_alike(pairs, cheap, wanted):
    found = decision_accuracy(pairs, cheap, "dear", "area")
    assert found["pairs"] == 2 * 15
    assert found["accuracy"] == wanted
    assert found["low"] <= wanted <= found["high"]
    assert (found["high"] - found["low"] > 0.5) == (cheap == "torn")


def test_pairs_that_are_not_real_on_the_dear_rung_do_not_count():
    same = planted("dear", "one", [0.0] * 5 + [1.0])
    both = pl.concat([same, planted("cheap", "one", RISING)])
    real = judged(both, "cheap", "dear").filter(metric="area")
    assert set(real["second"]) == {"f"}
    assert real.height == 5
    assert decision_accuracy(both, "cheap", "dear", "area")["accuracy"] is None


@pytest.mark.parametrize(("cheap", "right"), [("like", 1.0), ("torn", 0.0)])
def test_stated_probabilities_are_held_against_what_came_true(pairs, cheap, right):
    """What is learnt on one data set holds on the other, or is upside down there."""
    found = reliability(pairs, cheap, "dear", "area")
    assert found["pairs"].sum() == 2 * 15
    sure = found.filter(pl.col("stated") > 0.9)
    assert (sure["right"] == right).all() or cheap == "torn"
    assert found["stated"].is_between(0.5, 1).all()
    mean = float((found["right"] * found["pairs"]).sum() / found["pairs"].sum())
    assert mean == pytest.approx(1.0 if cheap == "like" else 0.5)


def test_a_tie_of_the_cheap_rung_counts_half():
    tied = planted("cheap", "one", RISING).with_columns(difference=pl.lit(0.0))
    both = pl.concat([planted("dear", "one", RISING), tied])
    assert decision_accuracy(both, "cheap", "dear", "area")["accuracy"] == 0.5


def test_a_probability_is_learnt_on_the_other_data_sets_alone(pairs):
    real = judged(pairs, "torn", "dear").filter(metric="area")
    stated = stated_probabilities(real)
    first = (real["data"] == "one").to_numpy()
    # "one" is ordered alike; what "two", ordered the wrong way round, teaches is to say nothing.
    assert stated[first] == pytest.approx(0.5, abs=1e-3)
    right = np.where(stated[~first] > 0.5, 1, 0) == real["better"].to_numpy()[~first]
    assert not right.any()


@given(st.floats(0.1, 3), st.integers(0, 2**32 - 1))
def test_a_slope_is_found_again_where_nobody_knows_the_truth_for_sure(b, seed):
    """Chances that follow the cheap rung's lead give its slope back; a half each gives nothing."""
    x = np.random.default_rng(seed).normal(size=4000)
    every = pl.DataFrame({"x": x, "chance": 1 / (1 + np.exp(-b * x))})
    assert slope(every) == pytest.approx(b, rel=0.02, abs=0.01)
    assert slope(every.with_columns(chance=pl.lit(0.5))) < 0.01


def test_pairs_that_hardly_differ_make_a_stated_probability_modest():
    """Where the dear rung is sure of one pair and torn over the rest, a lead says little."""
    noisy = planted("dear", "one", [0.0] * 5 + [1.0])
    both = pl.concat([noisy, planted("cheap", "one", RISING)])
    every = compared(both, "cheap", "dear").filter(metric="area")
    sure = judged(both, "cheap", "dear").filter(metric="area")
    assert slope(every) < slope(sure)


def test_hits_counted_in_a_log_have_the_mean_of_the_hit_probabilities():
    hits = np.random.default_rng(1).beta(0.05, 5, 5000)
    told = counted(hits, 32)
    assert len(told) == COUNTED_PROMPTS
    assert np.array_equal(told, counted(hits, 32))
    assert ((told * 32) % 1 == 0).all()
    assert told.mean() == pytest.approx(hits.mean(), abs=3 * np.sqrt(hits.var() / len(told)))


def test_the_table_holds_every_pair_of_rungs_from_cheap_to_dear(pairs):
    table = accuracy_table(pairs, ("like", "unlike", "torn", "dear"))
    found = set(table.select("cheap", "dear").unique().iter_rows())
    assert found == set(itertools.combinations(("like", "unlike", "torn", "dear"), 2))
    assert set(table["metric"]) == {"all", *LM_METRICS}
    near = table.filter(cheap="like", dear="dear", metric="all").row(0, named=True)
    assert near["brier"] < 0.1


@pytest.mark.parametrize("metric", LM_METRICS)
def test_no_theory_score_is_above_that_of_following_the_metric_itself(metric):
    """A cosine: at most 1, reached by the exact gradient where there is one."""
    rare = torch.distributions.Beta(0.5, 60.0).sample((400,)).double()
    p = torch.cat([rare, torch.linspace(0.05, 0.9, 40).double()])
    names = (
        "sft",
        "dft",
        "luffy",
        "grpo",
        "grpo_sft",
        "recast",
        "repair_only",
        "nsr",
        "target_power",
    )
    found = {name: score(name, p, 32, metric) for name in names}
    assert all(value is not None and value <= 1 + 1e-9 for value in found.values())
    best = "sft" if bool((climbs(metric, p) == 1).all()) else None
    if best:
        assert found[best] == pytest.approx(1.0)
    if metric == "pass_at_1":
        assert score("reinforce", p, 32, metric) is not None
        assert found["dft"] == pytest.approx(1.0)


def test_theory_says_nothing_where_hits_alone_do_not_decide():
    p = torch.full((8,), 0.01, dtype=torch.float64)
    assert score("rl_zvp", p, 32, "area") is None
    assert score(START, p, 32, "area") == 0.0


PLAN = PredictionPlan(steps=4, stops=(2, 4), batch=8, group=8, seeds=2, strategies=("sft", "grpo"))


@pytest.fixture
def case(data_folder) -> Case:
    return case_of(load_data(data_folder), PLAN, 0.5)


def test_both_worlds_meet_the_very_same_rows(case):
    world = world_of(case)
    sids = list(case.data.sids)
    for prompts, rows in (
        (world.sft, case.data.sft),
        (world.train, case.data.learning),
        (world.validation, case.data.tuning),
        (world.test, case.data.test),
    ):
        assert [sids[i] for i in prompts.target.tolist()] == [row.target for row in rows]


def test_a_study_resumes_without_doing_a_finished_run_again(case, tmp_path, monkeypatch):
    share = _middle(case)
    case = Case(case.data, share)
    whole = PredictionStudy(tmp_path, (case,), PLAN)
    told: list[tuple[int, int]] = []
    every = 2 * len(RATES["replay_mlp"]) + 3 * PLAN.seeds
    assert (whole.missing("replay_mlp"), whole.seconds_each("replay_mlp")) == (every, None)
    done = list(whole.do("replay_mlp", case, (0,), lambda at, total, _: told.append((at, total))))
    assert done == ["start 0", "sft 0", "grpo 0"]
    silent = every - 6  # the start, which is not trained
    assert told == [(at, every - 3) for at in range(every - 3) if at != silent]
    assert whole.missing("replay_mlp") == 3
    assert (whole.seconds_each("replay_mlp") or 0.0) > 0
    again = list(whole.do("replay_mlp", case, (0, 1), lambda *_: None))
    assert again == ["start 1", "sft 1", "grpo 1"]
    whole.keep_hits("replay_mlp", case)
    list(whole.do("theory", case, (), lambda *_: None))
    pairs = whole.pairs()
    assert set(pairs["rung"]) == {"theory", "replay_mlp"}
    assert pairs.filter(rung="replay_mlp").height == 3 * len(LM_METRICS)
    assert (whole.costs()["seconds"] > 0).all()
    ((rung, data, results),) = whole.results()
    assert (rung, data, results.height) == ("replay_mlp", case.data.name, 3 * 2)
    assert results.filter(strategy="sft")["seed"].to_list() == [0, 1]
    mean = results.filter(strategy="sft")["area"].mean()
    said = whole.values().filter(strategy="sft", metric="area")["value"].item()
    assert mean == pytest.approx(said)
    monkeypatch.setattr(SmallRung, "run", None)  # nothing is trained any more
    assert list(whole.do("replay_mlp", case, (0, 1), lambda *_: None)) == []


def test_a_diverged_rate_is_never_chosen(case, tmp_path):
    class Rung:
        name, rates = "made up", (0.1, 1.0)

        def run(self, strategy, lr, seed, stops):
            if lr < 1:
                yield from stops

        def tuned(self):
            return 0.2

    chosen = missing_runs.tune(Rung(), PLAN, tmp_path, (0,), lambda *_: None)
    assert chosen["sft"] == missing_runs.Chosen(0.1, 2)
    note = json.loads((tmp_path / "tuning" / "sft-1-1000.json").read_text())
    assert note["areas"] == {}


def test_shares_of_groups_with_several_hits_are_those_of_the_binomial_law():
    p, group = 0.3, 4
    wanted = 1 - 0.7**4 - 4 * 0.3 * 0.7**3
    assert several_hits(np.full(5, p), group) == pytest.approx(wanted)


def _middle(case: Case) -> float:
    """An all-zero share a little below that of an untrained policy."""
    world = world_of(case)
    rung = SmallRung("replay_mlp", world, 0.5, PLAN, (1e-3,))
    from sim.training.warm_start import all_zero_share, solver_prompts

    fresh = rung.policy.init(world.catalogue, world.sft.context.shape[1], (0,), torch.float64)
    share = all_zero_share(rung.policy, fresh, world, solver_prompts(world), PLAN.group)
    return round(float(share[0]) - 0.03, 3)


@pytest.mark.parametrize(("second", "wanted"), [(RISING, 1.0), (RISING[::-1], 0.0)])
def test_the_order_of_the_dear_rung_elsewhere_is_a_control(second, wanted):
    both = pl.concat([planted("dear", "one", RISING), planted("dear", "two", second)])
    found = elsewhere(both, "dear")
    said = decision_accuracy(found, ELSEWHERE, "dear", "area")
    assert (said["accuracy"], said["pairs"]) == (wanted, 2 * 15)
    # What is said of a data set is taken from the other one alone.
    other = found.filter(rung=ELSEWHERE, data="one", metric="area", first="a", second="f")
    assert other["difference"][0] == pytest.approx(
        -0.5 / np.std(RISING, ddof=1) * (2 * wanted - 1), rel=0.05
    )

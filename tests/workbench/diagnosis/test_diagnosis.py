"""What a diagnosis counts and predicts, against slow or independent ways to the same numbers."""

from __future__ import annotations

import json
import math
import subprocess
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import torch
from command_line import recast
from planted_logs import rollouts as planted
from scipy import integrate, stats

from recast.groups import RolloutGroups
from recast.regimes import REGIMES
from recast.stages.gate import Visit, greso, greso_carry, greso_start
from recast.theory.learnability import expected_signal
from workbench.commands.diagnose import TABLES
from workbench.diagnosis.counterfactual import DEFAULT, counterfactual, example_groups
from workbench.diagnosis.diagnosis import (
    diagnose,
    fit_of,
    over_training,
    predictions,
    regime_table,
    trend,
)
from workbench.diagnosis.logs.read import read_log
from workbench.diagnosis.savings import again, best_group, savings, skipping, smallest_group
from workbench.stats.beta_binomial import binomial_share, fit_hit_counts


def taken_apart(rows, tmp_path, **options):
    return diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")], **options))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    rows = planted.log(4, mean=0.1, spread=0.1, batch=24)
    return taken_apart(rows, tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(3)
    return rng.binomial(8, rng.beta(0.4, 3, 300)).tolist()


def test_the_exact_interval_of_a_share_is_scipys():
    for found, total in ((0, 5), (5, 5), (3, 17), (40, 100)):
        share = binomial_share(found, total)
        there = stats.binomtest(found, total).proportion_ci(method="exact")
        assert (share.low, share.high) == pytest.approx((there.low, there.high))
        assert share.value == found / total


def test_learnable_shares_of_a_fit_agree_with_its_regimes(counts):
    fit = fit_hit_counts(counts, 8)
    widths = [2, 3, 8, 64]
    curves = fit.learnable_curves(widths)
    for place, width in enumerate(widths):
        said = fit.learnable(width)
        shares = fit.regimes(width)
        assert said.value == pytest.approx(shares["single_hit"].value + shares["multi_hit"].value)
        assert curves[0, place] == pytest.approx(said.value)
        assert curves[:, place].max() == pytest.approx(said.high)
    assert fit.learnable(1).value == 0


def test_a_constant_group_comes_again_as_the_integral_over_the_beta_says(counts):
    fit = fit_hit_counts(counts, 8)
    a = fit.mean.value * (1 / fit.spread.value - 1)
    b = (1 - fit.mean.value) * (1 / fit.spread.value - 1)

    def expected(power: int) -> float:
        def inside(p: float) -> float:
            constant = (1 - p) ** 8 + p**8
            return stats.beta.pdf(p, a, b) * constant**power

        return integrate.quad(inside, 0, 1, limit=200)[0]

    assert fit.again_constant(8).value == pytest.approx(expected(2) / expected(1), rel=1e-3)


def test_the_smallest_group_is_the_first_that_a_search_finds(counts):
    fit = fit_hit_counts(counts, 8)
    for share in (0.1, 0.4):
        found = smallest_group(fit, share)
        slow = next(g for g in range(2, 1025) if fit.learnable(g).value >= share)
        assert found.value == slow
        assert found.low <= slow
        assert found.high is None or found.high >= slow
        assert str(slow) in found.words
    never = smallest_group(fit, 0.99)
    assert never.value is None
    assert f"{never.best:.1%} at G = {never.at}" in never.words


def test_prediction_at_the_logs_own_group_meets_what_was_counted(sparse):
    here = predictions(sparse).filter(task="all", group=8).row(0, named=True)
    late = sparse.late()
    counted = late.filter(pl.col("regime").is_in(["single_hit", "multi_hit"])).height / late.height
    assert here["learnable_low"] < counted < here["learnable_high"]
    assert here["cost"] == pytest.approx(8 / here["learnable"])
    assert here["cost_low"] < here["cost"] < here["cost_high"]
    assert here["pass_at_g"] == pytest.approx(1 - here["all_zero"])


def test_predictions_cover_the_truth_they_were_drawn_from(tmp_path):
    """Twenty logs at G = 4; the learnable share at G = 16 lies in its 95% interval most times."""
    a, b = 0.15 * 9, 0.85 * 9
    truth = 1 - sum(
        math.exp(math.lgamma(x + 16) - math.lgamma(x) + math.lgamma(10 - 1) - math.lgamma(25))
        for x in (a, b)
    )
    inside = 0
    for seed in range(20):
        rows = planted.log(50 + seed, mean=0.15, spread=0.1, group=4, steps=4)
        here = predictions(taken_apart(rows, tmp_path)).filter(task="all", group=16)
        inside += here["learnable_low"][0] <= truth <= here["learnable_high"][0]
    assert inside >= 17


def test_beam_sets_get_no_prediction(tmp_path):
    rows = [{**row, "beam_rank": place % 8} for place, row in enumerate(planted.log())]
    found = taken_apart(rows, tmp_path)
    assert predictions(found).is_empty()
    assert "beam sets" in best_group(found, 0.5)
    assert again(found).filter(pl.col("how") == "predicted by the fit").is_empty()


def test_savings_are_counted_costs(sparse):
    late = sparse.late()
    teaching = late.filter(pl.col("regime").is_in(["single_hit", "multi_hit"])).height
    table = {row["how"]: row for row in savings(sparse).iter_rows(named=True)}
    now = table["as now, every rollout updated"]
    assert now["cost"] == pytest.approx(8 * late.height / teaching)
    assert now["updated"] == now["cost"]
    assert table["drop rollouts without advantage"]["updated"] == 8
    full = table["dynamic sampling"]["rollouts_per_step"]
    assert full == pytest.approx(late.height / teaching)
    zero = late.filter(regime="all_zero").height
    repaired = table["repair all-zero groups (recast)"]
    assert repaired["cost"] == pytest.approx(8 * late.height / (teaching + zero))
    assert repaired["labelled"] == pytest.approx(zero / (teaching + zero))


def test_skipping_is_gresos_gate_replayed_prompt_by_prompt(tmp_path):
    rows = planted.log(7, mean=0.1, spread=0.3, repeat=True, steps=30)
    found = taken_apart(rows, tmp_path)
    replayed = skipping(found, seed=5)
    draws = np.random.default_rng(5).random(found.groups.height)
    hits = defaultdict(int)
    for row in rows:
        hits[row["step"], row["prompt"]] += row["reward"] > 0
    names = list(dict.fromkeys(row["prompt"] for row in rows))
    order = found.groups["prompt"].unique().sort().to_list()
    place = {name: order.index(found.groups["prompt"][i]) for i, name in enumerate(names)}
    state, skipped, lost = greso_start((), len(names)), 0, 0
    for step in range(1, 31):
        index = torch.tensor([place[name] for name in names])
        first = (step - 1) * len(names)
        visit = Visit(index, torch.from_numpy(draws[first : first + len(names)]), step == 1)
        keep = greso(visit, state)
        reward = torch.stack([(torch.arange(8) < hits[step, n]).double() for n in names])
        state = greso_carry(visit, RolloutGroups.of(reward), keep, state)
        skipped += int((~keep).sum())
        lost += sum(not kept and 0 < hits[step, n] < 8 for kept, n in zip(keep, names, strict=True))
    assert (replayed.skipped, replayed.lost) == (skipped, lost)
    assert skipped > 0
    assert replayed.repeated == found.groups.height - len(names)


def test_nothing_is_skipped_where_no_prompt_comes_twice(sparse):
    assert skipping(sparse).skipped == 0
    note = savings(sparse).filter(pl.col("how") == "GRESO-like skipping")["note"][0]
    assert "no prompt comes twice" in note


def test_how_often_a_constant_group_comes_again_is_counted(tmp_path):
    rows = planted.log(7, mean=0.1, spread=0.3, repeat=True, steps=30)
    before: dict[str, bool] = {}
    stayed = came = 0
    hits = defaultdict(int)
    for row in rows:
        hits[row["step"], row["prompt"]] += row["reward"] > 0
    for (_, prompt), k in hits.items():
        constant = k in (0, 8)
        if before.get(prompt):
            came += 1
            stayed += constant
        before[prompt] = constant
    said = again(taken_apart(rows, tmp_path)).row(0, named=True)
    assert (said["share"], said["visits"]) == (pytest.approx(stayed / came), came)


LOCAL = ["grpo", "dr_grpo", "maxrl", "repair_only", "recast", "contrast_only", "sft", "grpo_sft"]


@pytest.mark.parametrize("name", [*LOCAL, "ngrpo", "psr", "nsr", "pods", "dpo"])
def test_counterfactual_counts_are_the_expectation_over_the_logs_hits(name, sparse):
    """Two independent ways: the logged groups one by one, and the hit counts' distribution."""
    row = counterfactual(sparse, [name]).row(0, named=True)
    share = np.bincount(sparse.groups["hits"].to_numpy(), minlength=9) / sparse.groups.height
    expected = expected_signal(name, share.tolist(), 8)
    assert row["signal_count"] == pytest.approx(expected.count)
    assert row["learnable"] == pytest.approx(expected.learnable)
    assert row["groups"] == sparse.groups.height


def test_counterfactual_advantages_of_grpo_are_those_of_the_log(sparse):
    row = counterfactual(sparse, ["grpo_trl"]).row(0, named=True)
    mine = sparse.rollouts
    up = mine.filter(pl.col("outcome") > 0)["advantage"].sum()
    assert row["on_hits"] == pytest.approx(up / sparse.groups.height, rel=1e-6)
    assert row["on_misses"] == pytest.approx(-row["on_hits"], abs=1e-6)
    assert row["tokens"] == pytest.approx(3 * 8)


def test_what_a_strategy_needs_and_the_log_lacks_is_said(sparse):
    table = counterfactual(sparse, ["rank_penalty", "minionerec_sampling", "recast", "greso"])
    notes = dict(table.select("strategy", "note").iter_rows())
    assert "beam_rank" in notes["rank_penalty"]
    assert notes["minionerec_sampling"] == "samples 12 rollouts per group; the log has fewer"
    assert notes["recast"] == ""
    assert notes["greso"] == "without its gate"
    assert table["learnable"].null_count() == 2


def test_groups_of_unequal_size_and_no_target_work(tmp_path):
    rows = [
        {k: row[k] for k in ("step", "prompt", "reward")}
        for place, row in enumerate(planted.log())
        if place % 11
    ]
    table = counterfactual(taken_apart(rows, tmp_path), ["grpo", "recast"])
    natural = planted.regimes_of(rows)
    assert table["learnable"][0] == pytest.approx(natural["single_hit"] + natural["multi_hit"])
    assert table["note"][1] == "takes the ground truth to be known"
    assert table["tokens"].null_count() == 2


def test_one_group_of_each_regime_is_shown_slot_by_slot(sparse):
    shown = example_groups(sparse, ["grpo", "recast", "dynamic_sampling", "sft"])
    assert set(shown["regime"]) == set(sparse.groups["regime"])
    zero = shown.filter(regime="all_zero")
    assert zero.filter(strategy="grpo")["weight"].abs().sum() == 0
    assert zero.filter(strategy="grpo").height == 8
    assert zero.filter(strategy="dynamic_sampling").height == 8
    assert sorted(zero.filter(strategy="recast")["weight"])[::7] == [-1.0, 1.0]
    assert zero.filter(strategy="recast", origin="anchor").height == 1
    assert zero.filter(strategy="sft", origin="supervised").height == 1


def test_the_trend_is_only_called_one_when_it_is_beyond_chance(sparse, tmp_path):
    assert "does not move beyond chance" in trend(sparse)
    rising = [
        row
        for step in range(1, 13)
        for row in planted.changed(
            planted.log(step, steps=1, mean=0.1 + 0.06 * step),
            lambda row, step=step: {"step": step},
        )
    ]
    assert "Pass@1 rises" in trend(taken_apart(rising, tmp_path))
    assert "too few steps" in trend(taken_apart(planted.log(steps=2), tmp_path))


def test_distinct_predictions_are_counted_per_group(sparse):
    sets = defaultdict(set)
    for row in planted.log(4, mean=0.1, spread=0.1, batch=24):
        sets[row["step"], row["prompt"]].add(row["prediction"])
    mean = sum(map(len, sets.values())) / len(sets)
    assert regime_table(sparse)["distinct"][0] == pytest.approx(mean)
    assert over_training(sparse)["distinct"].null_count() == 0


# The command.


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return recast("diagnose", *map(str, arguments))


@pytest.fixture
def path(tmp_path):
    return planted.as_jsonl(planted.log(mean=0.02, batch=32), tmp_path / "log.jsonl")


def test_the_command_says_what_is_wrong_and_what_to_do(path):
    done = run(path, "--learnable", 0.06, "--details")
    assert done.returncode == 0
    for words in (
        "problem: starved",
        "Do: Read some answers of such groups first",
        "How many groups can teach anything?",
        "What would another G give?",
        "is the smallest that makes 6% of the groups learnable",
        "Had another strategy been used",
    ):
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("style", ["json", "csv"])
def test_every_table_comes_as_json_and_csv(table, style, path):
    done = run(path, "--table", table, "--format", style)
    assert done.returncode == 0
    if style == "json":
        assert json.loads(done.stdout)
    else:
        assert len(done.stdout.splitlines()) > 1


def test_unreadable_parts_are_named_and_the_rest_is_diagnosed(path):
    with path.open("a") as stream:
        stream.write("nonsense\n")
    done = run(path)
    assert done.returncode == 0
    assert "log.jsonl: row 3073: no valid JSON" in done.stderr
    assert "1 of 3,073 rows (0.03%) could not be read; the rest is diagnosed" in done.stderr
    (path.parent / "empty.csv").write_bytes(b"")
    path.write_text(path.read_text().removesuffix("nonsense\n"))
    beside = run(path, path.parent / "empty.csv")
    assert "warning: 1 file could not be read; the rest is diagnosed" in beside.stderr
    assert "problem: starved" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        ([], "Missing argument"),
        (["{log}", "--strategy", "grop"], "did you mean 'grpo'?"),
        (["{log}", "--html", "x.txt"], "expected a file that ends in .html"),
        (["{log}", "--log-format", "excel"], "'excel' is not one of"),
        (["{log}", "--learnable", "2"], "not in the range"),
        (["{empty}"], "the file is empty"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(arguments, said, path, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    done = run(*(a.format(log=path, empty=tmp_path / "empty.jsonl") for a in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_markup_in_a_task_is_printed_as_it_is(tmp_path):
    rows = [{**row, "task": f"[red]{row['task']}[/red] :smile:"} for row in planted.log()]
    done = run(planted.as_jsonl(rows, tmp_path / "log.jsonl"), "--details")
    assert "[red]video[/red] :smile:" in done.stdout


def test_the_html_file_stands_alone_and_escapes(path, tmp_path):
    pytest.importorskip("vl_convert")
    rows = [{**row, "task": "</script><b>x"} for row in planted.log(mean=0.02, batch=32)]
    target = tmp_path / "log.html"
    done = run(planted.as_jsonl(rows, path), "--html", target)
    assert done.returncode == 0
    text = target.read_text(encoding="utf-8")
    assert "What is wrong with this run" in text
    assert "starved" in text
    assert "</script><b>x" not in text
    assert ".. recast-workbench" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_every_default_strategy_has_a_row(sparse):
    table = counterfactual(sparse)
    assert table["strategy"].to_list() == list(DEFAULT)
    assert table["learnable"].null_count() == 0


def test_regime_shares_of_every_table_sum_to_one(sparse):
    for table in (regime_table(sparse), over_training(sparse)):
        total = table.select(pl.sum_horizontal(REGIMES)).to_series()
        assert total.to_list() == pytest.approx([1.0] * table.height)
    assert fit_of(sparse.groups).prompts == sparse.groups.height

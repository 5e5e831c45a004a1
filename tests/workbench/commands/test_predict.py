"""`recast predict` and `recast forecast` as a user meets them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import recast

from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction import saved
from workbench.studies.prediction.accuracy import LEAST_PAIRS
from workbench.studies.prediction.question import answer


def call(*arguments: str) -> str:
    done = recast(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str) -> str:
    """The one line that is said, with exit code 2."""
    done = recast(*arguments)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    return line


def test_alone_it_prints_decision_accuracy_by_rung_and_metric():
    table = pl.read_csv(io.StringIO(call("predict", "--format", "csv")))
    assert {"cheap", "dear", "metric", "accuracy", "low", "high", "pairs"} <= set(table.columns)
    known = table.drop_nulls("accuracy")
    assert ((known["low"] <= known["accuracy"]) & (known["accuracy"] <= known["high"])).all()
    assert (known["pairs"] >= LEAST_PAIRS).all()
    said = call("predict")
    assert saved.dearest() in said
    assert "on the other data sets alone has" in said


def test_a_rung_speaks_of_language_models_only_where_its_record_allows_it():
    for row in saved.accuracies().filter(dear=saved.dearest()).iter_rows(named=True):
        if row["metric"] != "all":
            good = row["accuracy"] is not None and row["accuracy"] >= 0.9 and row["data_sets"] > 1
            good = good and row["brier"] < 0.25
            assert saved.worth(row["cheap"], row["metric"])[0] == good


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--study",), "give its data"),
        (("--data", "a", "--log", "b"), "give one of them"),
        (("--data", "a", "--rung", "theory"), "give its log with --log"),
        (("--data", "a", "--group", "1000"), "expected 2 to 128"),
        (("--data", "/nowhere"), "nowhere"),
        (("--data", "a", "--data", "b"), "need --study"),
        (("--data", "a", "--strategy", "grop"), "did you mean 'grpo'"),
        (("--log", "a", "--rung", "replay_mlp"), "a log has no catalogue"),
        (("--rung", "pretrained"), "they need --study"),
        (("--data", "a", "--start", "b"), "recast lm predict DIR --start MODEL"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(arguments, says):
    assert says in refused("predict", *arguments)


def test_it_ranks_a_made_up_folder_and_says_what_its_word_is_worth(data_folder, tmp_path):
    said = call(
        *("predict", "--data", str(data_folder), "--all-zero", "0.6", "--group", "8"),
        *("--seeds", "2", "--strategy", "sft", "--strategy", "grpo", "--out", str(tmp_path)),
    )
    assert "Record of replay_mlp on area" in said
    assert "Cost:" in said


def sparse_log(folder: Path, groups: int, rate: float = 0.01, group: int = 32) -> Path:
    """A folder of rollouts with a reward of 1 for a hit; hits lie on a few easy prompts."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "rollouts.jsonl").open("w") as stream:
        for number in range(groups):
            chance = 10 * rate if number % 10 == 0 else 0.0
            for hit in rng.random(group) < chance:
                row = {"step": 1, "prompt": f"user {number}", "reward": float(hit)}
                stream.write(json.dumps(row | {"completion": f"item {rng.integers(999)}"}) + "\n")
    return folder


def test_a_log_is_ranked_by_theory_from_its_hits_without_training(tmp_path):
    place = str(sparse_log(tmp_path / "log", 300))
    said = call("predict", "--log", place, "--metric", "pass_at_1")
    assert "Record of theory_counted on pass_at_1: it ordered" in said
    assert "no probability" not in said
    table = call("predict", "--log", str(tmp_path / "log"), "--format", "csv", "--strategy", "sft",
                 "--strategy", "grpo", "--metric", "pass_at_1")  # fmt: skip
    pairs = pl.read_csv(io.StringIO(table))
    assert pairs["probability"].is_between(0.5, 1).all()
    assert set(pairs["first"]) | set(pairs["second"]) == {"start", "sft", "grpo"}


def test_a_ranking_is_held_against_what_was_run_afterwards(tmp_path):
    place, file = str(sparse_log(tmp_path / "log", 300)), tmp_path / "results.csv"
    question = ("predict", "--log", place, "--metric", "pass_at_1", "--followed", str(file))
    rows = [f"{name},{seed},{base + seed / 100}" for name, base in (("sft", 0.9), ("start", 0.1))
            for seed in range(4)]  # fmt: skip
    file.write_text("\n".join(["strategy,seed,pass_at_1", *rows]))
    said = call(*question)
    assert "Held against 1 pairs that were run: 1 differ for sure" in said
    assert "1 of them in this order; of all pairs 1." in said
    file.write_text("\n".join(["strategy,seed,value", *rows, rows[0]]))
    assert "sft, seed 0 has more than one row" in refused(*question)
    file.write_text("method,result\nsft,1")
    assert "expected CSV with columns strategy, seed and pass_at_1 or value" in refused(*question)


@pytest.mark.parametrize(
    ("groups", "rate", "group", "says"),
    [
        (40, 0.01, 32, "40 groups say little"),
        (300, 0.05, 32, "of these rollouts hit; the record is of"),
        (300, 0.01, 8, "Groups of 8; the record is of 32"),
    ],
)
def test_outside_its_record_theory_ranks_without_a_probability(tmp_path, groups, rate, group, says):
    said = call("predict", "--log", str(sparse_log(tmp_path / "log", groups, rate, group)))
    assert says in said
    assert "no probability is stated" in said


def test_a_log_without_a_hit_ranks_nothing(tmp_path):
    place = str(sparse_log(tmp_path / "log", 20, 0.0))
    assert "hit" in refused("predict", "--log", place, "--threshold", "0.5")


def test_probabilities_are_kept_back_where_the_record_is_poor(monkeypatch):
    values = np.random.default_rng(0).normal(size=(3, len(LM_METRICS), 4, 20))
    users = [str(i) for i in range(20)]
    monkeypatch.setattr(saved, "worth", lambda *_: (False, "ordered few alike"))
    poor = answer("replay_mlp", "area", ("a", "b", "c"), values, users)
    assert poor.pairs["probability"].null_count() == 3
    monkeypatch.setattr(saved, "worth", lambda *_: (True, "ordered all alike"))
    monkeypatch.setattr(saved, "slope_of", lambda *_: 2.0)
    good = answer("replay_mlp", "area", ("a", "b", "c"), values, users)
    assert (good.pairs["probability"] >= 0.5).all()
    assert good.table["value"].is_sorted(descending=True)


CURVE = "budget,value\n0,0.05\n10,0.06\n20,0.068\n30,0.072\n40,0.075\n"


def test_a_forecast_gives_an_interval_a_chance_and_its_record(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(CURVE)
    said = call("forecast", str(path), "--end", "120", "--format", "csv")
    row = pl.read_csv(io.StringIO(said)).row(0, named=True)
    assert row["low"] < row["forecast"] < row["high"]
    assert 0 < row["chance"] < 1
    assert "Is it worth going on?" in call("forecast", str(path), "--end", "120")
    record = pl.read_csv(io.StringIO(call("forecast", "--format", "csv")))
    assert (record.filter(of="all")["coverage"] >= 0.85).all()


@pytest.mark.parametrize(
    ("text", "end", "says"),
    [
        (CURVE, "40", "not beyond the last budget"),
        ("budget,value\n0,1\n1,2\n", "9", "2 rows; expected 4"),
        ("a,b\n1,2\n", "9", "number columns budget and value"),
        ("budget,value\n0,1\n2,1\n1,1\n3,1\n", "9", "rise from 0"),
        ("budget,value\n0,1\n2,x\n", "9", "number columns"),
        ("budget,value\n1,1e307\n2,2e307\n3,3e307\n4,4e307\n", "9", "not finite, or beyond"),
    ],
)
def test_a_curve_that_cannot_be_read_is_one_line(tmp_path, text, end, says):
    path = tmp_path / "curve.csv"
    path.write_text(text)
    assert says in refused("forecast", str(path), "--end", end)

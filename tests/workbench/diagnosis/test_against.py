"""Two runs told apart, finding by finding, with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import recast
from foreign_logs import scalars
from planted_logs import rollouts as planted

from workbench.diagnosis.against import difference, findings_apart, shares_apart
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.findings.scalars import take_apart as run_of
from workbench.diagnosis.logs.read import read_log
from workbench.diagnosis.logs.scalars import read_scalars


def taken_apart(rows, path):
    return diagnose(read_log([planted.as_jsonl(rows, path)]))


def test_the_findings_of_one_run_stand_beside_the_others_silence(tmp_path):
    healthy = taken_apart(planted.log(), tmp_path / "a.jsonl")
    starved = taken_apart(planted.log(mean=0.02, batch=32), tmp_path / "b.jsonl")
    rows = {row["finding"]: row for row in findings_apart(healthy, starved).iter_rows(named=True)}
    assert rows["starved"]["a"] == "-"
    assert rows["starved"]["b"] == "problem"
    assert "no hit" in rows["starved"]["b_says"]
    assert rows["starved"]["a_says"] == ""


def test_a_check_that_one_log_cannot_run_is_not_called_silent(tmp_path):
    full = planted.log()
    raw = [{**row, "advantage": row["reward"]} for row in full]
    bare = [{k: row[k] for k in ("step", "prompt", "reward")} for row in full]
    one, other = taken_apart(raw, tmp_path / "a.jsonl"), taken_apart(bare, tmp_path / "b.jsonl")
    rows = {row["finding"]: row for row in findings_apart(one, other).iter_rows(named=True)}
    assert rows["no_group_baseline"]["a"] == "note"
    assert rows["no_group_baseline"]["b"] == "not checked"


@pytest.mark.parametrize("same", [True, False])
def test_the_interval_of_a_difference_leaves_zero_out_only_where_runs_differ(same, tmp_path):
    """Twenty pairs of runs; the interval of equal ones may miss 0 once in twenty."""
    apart = 0
    for seed in range(20):
        one = taken_apart(planted.log(seed, steps=6), tmp_path / "a.jsonl")
        other = taken_apart(
            planted.log(100 + seed, steps=6, mean=0.4 if same else 0.75), tmp_path / "b.jsonl"
        )
        shares = shares_apart(one, other).iter_rows(named=True)
        row = next(row for row in shares if row["what"] == "pass_at_1")
        assert row["low"] < row["difference"] < row["high"]
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        apart += row["apart"] == "yes"
    assert apart <= 4 if same else apart == 20


@pytest.mark.parametrize("counts", [(4, 13), (30, 5), (200, 200)])
def test_the_interval_of_a_difference_covers_it_95_times_in_100(counts):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        first, last = rng.normal(0, 1, counts[0]), rng.normal(0.7, 3, counts[1])
        gap, half = difference(first, last)
        covered += abs(gap - 0.7) <= half
    assert 0.93 <= covered / 2000 <= 0.97


def test_what_a_weightier_finding_stands_for_is_not_called_absent(tmp_path):
    dead = [{**row, "reward": 0.0} for row in planted.log(1)]
    one = taken_apart(dead, tmp_path / "a.jsonl")
    other = taken_apart(planted.log(mean=0.02, batch=32), tmp_path / "b.jsonl")
    rows = {row["finding"]: row for row in findings_apart(one, other).iter_rows(named=True)}
    assert (rows["diluted_denominator"]["a"], rows["constant_reward"]["b"]) == ("explained", "-")


def test_two_healthy_runs_have_no_empty_table(tmp_path):
    for name in "ab":
        planted.as_jsonl(planted.log(ord(name)), tmp_path / name)
    done = recast("diagnose", str(tmp_path / "a"), "--against", str(tmp_path / "b"))
    assert "wrong with either run" in done.stdout


@pytest.mark.parametrize("more", [("--simulate",), ("--details",), ("--html", "x.html"),
                                  ("--table", "savings")])  # fmt: skip
def test_what_two_runs_side_by_side_have_not_got_is_refused(more, tmp_path):
    path = str(planted.as_jsonl(planted.log(steps=3), tmp_path / "a.jsonl"))
    done = recast("diagnose", path, "--against", path, *more)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --against: no --")


def test_the_command_shows_both_runs(tmp_path):
    for name, mean in (("a", 0.4), ("b", 0.02)):
        planted.as_jsonl(planted.log(mean=mean, batch=32), tmp_path / f"{name}.jsonl")
    done = recast("diagnose", str(tmp_path / "a.jsonl"), "--against", str(tmp_path / "b.jsonl"))
    assert done.returncode == 0
    for words in ("A: generic log", "B: generic log", "starved, B:", "pass_at_1"):
        assert words in done.stdout


def test_scalars_are_told_apart_from_scalars_and_from_rollouts(tmp_path):
    scalars.state_of_a_good_run(tmp_path / "a")
    scalars.state_of_an_entropy_that_goes(tmp_path / "b")
    one, other = (
        run_of(read_scalars([tmp_path / name / scalars.STATE.path])) for name in ("a", "b")
    )
    rows = {row["finding"]: row for row in findings_apart(one, other).iter_rows(named=True)}
    assert (rows["entropy_collapse"]["a"], rows["entropy_collapse"]["b"]) == ("-", "problem")
    shares = {row["what"]: row for row in shares_apart(one, other).iter_rows(named=True)}
    assert shares["entropy"]["apart"] == "yes"
    assert shares["entropy"]["difference"] < 0
    assert shares["truncated"]["apart"] == "no"
    rollouts = diagnose(read_log([planted.as_jsonl(planted.log(), tmp_path / "log.jsonl")]))
    mixed = {row["what"] for row in shares_apart(rollouts, one).iter_rows(named=True)}
    assert {"reward", "zero_spread"} <= mixed

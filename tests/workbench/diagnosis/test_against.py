"""Two runs told apart, finding by finding, with intervals."""

from __future__ import annotations

import planted
import pytest
from click.testing import CliRunner

from workbench.cli import cli
from workbench.diagnosis.against import findings_apart, shares_apart
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.logs.read import read_log


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


def test_the_command_shows_both_runs(tmp_path):
    for name, mean in (("a", 0.4), ("b", 0.02)):
        planted.as_jsonl(planted.log(mean=mean, batch=32), tmp_path / f"{name}.jsonl")
    done = CliRunner().invoke(
        cli, ["diagnose", str(tmp_path / "a.jsonl"), "--against", str(tmp_path / "b.jsonl")]
    )
    assert done.exit_code == 0
    for words in ("A: generic log", "B: generic log", "starved, B:", "pass_at_1"):
        assert words in done.stdout

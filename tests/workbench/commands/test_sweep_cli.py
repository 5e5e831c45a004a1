"""`recast sweep`, `compare` and `store` as a user meets them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line
import numpy as np
import polars as pl
import pytest
from sweeping import TOML, gone, payload, payload_bytes

from workbench.analysis.compare import compare, parse_side
from workbench.commands.output import progress_bar
from workbench.errors import UserError
from workbench.store.runs import Store

COMMAND = [sys.executable, "-c", "from workbench.cli import main; main()"]


@pytest.fixture
def recast():
    """Run a command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = command_line.recast(*arguments)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.toml").write_text(TOML)
    (folder / "fair.toml").write_text(TOML + "[tune]\nlr = [0.001, 0.01]\nextend = 0\n")
    done = subprocess.run(
        [*COMMAND, "sweep", "fair.toml", "--format", "json", "--executor", "serial"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "first.json").write_text(done.stdout)
    (folder / "first.err").write_text(done.stderr)
    return folder


@pytest.fixture
def there(finished, monkeypatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


def test_a_sweep_prints_one_row_per_cell_and_strategy_at_its_own_best_rate(there):
    rows = json.loads((there / "first.json").read_text())
    assert [(r["train.group"], r["strategy"]) for r in rows] == [
        (group, name) for group in (4, 8) for name in ("grpo", "recast", "sft")
    ]
    last = payload(there / "runs").filter(split="validation", step=4)
    for row in rows:
        mine = last.filter(
            (pl.col("train.group") == row["train.group"]) & (pl.col("strategy") == row["strategy"])
        )
        means = mine.group_by("lr").agg(pl.col("area").mean())
        assert row["lr"] == means.sort("area")["lr"][-1]


def test_progress_goes_to_stderr_in_plain_lines_that_end_at_100_percent(there):
    lines = (there / "first.err").read_text().splitlines()
    assert 5 <= len(lines) <= 12
    assert lines[0].startswith("  0% of 144 run-steps")
    assert lines[-1].startswith("100% of 144 run-steps")
    assert "\r" not in "".join(lines)


def test_a_second_count_has_a_clock_of_its_own(monkeypatch, capsys):
    """Tuning took 900 s; an eighth of the report took 30 s. Then: half was stored already."""
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    now = [0.0]
    with progress_bar("parts") as show:
        for at, done, total in ((0, 20, 40), (900, 40, 40), (901, 0, 80), (931, 10, 80)):
            now[0] = at
            show(done, total, "work")
        for at, done, total in ((1000, 50, 100), (1050, 60, 100)):
            now[0] = at
            show(done, total, "work")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "100% of 40 parts, about 0 s left: work"
    assert lines[2] == "  0% of 80 parts: work"
    assert lines[3] == " 12% of 80 parts, about 4 min left: work"
    assert lines[5] == " 60% of 100 parts, about 3 min left: work"


def test_the_same_command_again_trains_nothing_and_prints_the_same(there, recast):
    before = Store(there / "runs").files()
    code, out, err = recast("sweep", "fair.toml", "--format", "json")
    assert (code, err) == (0, "")
    assert out == (there / "first.json").read_text()
    assert Store(there / "runs").files() == before
    assert "0 trained just now" in recast("sweep", "fair.toml")[1]


def test_a_dry_run_counts_runs_estimates_time_and_trains_nothing(there, recast, tmp_path):
    code, out, _ = recast("sweep", "tiny.toml", "--dry-run", "--store", str(tmp_path / "new"))
    assert code == 0
    assert "36 runs in 2 cells, 36 missing" in out
    assert "about " in out
    assert not (tmp_path / "new").exists()
    assert "36 runs in 2 cells, 0 missing" in recast("sweep", "tiny.toml", "--dry-run")[1]


def test_any_other_field_of_a_sweep_can_be_set(there, recast):
    more = ("--set", "train.batch=3", "--set", "policy.width=S", "--dry-run")
    assert "36 runs in 2 cells, 36 missing" in recast("sweep", "tiny.toml", *more)[1]
    code, out, err = recast("sweep", "tiny.toml", "--set", "train.group=4", "--dry-run")
    assert (code, out) == (2, "")
    assert err == "error: --set train.group: the sweep's grid varies it; expected another field\n"
    code, _, err = recast("sweep", "tiny.toml", "--set", "train.bath=4", "--dry-run")
    assert (code, err.count("\n")) == (2, 1)
    assert "train.bath: unknown key; did you mean" in err


def test_the_tuning_table_shows_every_tried_rate_and_the_choice(there, recast):
    _, out, _ = recast("sweep", "fair.toml", "--show", "tuning", "--format", "csv")
    table = pl.read_csv(io.StringIO(out))
    assert table.height == 2 * 3 * 2
    assert table.filter("chosen").height == 6
    assert set(table.columns) >= {"train.group", "strategy", "lr", "runs", "value", "chosen"}


def test_one_flag_makes_a_sweep_fair_and_one_takes_the_tuning_away(there, recast):
    _, untuned, _ = recast("sweep", "tiny.toml", "--format", "csv")
    assert pl.read_csv(io.StringIO(untuned)).height == 12
    _, off, _ = recast("sweep", "fair.toml", "--no-tune", "--dry-run", "--show", "runs")
    assert "0.003" not in off
    _, out, _ = recast("sweep", "tiny.toml", "--tune", "--dry-run", "--format", "csv")
    assert sorted(pl.read_csv(io.StringIO(out))["lr"].unique()) == [
        0.0003,
        0.001,
        0.003,
        0.01,
        0.03,
    ]


def test_recast_run_shares_runs_with_a_sweep_of_the_same_cell(there, recast):
    (there / "one.toml").write_text(TOML.split("[grid]")[0].replace('name = "tiny"', ""))
    before = Store(there / "runs").files()
    code, out, err = recast("run", "--preset", "one.toml", "--format", "json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)) == 4
    assert Store(there / "runs").files() == before


def test_compare_equals_a_difference_worked_by_hand(there, recast):
    code, out, _ = recast(
        "compare", "recast@lr=0.01", "grpo@lr=0.01", "--metric", "greedy", "--format", "json"
    )
    assert code == 0
    rows = json.loads(out)
    last = payload(there / "runs").filter(split="test", slice="all", step=4, lr=0.01)
    for row in rows:
        cell = last.filter(pl.col("train.group") == row["train.group"]).sort("seed")
        one, two = (cell.filter(strategy=name) for name in ("recast", "grpo"))
        assert one["seed"].to_list() == two["seed"].to_list() == [0, 1, 2]
        assert row["difference"] == pytest.approx(
            float(np.mean(one["greedy"].to_numpy() - two["greedy"].to_numpy())), abs=1e-15
        )
        assert row["ratio_rollouts"] == 1.0
        assert row["ratio_updated_rows"] == one["updated_rows"].sum() / two["updated_rows"].sum()
        assert row["n"] == 3
        assert row["p_corrected"] >= row["p"]
    assert [row["train.group"] for row in rows] == [4, 8]


def test_compare_pairs_two_values_of_a_field(there, recast):
    code, out, _ = recast("compare", "grpo@train.group=8", "grpo@train.group=4", "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert {row["ratio_rollouts"] for row in rows} == {2.0}
    assert {row["n"] for row in rows} == {3}


def test_compare_in_words_names_sides_correction_and_caution(there, recast):
    _, out, _ = recast("compare", "recast", "grpo")
    for text in (
        "recast minus grpo",
        "max-T",
        "none can be below",
        "ratio_rollouts",
        "p_corrected",
        "3 seeds",
    ):
        assert text in out


BAD_SIDES = {
    "unknown strategy": (["grop", "sft"], "did you mean 'grpo'"),
    "unknown field": (["grpo@train.grop=4", "sft"], "did you mean 'train.group'"),
    "absent value": (["grpo@train.group=5", "sft"], "there are 4, 8"),
    "no value": (["grpo@train.group", "sft"], "STRATEGY@field=value"),
    "nothing pairs": (["grpo@train.group=4", "sft@lr=0.01@seed=1"], "unknown field 'seed'"),
    "no such slice": (["grpo", "sft", "--slice", "new"], "slice 'new'"),
    "no such store": (["grpo", "sft", "--store", "nowhere"], "no such folder"),
    "unknown metric": (["grpo", "sft", "--metric", "accuracy"], "accuracy"),
}


@pytest.mark.parametrize("name", BAD_SIDES)
def test_a_bad_comparison_is_one_line_and_exit_code_2(name, there, recast):
    arguments, expected = BAD_SIDES[name]
    code, out, err = recast("compare", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err


def test_a_side_with_two_runs_of_a_seed_is_refused():
    frame = pl.DataFrame(
        {
            "run": ["a", "b", "c"],
            "cell": ["x", "y", "x"],
            "world.noise": [0.1, 0.2, 0.1],
            "strategy": ["grpo", "grpo", "sft"],
            "lr": [0.1] * 3,
            "seed": [0] * 3,
            "step": [1] * 3,
            "split": ["test"] * 3,
            "slice": ["all"] * 3,
            "pass_at_1_matched": [0.1, 0.2, 0.3],
        }
    )
    with pytest.raises(UserError, match="more than one run of a seed"):
        compare(
            frame,
            parse_side("grpo@lr=0.1@world.noise=0.1"),
            parse_side("grpo@lr=0.1"),
            ["pass_at_1_matched"],
        )


def test_check_names_damage_sets_it_aside_and_the_sweep_mends_it(there, recast, tmp_path):
    shutil.copytree(there / "runs", tmp_path / "s")
    store = Store(tmp_path / "s")
    victims = store.files()[3:5]
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:-7])
    code, out, err = recast("store", "check", str(store.root), "--format", "json")
    assert (code, err) == (1, "")
    assert {row["file"] for row in json.loads(out)} == {str(victim) for victim in victims}
    assert recast("store", "check", str(store.root))[1] == "34 runs sound, 0 files damaged\n"
    assert recast("sweep", "fair.toml", "--store", str(store.root), "--executor", "serial")[0] == 0
    assert payload_bytes(store.root) == payload_bytes(there / "runs")


def test_a_truncated_file_blocks_no_reader_and_each_names_it(there, recast, tmp_path):
    shutil.copytree(there / "runs", tmp_path / "s")
    store = Store(tmp_path / "s")
    victim = store.files()[0]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    for command in (
        ["store", "export", str(store.root), str(tmp_path / "all.csv")],
        ["compare", "recast", "grpo", "--store", str(store.root)],
    ):
        code, _, err = recast(*command)
        assert code == 0
        assert str(victim) in err
        assert len(err.splitlines()) == 1
    assert pl.read_csv(tmp_path / "all.csv")["run"].n_unique() == 35


def test_a_bad_sweep_is_one_line_exit_code_2_and_leaves_the_store_alone(there, recast, tmp_path):
    (tmp_path / "bad.toml").write_text(TOML.replace("[4, 8]", "[4, 0]"))
    before = Store(there / "runs").files()
    code, out, err = recast("sweep", str(tmp_path / "bad.toml"))
    assert (code, out) == (2, "")
    assert err == ("error: grid.train.group: got 0; expected an integer >= 1 and <= 4096\n")
    assert Store(there / "runs").files() == before


def test_ctrl_c_ends_a_sweep_with_one_line_no_orphan_and_every_finished_run(there, tmp_path):
    (tmp_path / "long.toml").write_text(TOML.replace("steps = 4", "steps = 60"))
    process = subprocess.Popen(
        [*COMMAND, "sweep", "long.toml", "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if int(line[:3]) >= 40:  # at most a third is in flight
            os.killpg(process.pid, signal.SIGINT)
            break
    lines += process.stderr.readlines()
    process.stderr.close()
    assert process.wait() == 130
    assert [x for x in lines if "%" not in x] == [
        "interrupted; finished runs are kept, the same command resumes\n"
    ]
    assert gone(process.pid), "a worker outlived its sweep"
    held = Store(tmp_path / "runs").contents()
    assert len(held.good) >= 3
    assert not held.damaged

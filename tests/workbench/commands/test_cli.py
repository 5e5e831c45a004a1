"""The command line as a user meets it: real runs in a temporary folder, one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command_line import recast
from sweeping import tiny_text

from sim.kernel import machine_code
from workbench.store.runs import Store

SPEC = tiny_text(["grpo", "recast", "sft"], 2, train__lr=[0.001, 0.01])


def test_the_entry_point_reports_a_failure_to_the_shell(tmp_path):
    command = [
        sys.executable,
        "-c",
        "from workbench.cli import main; main()",
        "run",
        "--preset",
        "x",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(SPEC)
    done = recast("run", "--preset", "tiny.toml", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "first.json").write_text(done.stdout)
    return folder


@pytest.mark.drill
def test_a_run_needs_no_home_that_can_be_written(finished, tmp_path):
    """Compiled code goes below the folder of temporary files; there lies what this machine has, so
    that nothing is compiled twice."""
    assert machine_code.FOLDER is not None
    kept = tmp_path / f"recast-workbench-{os.getuid()}" / "recast-workbench"
    kept.mkdir(parents=True, mode=0o700)
    shutil.copytree(machine_code.FOLDER, kept / machine_code.FOLDER.name)
    before = {path.name for path in (kept / machine_code.FOLDER.name).iterdir()}
    homeless = {"HOME": "/proc/none", "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "/proc/none"}
    left_out = ("NUMBA_CACHE_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in left_out} | homeless
    (tmp_path / "tiny.toml").write_text(SPEC)
    command = [sys.executable, "-m", "workbench.cli", "run", "--preset", "tiny.toml"]
    done = subprocess.run(
        [*command, "--format", "json"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "compiling" in done.stderr) == (0, False), done.stderr
    assert done.stdout == (finished / "first.json").read_text()
    assert {path.name for path in (kept / machine_code.FOLDER.name).iterdir()} == before


def test_a_run_prints_every_strategy_and_stores_every_run(finished):
    rows = json.loads((finished / "first.json").read_text())
    assert [r["strategy"] for r in rows] == ["start", "grpo", "recast", "sft"]
    assert rows[1]["rollouts"] == 4 * 8 * 8
    assert rows[3]["rollouts"] == 0
    assert len(Store(finished / "runs").files()) == 3 * 2 * 2


def test_the_same_command_again_trains_nothing_and_prints_the_same(finished):
    before = Store(finished / "runs").files()
    again = recast("run", "--preset", "tiny.toml", "--format", "json", cwd=finished)
    assert again.stdout == (finished / "first.json").read_text()
    assert Store(finished / "runs").files() == before


def test_the_text_table_shows_ceilings_and_says_where_the_runs_are(finished):
    done = recast("run", "--preset", "tiny.toml", cwd=finished)
    for word in ("ceiling_pass_at_1", "pass_at_1_matched", "runs: 12 in runs", "skipped_prompts"):
        assert word in done.stdout


def test_export_writes_one_tidy_file(finished):
    assert recast("store", "export", "runs", "all.parquet", cwd=finished).returncode == 0
    assert pl.read_parquet(finished / "all.parquet")["run"].n_unique() == 12


def test_a_flipped_byte_is_named(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "runs", tmp_path / "runs")
    victim = Store(tmp_path / "runs").files()[3]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    done = recast("store", "export", "runs", "all.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "11 runs in all.parquet\n")
    assert victim.stem in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_replay_reports_seen_and_new_targets_apart(data_folder, tmp_path):
    (tmp_path / "r.toml").write_text(
        SPEC.replace("0.55", "0.61").replace("[world]", '[world]\nkind = "replay"')
    )
    done = recast(
        "run", "--preset", "r.toml", "--data", str(data_folder), "--strategy", "sft", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "19 items, 18 distinct semantic IDs, 1 collisions" in done.stdout
    assert "temporal, not user-disjoint: 60 of 60" in done.stdout
    assert "seen" in done.stdout
    assert "new" in done.stdout


BAD_FLAGS = {
    "no such preset": (["--preset", "quik"], "did you mean 'quick'"),
    "no such strategy": (["--strategy", "grop"], "did you mean 'grpo'"),
    "unknown stage": (["--strategy", "credit=gpro"], "did you mean 'grpo'"),
    "unknown option": (["--strategy", "credit=grpo(x=1)"], "takes eps"),
    "learns nothing": (["--strategy", "credit=none"], "learns nothing"),
    "group of zero": (["--group", "0"], "'--group': 0 is not in the range 1<=x<=4096"),
    "negative group": (["--group", "-3"], "'--group': -3 is not in the range"),
    "steps of zero": (["--steps", "0"], "'--steps': 0 is not in the range"),
    "no seeds": (["--seeds", "0"], "'--seeds': 0 is not in the range"),
    "a seed that is text": (["--seeds", "many"], "many"),
    "a NaN rate": (["--lr", "nan"], "'--lr': nan is not a finite number"),
    "a negative rate": (["--lr", "-1"], "'--lr': -1.0 is not in the range"),
    "share above one": (["--all-zero", "1.5"], "'--all-zero': 1.5 is not in the range"),
    "share NaN": (["--all-zero", "nan"], "'--all-zero': nan is not a finite number"),
    "unknown metric": (["--tune-metric", "accuracy"], "train.tune_metric"),
    "unknown world": (["--world", "mars"], "mars"),
    "replay without data": (["--world", "replay"], "--data"),
    "missing data": (["--world", "replay", "--data", "nowhere"], "nowhere"),
    "unwritable store": (["--store", "/proc/none"], "not a writable folder"),
    "unknown flag": (["--colour"], "--colour"),
    "unknown format": (["--format", "xml"], "xml"),
    "unknown executor": (["--executor", "threads"], "threads"),
    "no workers": (["--workers", "0"], "--workers"),
    "a store that is a file": (["--store", "tiny.toml"], "not a writable folder"),
    "a store with a NUL": (["--store", "a\0b"], "no Unicode text"),
    "a preset that is a folder": (["--preset", "runs"], "not a packaged preset nor a file"),
    "a width of many digits": (["--group", str(10**30)], "is not in the range 1<=x<=4096"),
    "data for no world": (["--world", "replay", "--data", "tiny.toml"], "no such folder"),
    "an empty data folder": (["--world", "replay", "--data", "runs"], "runs"),
}


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_a_bad_flag_is_one_line_and_exit_code_2(name, finished):
    flags, expected = BAD_FLAGS[name]
    base = [] if "--world" in flags or "--preset" in flags else ["--preset", "tiny.toml"]
    before = Store(finished / "runs").files()
    done = recast("run", *base, *flags, cwd=finished)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "run-steps" not in line]
    assert len(errors) == 1
    assert expected in errors[0]
    assert Store(finished / "runs").files() == before


BAD_SPECS = {
    "unknown key": ("seeds = 2", "seed = 2", "did you mean 'seeds'"),
    "unknown nested key": ("group = 8", "grop = 8", "did you mean 'group'"),
    "broken TOML": ("seeds = 2", "seeds = ", "not readable TOML"),
    "wrong type": ("steps = 4", 'steps = "x"', "train.steps"),
    "empty strategies": ('["grpo", "recast", "sft"]', "[]", "strategies"),
    "twice": ('["grpo", "recast", "sft"]', '["sft", "sft"]', "twice"),
    "NaN width": ("width = 8", "width = nan", "policy.width"),
    "a list of tables": ("[policy]", "[[policy]]", "expected a table"),
    "a number that is a table": ("seeds = 2", "seeds = {n = 2}", "seeds"),
    "a list for a number": ("width = 8", "width = [8]", "policy.width"),
    "an unknown world": ("items = 32", 'items = 32\nkind = "mars"', "'synthetic', 'replay'"),
    "infinite rate": ("lr = [0.001, 0.01]", "lr = [inf]", "train.lr.0"),
    "empty rates": ("lr = [0.001, 0.01]", "lr = []", "train.lr"),
    "the same key twice": ("seeds = 2", "seeds = 2\nseeds = 3", "not readable TOML"),
    "a share out of reach": ("all_zero = 0.55", "all_zero = 0.9999", "start.all_zero"),
    "a key with a line break": ("seeds = 2", 'seeds = 2\n"a\\nb" = 1', "unknown key"),
    "more prompts than the world has": ("batch = 8", "batch = 4097", "train.batch"),
    "batch too large": ("batch = 8", "batch = 99999", "train.batch"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_a_bad_spec_is_one_line_and_exit_code_2(name, tmp_path):
    old, new, expected = BAD_SPECS[name]
    (tmp_path / "bad.toml").write_text(SPEC.replace(old, new))
    done = recast("run", "--preset", "bad.toml", cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "run-steps" not in line]
    assert len(errors) == 1
    assert expected in errors[0]


def _rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


BAD_FOLDERS = {
    "missing column": (
        lambda d: _rewrite(d / "test" / "tiny.csv", "item_sid\n", "sid\n"),
        "item_sid",
    ),
    "outside codebook": (
        lambda d: _rewrite(d / "index" / "tiny.index.json", "<c_1>", "<c_999>"),
        "outside the codebook",
    ),
    "not in index": (
        lambda d: _rewrite(d / "valid" / "tiny.csv", "<a_2>", "<a_9>"),
        "not in the index",
    ),
    "broken history": (lambda d: _rewrite(d / "train" / "tiny.csv", "['", "[["), "row 2"),
    "broken index": (lambda d: (d / "index" / "tiny.index.json").write_text("{"), "index"),
    "no index": (lambda d: (d / "index" / "tiny.index.json").unlink(), "expected exactly one"),
    "two test files": (
        lambda d: (d / "test" / "more.csv").write_text("user_id,history_item_sid,item_sid\n"),
        "expected exactly one",
    ),
    "not text": (lambda d: (d / "valid" / "tiny.csv").write_bytes(b"\xff\xfe\x00"), "tiny.csv"),
    "an empty table": (lambda d: (d / "test" / "tiny.csv").write_text(""), "tiny.csv"),
    "an index that is a list": (
        lambda d: (d / "index" / "tiny.index.json").write_text("[1]"),
        "index",
    ),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_data_folder_is_one_line_with_the_file(name, data_folder):
    from recast.items import read_folder

    damage, expected = BAD_FOLDERS[name]
    damage(data_folder)
    with pytest.raises(ValueError, match=expected) as caught:
        read_folder(data_folder)
    assert "\n" not in str(caught.value)
    assert str(data_folder) in str(caught.value)


def test_the_published_folder_is_read_unchanged(real_data):
    from recast.items import read_folder

    data = read_folder(real_data)
    assert (data.items, len(data.sids), data.collisions) == (3459, 3444, 15)
    assert len(data.test) == 4866

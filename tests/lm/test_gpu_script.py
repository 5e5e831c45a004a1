"""`benchmarks/gpu.sh` on a CPU at a tiny size: every part leaves its rows in one file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_cost, gpu_run

ROOT = Path(__file__).parents[2]


def run(out: Path, *parts: str, seconds: int = 800) -> dict[str, object]:
    words = [sys.executable, "-m", "benchmarks.gpu", str(out), "--size", "tiny", "--device", "cpu"]
    words += ["--seconds", str(seconds), *(w for p in parts for w in ("--only", p))]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=900)
    return json.loads(out.read_text())


def test_costs_of_every_strategy_and_prefix_reach_the_file(tmp_path):
    found: list[dict[str, object]] = []
    gpu_cost.part("qwen3-1.7b", 512)("cpu", "tiny", found.append)
    costs = [row for row in found if row["kind"] == "cost"]
    cases = {(row["strategy"], row["prefix"]) for row in costs}
    assert cases == {(s, p) for s in gpu_cost.STRATEGIES for p in ("shared", "reencoded")}
    for row in costs:
        assert row["update_seconds"] > 0
        assert row["step_seconds"] >= row["update_seconds"]
        assert row["peak_mib"] > 0
        assert row["tokens"] > 0
        assert row["mfu"] > 0
        assert row["turns"] == len(row["update_all"])
    tokens = {(row["strategy"], row["prefix"]): row["tokens"] for row in costs}
    assert tokens["grpo", "reencoded"] == 2 * tokens["recast", "reencoded"]


def test_a_part_without_time_is_left_out_and_says_so(monkeypatch):
    monkeypatch.setenv("PART_ENDS", str(time.time() - 1))
    found: list[dict[str, object]] = []
    gpu_cost.part("qwen3-8b", 512)("cpu", "tiny", found.append)
    assert [row["kind"] for row in found] == ["start"] + ["left out"] * 8


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path, monkeypatch):
    monkeypatch.delenv("RECAST_DATA", raising=False)
    whole = run(tmp_path / "gpu.json", "lm rl", "machine")
    parts = whole["parts"]
    assert parts["lm rl"]["state"].startswith("failed: RECAST_DATA is unset")
    assert parts["machine"]["state"] == "done"
    assert parts["machine"]["rows"][0]["device"] == "cpu"


def test_a_category_that_is_missing_is_refused_before_anything_runs_and_reaches_each_command(
    tmp_path, monkeypatch, data_folder, capsys
):
    both, out = tmp_path / "both", tmp_path / "gpu.json"
    shutil.copytree(data_folder, both)
    for path in [path for path in both.rglob("*") if path.is_file()]:
        shutil.copy(path, path.with_name(f"Second{path.name}"))
    monkeypatch.setenv("RECAST_DATA", str(both))
    monkeypatch.delenv("RECAST_CATEGORY", raising=False)
    monkeypatch.setattr(sys, "argv", ["gpu", str(out)])
    monkeypatch.setattr(gpu, "_run", lambda *_: pytest.fail("a part was started"))
    with pytest.raises(SystemExit) as caught:
        gpu.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("RECAST_DATA: ")
    assert said.count("\n") == 1
    assert "several categories" in said
    assert said.endswith("choose one with RECAST_CATEGORY\n")
    assert not out.exists()
    monkeypatch.setenv("RECAST_CATEGORY", "Second")
    gpu_run.check_data()
    given: list[list[str]] = []
    monkeypatch.setattr(gpu_run, "_lm", given.append)
    gpu_run.end_to_end("cpu", "tiny", lambda row: None)
    assert [words[-2:] for words in given] == [["--category", "Second"]] * 2


@pytest.mark.drill
def test_the_whole_script_runs_at_a_tiny_size(tmp_path, monkeypatch, data_folder):
    monkeypatch.setenv("RECAST_DATA", str(data_folder))
    whole = run(tmp_path / "gpu.json")
    assert set(whole["parts"]) == set(gpu.PARTS)
    assert {part["state"] for part in whole["parts"].values()} == {"done"}

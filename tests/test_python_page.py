"""docs/python.md runs as it stands, and the Python API gives what the command gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import workbench
from workbench.errors import UserError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's code has run, with the last frames left as files."""
    folder = tmp_path_factory.mktemp("notebook")
    kept = (
        "\nresults.frame.write_parquet('frame.parquet')\nresults.summary().write_json('sum.json')"
    )
    (folder / "page.py").write_text(CODE + kept, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_code_of_the_page_runs_and_draws(folder):
    assert (folder / "curves.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "path" in (folder / "regimes.svg").read_text(encoding="utf-8")
    frame = pl.read_parquet(folder / "frame.parquet")
    assert frame["strategy"].unique(maintain_order=True).to_list() == ["grpo", "recast", "sft"]
    assert frame.select("seed", "lr").n_unique() == 4


def test_the_same_store_gives_the_command_the_same_summary(folder):
    flags = ["--strategy=grpo", "--strategy=recast", "--strategy=sft", "--seeds=2", "--steps=40"]
    flags += ["--lr=0.003", "--lr=0.01", "--set=world.items=256", "--format=json"]
    command = [sys.executable, "-m", "workbench.cli", "run", "--preset=quick", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = pl.read_json(done.stdout.encode(), infer_schema_length=None)
    ours = pl.read_json(folder / "sum.json", infer_schema_length=None)
    assert_frame_equal(ours, printed.select(ours.columns), check_exact=True)


def test_a_second_run_reads_and_trains_nothing(folder, monkeypatch):
    spec = workbench.experiment(
        "quick",
        ["grpo", "recast", "sft"],
        {"seeds": 2, "train.steps": 40, "train.lr": [0.003, 0.01], "world.items": 256},
    )
    files = sorted((folder / "runs" / "runs").rglob("*.parquet"))
    said: list[str] = []
    results = workbench.run(spec, folder / "runs", progress=lambda *what: said.append(what[2]))
    assert sorted((folder / "runs" / "runs").rglob("*.parquet")) == files
    assert said == []
    assert len(results.keys) == len(files) == 12
    assert results.compare("recast", "grpo")["n"].unique().to_list() == [2]


def test_a_wrong_field_is_one_line():
    with pytest.raises(UserError, match=r"^train\.grop: unknown key; did you mean 'group'\?$"):
        workbench.experiment("quick", changes={"train.grop": 3})


def test_the_names_are_lent_lazily_and_the_command_line_loads_no_more_than_before():
    for name in workbench.__all__:
        assert getattr(workbench, name).__name__ == name
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, workbench; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"torch", "polars", "pydantic"} & set(loaded)

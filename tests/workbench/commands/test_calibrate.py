"""`recast calibrate` as a user meets it, on a tiny world."""

from __future__ import annotations

import io

import polars as pl
import pytest
from command_line import recast

WORLD = """
strategies = ["grpo"]
[world]
items = 32
test_prompts = 16
validation_prompts = 16
[policy]
width = 8
[train]
steps = 4
batch = 8
group = 8
"""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(WORLD, encoding="utf-8")
    return str(path)


def test_the_start_that_is_found_has_the_share_of_all_zero_groups_that_was_asked_for(preset):
    done = recast("calibrate", "--preset", preset, "--all-zero", "0.55", "--format", "csv")
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(io.StringIO(done.stdout))
    assert table["prompts"].to_list() == ["solver", "held_out"]
    assert (table["all_zero"] - 0.55).abs().max() < 0.01
    regimes = table.select("all_zero", "single_hit", "multi_hit", "saturated")
    assert regimes.sum_horizontal().to_list() == pytest.approx([1.0, 1.0])
    assert (table["sft_steps"] > 0).all()


def test_shares_that_cannot_be_had_together_are_one_line(preset):
    asked = ("--all-zero", "0.55", "--two-or-more", "0.9")
    done = recast("calibrate", "--preset", preset, *asked)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "leave no single-hit groups" in line

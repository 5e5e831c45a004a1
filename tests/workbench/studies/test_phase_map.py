"""Phase maps on planted winners."""

from __future__ import annotations

import polars as pl
import pytest
from planted_effects import SEEDS, frame

from workbench.studies import phase_map as phases


def test_the_phase_map_finds_a_planted_winner_and_admits_that_there_is_none():
    fields = {"world.noise": 0.2, "train.group": 8, "world.unlearnable": 0.3}
    same = {"greedy": 0.3}
    cells = [
        frame({"grpo": {"greedy": 0.2}, "recast": same, "sft": {"greedy": 0.4}},
              {"start.all_zero": 0.6, **fields}, tag="a"),
        frame({"grpo": same, "recast": same, "sft": same},
              {"start.all_zero": 0.9, **fields}, tag="b"),
    ]  # fmt: skip
    table = phases.phase_table(pl.concat(cells), ["greedy"])
    assert table["winner"].to_list() == ["sft", phases.NOBODY]
    assert table["runner_up"][0] == "recast"
    assert table["margin"][0] == pytest.approx(0.1, abs=0.01)
    assert table["p"][0] == pytest.approx(2 * 2 / 2**SEEDS)  # two cells in the family


def test_the_rival_of_a_winner_is_the_one_hardest_to_tell_from_it():
    fields = {
        "start.all_zero": 0.6,
        "world.noise": 0.2,
        "train.group": 8,
        "world.unlearnable": 0.3,
    }
    shaky = frame({"grpo": {"greedy": 0.27}}, fields, noise=0.05)
    steady = frame({"recast": {"greedy": 0.295}, "sft": {"greedy": 0.3}}, fields, noise=1e-5)
    cell = phases.phase_table(pl.concat([shaky, steady]), ["greedy"]).row(0, named=True)
    assert cell["runner_up"] == "grpo"

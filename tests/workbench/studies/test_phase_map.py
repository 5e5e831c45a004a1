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


def test_duels_are_paired_by_seed_and_corrected_over_the_worlds_of_a_rival():
    fields = {"world.noise": 0.2, "train.group": 8, "world.unlearnable": 0.3}
    clear = {"recast": {"greedy": 0.3}, "sft": {"greedy": 0.4}, "grpo": {"greedy": 0.2}}
    tied = {name: {"greedy": 0.3} for name in clear}
    cells = [
        frame(clear, {"start.all_zero": 0.6, **fields}, tag="a"),
        frame(tied, {"start.all_zero": 0.9, **fields}, tag="b"),
    ]
    table = phases.duel_table(pl.concat(cells), ["greedy"])
    found = {(row["rival"], row["start.all_zero"]): row for row in table.iter_rows(named=True)}
    assert len(found) == 4
    behind, ahead = found["sft", 0.6], found["grpo", 0.6]
    assert behind["difference"] == pytest.approx(-0.1, abs=0.01)
    assert behind["low"] < behind["difference"] < behind["high"] < 0
    assert ahead["difference"] == pytest.approx(0.1, abs=0.01)
    assert behind["p"] == ahead["p"] == pytest.approx(2 * 2 / 2**SEEDS)  # two worlds each
    assert behind["seeds"] == SEEDS
    assert found["sft", 0.9]["p"] > 0.05

    said = phases.across_worlds(table, "greedy")
    assert said is not None
    assert said.verdict == "Over 2 worlds recast ahead of sft in 0, of grpo in 1"
    assert "sft: behind in 1, ahead in 0, not told apart in 1" in said.sentence
    assert "grpo: behind in 0, not told apart in 1" in said.sentence
    assert said.tone == "open"
    assert phases.across_worlds(table, "area") is None


def test_the_rare_worlds_in_which_it_turns_are_named_and_most_worlds_give_the_tone():
    def world(zero: float, difference: float, p: float) -> dict[str, object]:
        cell = {"start.all_zero": zero, "world.noise": 0.2, "train.group": 8}
        told = {"world.unlearnable": 0.0, "metric": "area", "rival": "sft", "seeds": 12}
        return cell | told | {"difference": difference, "p": p}

    lost, won = [world(zero, -0.1, 0.01) for zero in (0.6, 0.7)], world(0.8, 0.1, 0.01)
    duels = pl.DataFrame([*lost, won, world(0.9, 0.1, 0.2)])
    said = phases.across_worlds(duels, "area", rivals=["sft"])
    assert said is not None
    assert "ahead in 1 (80% all-zero, noise 0.2, G = 8)" in said.sentence
    assert "behind in 2" in said.sentence
    assert said.tone == "open"  # two of four are not most
    most = phases.across_worlds(duels.head(3), "area", rivals=["sft"])
    assert most is not None
    assert most.tone == "second"
    assert phases.world_of(duels.row(0, named=True)) == "60% all-zero, noise 0.2, G = 8"
    noisy = duels.row(0, named=True) | {"world.unlearnable": 0.3}
    assert phases.world_of(noisy).endswith("G = 8, 30% unlearnable")

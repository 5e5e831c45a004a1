"""Every move of a hand was worked out beforehand as the microscope sees the moved group."""

from __future__ import annotations

import pytest

from recast import STRATEGIES
from workbench.theory.group import DEPTH, sample_group
from workbench.theory.microscope import signal_frames
from workbench.theory.moves import moved, moves


def test_a_move_is_what_every_strategy_makes_of_the_moved_group():
    group, draw, probability = sample_group(4, 0.3, 2), 2, 0.1
    found = moves(group, list(STRATEGIES), draw, probability)
    assert {"grpo", "recast", "sft", "reinforce"} <= set(found)
    for rollout in group["rollout"]:
        for level in range(DEPTH + 1):
            bars, table, _ = signal_frames(
                moved(group, rollout, level), list(found), draw, probability
            )
            anchors = dict(table.select("strategy", "anchor slot").iter_rows())
            for (name,), rows in bars.group_by("strategy"):
                entry = found[name][1 + (rollout - 1) * (DEPTH + 1) + level]
                slots = rows.filter(origin="supervised", slot="target")["weight"].to_list()
                weights = rows.filter(rows["slot"] != "target").sort("place")["weight"].to_list()
                assert entry["weights"] == pytest.approx(weights, rel=1e-4, abs=1e-9), name
                target = [] if entry["target"] is None else [entry["target"]]
                assert target == pytest.approx(slots, rel=1e-4), name
                assert entry["anchor"] == ([anchors[name]] if anchors[name] else []), name


def test_the_first_entry_is_the_group_itself_and_a_move_to_the_target_is_a_hit():
    group = sample_group(3, 0.0, 1)
    found = moves(group, ["grpo"], 1, 0.05)["grpo"]
    assert not any(found[0]["weights"])
    assert any(found[1 + DEPTH]["weights"])
    assert moved(group, 1, DEPTH)["reward"].to_list() == [1.0, 0.0, 0.0]
    assert moved(moved(group, 1, DEPTH), 1, 0)["reward"].to_list() == [0.0, 0.0, 0.0]

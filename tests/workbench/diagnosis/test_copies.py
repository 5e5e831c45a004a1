"""Equal answers in a group that are judged differently."""

from __future__ import annotations

import itertools

import polars as pl
from planted_logs import reward_faults
from planted_logs.rollouts import as_jsonl, groups_of, log

from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.findings.copies import contradicting_rewards
from workbench.diagnosis.logs.read import read_log


def taken_apart(rows, folder):
    return diagnose(read_log([as_jsonl(rows, folder / "log.jsonl")]))


def test_pairs_of_equal_answers_are_counted_as_by_hand(tmp_path):
    rows = reward_faults.rewards_in_another_order(3)
    pairs = [
        one["reward"] != other["reward"]
        for group in groups_of(rows)
        for one, other in itertools.combinations(group, 2)
        if one["prediction"] == other["prediction"]
    ]
    said = contradicting_rewards(taken_apart(rows, tmp_path))
    assert said is not None
    assert said.level == "problem"
    assert f": {sum(pairs):,} of {len(pairs):,} pairs of them" in said.says


def test_without_a_ground_truth_it_is_a_note_because_an_environment_may_judge(tmp_path):
    rows = [
        {name: value for name, value in row.items() if name != "target"}
        for row in reward_faults.rewards_in_another_order(3)
    ]
    said = contradicting_rewards(taken_apart(rows, tmp_path))
    assert said is not None
    assert said.level == "note"


def test_rewards_of_the_answer_never_contradict_each_other(tmp_path):
    for seed in range(3):
        assert contradicting_rewards(taken_apart(log(seed, items=4), tmp_path)) is None


def test_a_judge_that_errs_now_and_then_is_not_accused(tmp_path):
    rows = log(0, items=4)
    for place, row in enumerate(rows):
        row["reward"] = 1 - row["reward"] if place % 12 == 0 else row["reward"]
    found = taken_apart(rows, tmp_path)
    assert found.groups.filter(pl.col("distinct") < pl.col("size")).height > 50
    assert contradicting_rewards(found) is None

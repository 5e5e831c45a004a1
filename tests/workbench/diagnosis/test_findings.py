"""Every finding fires on a log with its fault planted, and clean logs trigger none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import planted
import pytest

from workbench.diagnosis.diagnosis import Diagnosis, diagnose
from workbench.diagnosis.findings import CHECKS, examine
from workbench.diagnosis.logs.read import read_log


def taken_apart(rows: planted.Rows, tmp_path, **options) -> Diagnosis:
    return diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")]), **options)


def names(found: Diagnosis) -> set[str]:
    return {finding.name for finding in examine(found)}


def constant_reward() -> planted.Rows:
    return planted.changed(planted.log(), lambda row: {"reward": 0.25, "advantage": 0.0})


def format_guard_by_its_column() -> planted.Rows:
    rng = np.random.default_rng(1)

    def judge(row):
        ok = rng.random() < 0.03
        return {"format_reward": float(ok), "reward": row["reward"] * ok, "advantage": 0.0}

    return planted.changed(planted.log(), judge)


def format_guard_by_the_answers() -> planted.Rows:
    rng = np.random.default_rng(1)

    def judge(row):
        if rng.random() < 0.05:
            return {}
        return {"prediction": f"I recommend {row['prediction'][:5]}", "reward": 0.0}

    return planted.changed(planted.log(), judge)


def format_guard_on_hits() -> planted.Rows:
    rng = np.random.default_rng(1)
    return planted.changed(
        planted.log(),
        lambda row: {"outcome": row["reward"], "reward": row["reward"] * (rng.random() < 0.2)},
    )


def shaped_hides() -> planted.Rows:
    rng = np.random.default_rng(1)
    return planted.changed(
        planted.log(mean=0.1),
        lambda row: {"outcome": row["reward"], "reward": row["reward"] + 0.1 * rng.random()},
    )


def no_raw_outcome() -> planted.Rows:
    rng = np.random.default_rng(1)
    return planted.changed(planted.log(), lambda _: {"reward": float(rng.random())})


def kl_on_dead_groups() -> planted.Rows:
    rng = np.random.default_rng(1)
    return planted.changed(planted.log(mean=0.08), lambda _: {"kl": float(rng.exponential(0.05))})


def group_of_one() -> planted.Rows:
    return planted.log(group=1, batch=64)


def groups_split() -> planted.Rows:
    rows = planted.log()
    for place, row in enumerate(rows):
        if place % 8 >= 5 and row["step"] % 2:
            row["prompt"] += " (second worker)"
    return rows


def groups_merged() -> planted.Rows:
    return planted.changed(
        planted.log(),
        lambda row: {"prompt": row["prompt"][:-1]} if row["prompt"].endswith(("1", "2")) else {},
    )


def targets_mixed() -> planted.Rows:
    rng = np.random.default_rng(1)
    return planted.changed(
        planted.log(), lambda row: {"target": planted.semantic_id(int(rng.integers(200)))}
    )


def advantages_of_other_groups() -> planted.Rows:
    rows = planted.log(mean=0.2)
    order = np.random.default_rng(1).permutation(len(rows))
    advantages = [row["advantage"] for row in rows]
    return [{**row, "advantage": advantages[order[i]]} for i, row in enumerate(rows)]


def duplicates_of_one() -> planted.Rows:
    rows = planted.log()
    return [{**row, "prediction": rows[i - i % 8]["prediction"]} for i, row in enumerate(rows)]


def duplicates_in_pairs() -> planted.Rows:
    rows = planted.log()
    return planted.credited(
        [
            {**row, **{c: rows[i - i % 2][c] for c in ("prediction", "reward")}}
            for i, row in enumerate(rows)
        ]
    )


def reward_drift() -> planted.Rows:
    return planted.changed(
        planted.log(), lambda row: {"reward": row["reward"] * (1 + row["step"] / 5)}
    )


def diluted_denominator() -> planted.Rows:
    return planted.log(mean=0.05, spread=0.3, batch=32)


def starved() -> planted.Rows:
    return planted.log(mean=0.02, batch=32)


def saturated() -> planted.Rows:
    return planted.log(mean=0.97, batch=32)


def pass_at_k_falls() -> planted.Rows:
    return [
        row
        for step in range(1, 13)
        for row in planted.changed(
            planted.log(step, steps=1, batch=64, mean=0.25 + 0.025 * step, spread=0.075 * step),
            lambda row, step=step: {"step": step, "prompt": f"{step} {row['prompt']}"},
        )
    ]


def repeated_batches() -> planted.Rows:
    rows = planted.log()
    return rows + [{**row, "step": 13} for row in rows if row["step"] == 12]


FAULTS: dict[Callable[[], planted.Rows], str] = {
    constant_reward: "constant_reward",
    format_guard_by_its_column: "format_guard",
    format_guard_by_the_answers: "format_guard",
    format_guard_on_hits: "format_guard",
    shaped_hides: "shaped_hides",
    no_raw_outcome: "no_raw_outcome",
    kl_on_dead_groups: "kl_on_dead_groups",
    group_of_one: "group_of_one",
    groups_split: "groups_mixed",
    groups_merged: "groups_mixed",
    targets_mixed: "groups_mixed",
    advantages_of_other_groups: "groups_mixed",
    duplicates_of_one: "duplicated_rollouts",
    duplicates_in_pairs: "duplicated_rollouts",
    reward_drift: "reward_drift",
    diluted_denominator: "diluted_denominator",
    starved: "starved",
    saturated: "saturated",
    pass_at_k_falls: "pass_at_k_falls",
    repeated_batches: "repeated_batches",
}
FOLLOWS = {
    # What a fault brings along, and is right to.
    "constant_reward": {"no_raw_outcome", "saturated", "diluted_denominator"},
    "format_guard": {"starved", "diluted_denominator", "duplicated_rollouts"},
    "kl_on_dead_groups": {"starved", "diluted_denominator"},
    "starved": {"diluted_denominator"},
    "diluted_denominator": {"starved"},
    "saturated": {"diluted_denominator"},
    "no_raw_outcome": {"saturated", "groups_mixed"},
    "reward_drift": {"no_raw_outcome"},
    "shaped_hides": {"starved"},
    "pass_at_k_falls": {"diluted_denominator"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_little_else(fault, tmp_path):
    findings = examine(taken_apart(fault(), tmp_path))
    found, wanted = {finding.name for finding in findings}, FAULTS[fault]
    assert wanted in found
    assert found - {wanted} <= FOLLOWS.get(wanted, set())
    for finding in findings:
        assert finding.says.endswith(".")
        assert finding.do.endswith(".")
        assert "\n" not in finding.says + finding.do


def test_every_check_has_a_planted_fault():
    assert set(FAULTS.values()) == set(CHECKS)


REGIMES = {
    "sparse": {"mean": 0.25, "spread": 0.1},
    "balanced": {"mean": 0.4, "spread": 0.2},
    "easy": {"mean": 0.7, "spread": 0.1},
    "wide": {"mean": 0.15, "spread": 0.1, "group": 32, "batch": 8},
    "narrow": {"mean": 0.5, "spread": 0.02, "group": 4},
    "same prompts": {"mean": 0.4, "spread": 0.2, "repeat": True},
    "few items": {"mean": 0.4, "spread": 0.2, "items": 5},
}


def test_clean_logs_of_several_regimes_trigger_nothing(tmp_path):
    """Eight logs of each regime. One false alarm in them all would be one too many to accept at
    the rate that the checks promise; the seed is fixed, so this is a count and not a gamble."""
    alarms = {
        (regime, seed): said
        for regime, options in REGIMES.items()
        for seed in range(8)
        if (said := names(taken_apart(planted.log(100 + seed, **options), tmp_path)))
    }
    assert alarms == {}


def test_a_healthy_run_that_improves_triggers_nothing(tmp_path):
    rows = [
        row
        for step in range(1, 13)
        for row in planted.changed(
            planted.log(step, steps=1, mean=0.2 + 0.03 * step),
            lambda row, step=step: {"step": step},
        )
    ]
    assert names(taken_apart(rows, tmp_path)) == set()


def test_a_run_that_repairs_its_groups_is_not_told_to(tmp_path):
    """ReCast's own advantages: one miss of every all-zero group is pushed down."""
    rows = planted.log(mean=0.02, batch=32)
    rows = [
        {**row, "advantage": row["advantage"] if row["advantage"] else -1.0 * (place % 8 == 3)}
        for place, row in enumerate(rows)
    ]
    said = {finding.name: finding.level for finding in examine(taken_apart(rows, tmp_path))}
    assert said == {"starved": "note"}


def test_a_truncated_last_group_is_no_finding(tmp_path):
    assert names(taken_apart(planted.log()[:-3], tmp_path)) == set()


def test_a_threshold_above_the_reward_turns_hits_into_misses(tmp_path):
    found = taken_apart(planted.log(), tmp_path)
    strict = diagnose(found.log, threshold=1.0)
    assert found.groups["hits"].sum() > 0
    assert strict.groups["hits"].sum() == 0
    assert replace(found, groups=strict.groups).late().height == found.late().height

"""Every finding fires on a log with its fault planted, and clean logs trigger none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_logs import clean as clean_logs
from planted_logs import faults
from planted_logs import rollouts as planted

from recast.strategies import STRATEGIES
from workbench.diagnosis.counterfactual import logged, signals, slots
from workbench.diagnosis.diagnosis import Diagnosis, diagnose
from workbench.diagnosis.findings import CHECKS, examine
from workbench.diagnosis.findings.audit import audit
from workbench.diagnosis.findings.curves import Curve, arrival, curves_of
from workbench.diagnosis.findings.cut_off import pile_up
from workbench.diagnosis.logs.read import read_log


def taken_apart(rows: planted.Rows, tmp_path, **options) -> Diagnosis:
    return diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")]), **options)


def names(found: Diagnosis) -> set[str]:
    return {finding.name for finding in examine(found).findings}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_little_else(fault, tmp_path):
    findings = examine(taken_apart(fault(0), tmp_path)).findings
    found, wanted = {finding.name for finding in findings}, faults.FAULTS[fault]
    assert wanted in found
    assert found - {wanted} <= faults.FOLLOWS.get(wanted, frozenset()) | faults.FLAT
    for finding in findings:
        assert finding.says.endswith(".")
        assert finding.do.endswith(".")
        assert "\n" not in finding.says + finding.do


def test_every_check_has_a_planted_fault():
    assert set(faults.FAULTS.values()) == set(CHECKS)


@pytest.mark.parametrize("kind", clean_logs.CLEAN)
def test_a_clean_log_triggers_nothing(kind, tmp_path):
    """The seeds are fixed, so this is a count and not a gamble; benchmarks/findings.py has more."""
    for seed in range(2):
        said = names(taken_apart(clean_logs.CLEAN[kind](seed), tmp_path))
        assert said <= clean_logs.ALLOWED.get(kind, frozenset()) | faults.FLAT, seed


def test_a_check_that_cannot_run_says_which_column_it_needs(tmp_path):
    rows = [
        {name: row[name] for name in ("step", "prompt", "reward")} for row in planted.log(steps=4)
    ]
    gaps = {name: gap.column for gap in examine(taken_apart(rows, tmp_path)).unchecked
            for name in gap.names}  # fmt: skip
    assert gaps["entropy_collapse"] == "entropy"
    assert gaps["absurd_advantages"] == "advantage"
    assert gaps["truncated"] == "finish_reason or tokens or completions"
    assert "starved" not in gaps
    for row in rows:
        row["tokens"] = 24  # logged, and piled up nowhere near a limit
    assert "tokens" not in str(examine(taken_apart(rows, tmp_path)).unchecked)


def test_a_log_of_every_column_leaves_nothing_unchecked(tmp_path):
    rows = [
        {**row, "accuracy": row["reward"], "reward": row["reward"] + 0.5,
         "prediction": "one two three " * 9, "format_reward": 1.0}
        for row in clean_logs.healthy(0)
    ]  # fmt: skip
    assert examine(taken_apart(rows, tmp_path)).unchecked == ()


def test_a_cause_stands_before_what_follows_from_it(tmp_path):
    said = [one.name for one in examine(taken_apart(faults.all_at_the_limit(0), tmp_path)).findings]
    assert said.index("truncated") < said.index("constant_reward") < said.index("starved")
    assert "diluted_denominator" not in said


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_reward_in_most_groups_is_a_fault_also_where_nobody_knows_a_hit(value, tmp_path):
    """Win, tie or loss: a tie to nearly everything, or a judge that nearly never moves."""
    rows = [
        {**row, "advantage": None,
         "reward": (place % 3) / 2 if place // 8 % 4 == 0 else value}
        for place, row in enumerate(planted.log())
    ]  # fmt: skip
    found = taken_apart(rows, tmp_path)
    said = {one.name: one.says for one in examine(found).findings}
    assert not found.known
    assert f"has the reward {value:g}" in said["constant_reward"]
    assert not {"diluted_denominator", "starved", "saturated"} & said.keys()
    half = [{**row, "reward": (place % 3) / 2} if place // 8 % 2 else row
            for place, row in enumerate(rows)]  # fmt: skip
    assert "constant_reward" not in names(taken_apart(half, tmp_path))


def test_a_format_that_most_answers_miss_late_is_judged_and_one_that_was_learnt_is_not(tmp_path):
    rows = planted.log()
    for late, fires in ((0.25, True), (0.5, False)):
        made = []
        for place, row in enumerate(rows):
            formed = (place % 20) < 20 * (late if row["step"] > 8 else 0.1)
            made.append({**row, "format_reward": float(formed), "reward": row["reward"] * formed})
        assert ("format_guard" in names(taken_apart(made, tmp_path))) is fires


def test_a_run_that_repairs_its_groups_is_not_told_to(tmp_path):
    """ReCast's own advantages: one miss of every all-zero group is pushed down."""
    rows = planted.log(mean=0.02, batch=32)
    rows = [
        {**row, "advantage": row["advantage"] if row["advantage"] else -1.0 * (place % 8 == 3)}
        for place, row in enumerate(rows)
    ]
    said = {one.name: one.level for one in examine(taken_apart(rows, tmp_path)).findings}
    assert said["starved"] == "note"
    assert "diluted_denominator" not in said


def test_advantages_of_other_prompts_are_no_learning_from_dead_groups(tmp_path):
    """In a starved log with interleaved prompts, most dead groups have advantages of one sign."""
    rows = planted.log(mean=0.3, spread=0.8, group=4, batch=16, steps=20)
    made = []
    for step in range(1, 21):
        groups = planted.groups_of([row for row in rows if row["step"] == step])
        flat = [group[place] for place in range(4) for group in groups]
        for start in range(0, len(flat), 4):
            reward = np.array([row["reward"] for row in flat[start : start + 4]])
            value = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)
            made += [
                {**row, "advantage": float(a)}
                for row, a in zip(flat[start : start + 4], value, strict=True)
            ]
    assert "groups_mixed" in names(taken_apart(made, tmp_path))


def test_a_truncated_last_group_is_no_finding(tmp_path):
    assert names(taken_apart(planted.log()[:-3], tmp_path)) == set()


def test_a_threshold_above_the_reward_turns_hits_into_misses(tmp_path):
    found = taken_apart(planted.log(), tmp_path)
    strict = diagnose(found.log, threshold=1.0)
    assert found.groups["hits"].sum() > 0
    assert strict.groups["hits"].sum() == 0
    assert replace(found, groups=strict.groups).late().height == found.late().height


@pytest.mark.parametrize("credit", ["grpo", "grpo_trl", "grpo_population", "grpo_trl_batch",
                                    "dr_grpo", "rloo", "maxrl", "gpg", "ngrpo", "psr"])  # fmt: skip
def test_the_audit_names_the_strategy_that_made_the_advantages(credit, tmp_path):
    """Advantages come from the library's own stages, so this is a round trip through a log."""
    found = taken_apart(planted.log(steps=6), tmp_path)
    tensors = logged(found)
    made: dict[int, float] = {}
    for (_, signal), (_, part) in zip(
        signals(STRATEGIES[credit], tensors),
        tensors.rows.group_by("step", maintain_order=True),
        strict=True,
    ):
        place = slots(part)
        value = signal.advantage.numpy()[place["row"].to_numpy(), place["slot"].to_numpy()]
        made |= dict(zip(place["order"].to_list(), value.tolist(), strict=True))
    rows = [{**row, "advantage": made[i]} for i, row in enumerate(planted.log(steps=6))]
    said = audit(taken_apart(rows, tmp_path))
    assert said.kind == "formula"
    assert said.share == 1.0
    same = {
        "grpo": "grpo(eps=1e-06, ddof=1)",
        "grpo_trl": "grpo(eps=0.0001, ddof=1)",
        "grpo_population": "grpo(eps=1e-06, ddof=0)",
        "grpo_trl_batch": "grpo_batch",
        "psr": "raw",
    }
    assert said.formula == same.get(credit, credit)


@pytest.mark.parametrize(("eps", "ddof"), [(0.01, 1), (0.1, 0)])
def test_the_audit_solves_an_unusual_epsilon(eps, ddof, tmp_path):
    rows = []
    for mine in planted.groups_of(planted.log()):
        reward = np.array([row["reward"] for row in mine])
        value = (reward - reward.mean()) / (reward.std(ddof=ddof) + eps)
        rows += [{**row, "advantage": float(a)} for row, a in zip(mine, value, strict=True)]
    assert audit(taken_apart(rows, tmp_path)).formula == f"grpo(eps={eps:.3g}, ddof={ddof})"


def test_rounded_advantages_still_have_their_formula(tmp_path):
    rows = [{**row, "advantage": round(row["advantage"], 3)} for row in planted.log()]
    assert audit(taken_apart(rows, tmp_path)).formula.startswith("grpo(")


def test_stale_weights_are_told_from_another_engine(tmp_path):
    said = {
        fault: next(
            one.says
            for one in examine(taken_apart(fault(0), tmp_path)).findings
            if one.name == "rollout_mismatch"
        )
        for fault in (faults.engines_differ, faults.weights_never_synced)
    }
    assert "the engines differ" in said[faults.engines_differ]
    assert "old weights" in said[faults.weights_never_synced]


def test_curves_are_the_means_of_each_step(tmp_path):
    rows = clean_logs.healthy(0)
    curves = curves_of(taken_apart(rows, tmp_path))
    for name, column in (("reward", "reward"), ("entropy", "entropy"), ("length", "tokens")):
        for step in (1, 17, 40):
            mean = np.mean([row[column] for row in rows if row["step"] == step])
            assert curves[name].value[step - 1] == pytest.approx(mean, rel=1e-5)


@given(start=st.floats(0.5, 5), rate=st.floats(0.01, 0.2), level=st.floats(0.01, 0.1))
def test_an_exponential_fall_arrives_where_it_says(start, rate, level):
    step = np.arange(1.0, 31.0)
    one = Curve(step, start * np.exp(-rate * step))
    said = arrival(one, level * float(one.value[-1]))
    assert said is not None
    exact = np.log(start / (level * float(one.value[-1]))) / rate
    # The level of "now" is the median of the last steps, so it is late by their half width.
    assert said[0] == pytest.approx(exact, abs=3)
    assert said[1] <= said[0] <= said[2]


def test_lengths_that_end_by_themselves_do_not_pile_up():
    rng = np.random.default_rng(0)
    free = rng.lognormal(5, 0.5, 5000).astype(np.int32)
    assert pile_up(free) is None
    assert pile_up(np.minimum(free, 200)) == 200
    assert pile_up(np.full(500, 3, np.int32)) is None

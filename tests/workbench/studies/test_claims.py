"""Verdicts by hand; claims measured on planted effects; maps and searches on planted winners."""

from __future__ import annotations

import polars as pl
import pytest
from planted_effects import BETTER, BY_KEY, GRPO, SEEDS, frame, judged, main

from workbench.errors import UserError
from workbench.real.efficiency import read_efficiency
from workbench.studies import questions
from workbench.studies.claims import (
    CLAIMS,
    IID,
    OPENONEREC,
    check,
    claims_table,
    least_told,
    settings_table,
)
from workbench.studies.evidence import SweepFrames
from workbench.studies.measures import METRIC
from workbench.studies.stability import drawdown
from workbench.studies.verdicts import (
    judge_all,
)


@pytest.mark.parametrize(
    ("final", "verdict"),
    [(0.30, "compatible"), (0.25, "not reproduced"), (0.5, "not reproduced")],
)
def test_c1_compares_the_relative_gain_with_the_papers_range(final, verdict):
    recast = {**BETTER, "greedy": [0.2, 0.2, 0.2, 0.2, final]}
    found = judged("C1", main(frame({"grpo": GRPO, "recast": recast})))
    assert found.verdict == verdict
    assert found.rows[0].value == pytest.approx(final / 0.25 - 1, abs=0.05)
    assert found.rows[0].n == SEEDS


def test_c1_names_the_baseline_under_which_it_holds():
    good = frame({"grpo": GRPO, "recast": BETTER})
    bad = frame({"grpo": GRPO, "recast": {**BETTER, "greedy": GRPO["greedy"]}})
    found = judged("C1", main(good, bad))
    assert (found.verdict, found.where) == ("only where", f"{IID}: the whole sweep")


def test_c1_corrects_its_intervals_for_the_number_of_cells():
    one = frame({"grpo": GRPO, "recast": BETTER}, {"world.noise": 0.1}, noise=0.02)
    other = one.with_columns(setting=pl.lit("other"), run=pl.col("run") + "'")
    alone = judged("C1", main(one)).rows[0]
    family = judged("C1", main(pl.concat([one, other]))).rows[0]
    assert family.value == alone.value
    assert family.low < alone.low < alone.high < family.high
    assert family.p == 2 * alone.p


def test_c2_reads_the_share_of_the_baselines_budget():
    found = judged("C2", main(frame({"grpo": GRPO, "recast": BETTER}, noise=1e-4)))
    # From .2 at 0 to .29 at 1,000 of 4,000 rollouts: .25 is crossed near 14%, seeds move it.
    assert 0.05 < found.rows[0].value < 0.25
    assert found.verdict == "not reproduced"
    assert "10 of 10 runs reach" in found.rows[0].note


def test_c2_divides_by_what_the_baseline_spends_and_not_by_its_own():
    cheap = {**BETTER, "rollouts": [0, 250, 500, 750, 1000]}
    curves = {"grpo": GRPO, "recast": cheap}
    (row,) = judged("C2", main(frame(curves, noise=1e-4))).rows
    whole = judged("C2", main(frame({"grpo": GRPO, "recast": BETTER}, noise=1e-4))).rows[0]
    assert row.value == pytest.approx(whole.value / 4, rel=1e-6)


def test_c2_is_inconclusive_when_the_baseline_ends_below_its_start():
    sunk = {**GRPO, "greedy": [0.3, 0.2, 0.2, 0.2, 0.2]}
    found = judged("C2", main(frame({"grpo": sunk, "recast": BETTER})))
    assert found.verdict == "inconclusive"
    assert "below its own start" in found.rows[0].note


@pytest.mark.parametrize(
    ("at_large", "verdict"), [(1, "reproduced"), (3, "not reproduced"), (2, "inconclusive")]
)
def test_c3_asks_whether_the_share_shrinks_with_width(at_large, verdict):
    def arriving(place: int) -> dict[str, object]:
        return {**BETTER, "greedy": [0.2 if i < place else 0.4 for i in range(5)]}

    scale = BY_KEY["C3"].modes[IID]
    cells = [
        frame({"grpo": GRPO, "recast": arriving(place)}, {"policy.width": width}, tag=str(width))
        for width, place in ((16, 2), (64, 2), (256, at_large))
    ]
    found = judged("C3", SweepFrames({scale: pl.concat(cells)}))
    assert found.verdict == verdict
    assert found.rows[0].setting == "width 16 against width 256"


def test_c3_is_refuted_where_the_largest_policy_saves_nothing():
    never = {**BETTER, "greedy": [0.2] * 5}
    scale = BY_KEY["C3"].modes[IID]
    cells = [
        frame({"grpo": GRPO, "recast": never}, {"policy.width": width}, tag=str(width))
        for width in (16, 256)
    ]
    found = judged("C3", SweepFrames({scale: pl.concat(cells)}))
    assert found.verdict == "not reproduced"
    assert found.rows[0].value == 0
    assert "nothing is saved" in found.rows[0].note


@pytest.mark.parametrize(("key", "value"), [("C4", 16.0), ("C6", 16.0), ("C7", 16.0)])
def test_systems_claims_show_their_analogue_and_are_never_judged(key, value):
    found = judged(key, main(frame({"grpo": GRPO, "recast": BETTER})))
    assert found.verdict == "shown, not judged"
    assert found.rows[0].value == pytest.approx(value)


def test_real_measurements_stand_beside_the_analogue_and_are_not_judged():
    shape = {"group": 32, "prompt_tokens": 31, "micro_rows": 0, "prefix": "reencoded"}
    table = pl.DataFrame(
        [
            {"strategy": "grpo", **shape, "mfu": 0.2, "ratio": 1.0, "memory_ratio": 1.0},
            {"strategy": "recast", **shape, "mfu": 0.3, "ratio": 12.0, "memory_ratio": 1.5},
        ]
    )
    evidence = SweepFrames(main(frame({"grpo": GRPO, "recast": BETTER})).sweeps, (), table)
    for key, value in (("C4", 12.0), ("C7", 1.5), ("C8", 1.5)):
        found = judged(key, evidence)
        assert found.verdict == "shown, not judged"
        assert found.rows[-1].value == pytest.approx(value)
        assert found.rows[-1].setting == "G 32, prompt 31, prompts reencoded, micro-batch whole"
    beside = [row for row in judged("C8", evidence).rows if "small real model" in row.mode]
    assert len(beside) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.json", None, "cannot be read"),
        ("bad.json", "{not json", "cannot be read"),
        ("bad.csv", "strategy,prefix\n", "lacks the column group"),
    ],
)
def test_a_file_that_is_no_efficiency_table_is_refused_in_one_line(
    tmp_path, name, content, message
):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        read_efficiency(str(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_c5_counts_three_passes_for_an_updated_row():
    found = judged("C5", main(frame({"grpo": GRPO, "recast": BETTER})))
    assert found.rows[0].value == pytest.approx((4000 + 3 * 1280) / (4000 + 3 * 80))


@pytest.mark.parametrize(
    ("multi", "verdict"), [([0.02, 0.01, 0.02, 0.01, 0.01], "reproduced"),
                           ([0.01, 0.0, 0.0, 0.0, 0.0], "reproduced"),
                           ([0, 0.0, 0.3, 0.0, 0.0], "not reproduced")])  # fmt: skip
def test_c9_takes_the_worst_evaluation_of_the_baseline(multi, verdict):
    grpo = {**GRPO, "all_zero": [1 - m for m in multi], "single_hit": 0.0}
    found = judged("C9", main(frame({"grpo": grpo, "recast": BETTER})))
    assert found.verdict == verdict
    assert found.rows[0].value == pytest.approx(multi[0] - max(multi[1:]))
    assert found.rows[0].note == f"{1 - multi[0]:.3f} at the start"


def test_c9_is_not_won_by_a_baseline_that_never_learned():
    idle = {"greedy": 0.2, "all_zero": 0.97, "single_hit": 0.02}
    found = judged("C9", main(frame({"grpo": idle, "recast": BETTER})))
    assert found.verdict == "inconclusive"
    assert "has not learned" in found.rows[0].note


@pytest.mark.parametrize(("late", "verdict"), [(0.5, "reproduced"), (0.9, "not reproduced")])
def test_c10_compares_repair_early_and_late(late, verdict):
    recast = {**BETTER, "repaired": [None, 0.8, 0.8, 0.8, late]}
    found = judged("C10", main(frame({"grpo": GRPO, "recast": recast})))
    assert found.verdict == verdict
    assert found.rows[0].value == pytest.approx(0.8 - late)


def test_c11_needs_both_the_drawdown_and_the_spread():
    shaky = {**GRPO, "greedy": [0.2, 0.3, 0.3, 0.2, 0.3]}
    calm = frame({"recast": BETTER}, noise=1e-5)
    found = judged("C11", main(pl.concat([frame({"grpo": shaky}, noise=0.05), calm])))
    drop, spread = found.rows
    assert drop.verdict == "reproduced"
    assert drop.value == pytest.approx(0.1, abs=0.05)
    assert (spread.setting, spread.p) == ("the whole sweep, seed SD", None)


@pytest.mark.parametrize(
    ("found", "verdict"), [("RR", "reproduced"), ("RI", "inconclusive"), ("RN", "not reproduced")]
)
def test_stability_needs_both_of_its_trends(found, verdict):
    words = {"R": "reproduced", "N": "not reproduced", "I": "inconclusive"}
    assert judge_all([words[letter] for letter in found]) == verdict


def test_c11_takes_all_settings_of_a_baseline_together():
    shaky = {**GRPO, "greedy": [0.2, 0.3, 0.3, 0.2, 0.3]}
    cells = [
        frame({name: curve}, {"world.noise": noise}, noise=spread, tag=f"{noise}")
        for noise in (0.1, 0.2, 0.4)
        for name, curve, spread in (("grpo", shaky, 0.05), ("recast", BETTER, 0.001))
    ]
    found = judged("C11", main(pl.concat(cells)))
    assert [row.setting for row in found.rows] == [
        "3 settings together, drawdown",
        "3 settings together, seed SD",
    ]
    assert {row.n for row in found.rows} == {3 * SEEDS}


def test_c11_is_not_claimed_by_a_drawdown_alone():
    shaky = {**GRPO, "greedy": [0.2, 0.3, 0.3, 0.2, 0.3]}
    curves = {"grpo": shaky, "recast": BETTER}
    drop, spread = judged("C11", main(frame(curves))).rows
    assert drop.low > 0
    assert (drop.verdict, spread.verdict) == ("inconclusive", "inconclusive")


def test_a_drawdown_looks_at_the_last_half_only():
    values = [0.9, 0.1, 0.3, 0.5, 0.2, 0.4]
    assert drawdown(pl.DataFrame({METRIC: values})) == pytest.approx(0.3)
    assert drawdown(pl.DataFrame({METRIC: [0.5, 0.1, 0.2, 0.3]})) == 0


def test_c12_is_decided_by_the_strongest_start_alone():
    worse = {**GRPO, "greedy": [0.2] * 5}
    cells = [
        frame({"grpo": GRPO, "repair_only": other}, {"start.all_zero": share}, tag=str(share))
        for share, other in ((0.5, worse), (0.85, BETTER), (0.95, BETTER))
    ]
    found = judged("C12", SweepFrames({"claims-start": pl.concat(cells)}))
    assert found.verdict == "reproduced"
    assert [r.counts for r in found.rows] == [True, False, False]
    assert [r.verdict for r in found.rows][1:] == ["not reproduced"] * 2


def test_without_runs_every_testable_claim_is_not_measured():
    for claim in CLAIMS:
        found = check(claim, SweepFrames({}))
        systems = claim.key in ("C4", "C5", "C6", "C7", "C8")
        expected = "shown, not judged" if systems else "not measured"
        assert found.verdict == expected, claim.key
        if not systems:
            assert [row.mode for row in found.rows] == list(claim.modes)
            assert all(row.note.startswith("recast sweep claims") for row in found.rows)


def test_a_baseline_that_was_not_measured_is_in_no_ones_favour():
    good, bad = ({"grpo": GRPO, "recast": recast} for recast in (BETTER, GRPO))
    for curves, verdict in ((good, "only where"), (bad, "not reproduced")):
        found = check(BY_KEY["C1"], main(frame(curves)))
        assert found.verdict == verdict
        assert found.rows[-1].verdict == "not measured"
        assert f"{OPENONEREC}: not measured" in claims_table([found])["measured"][0]


def test_c1_shows_the_control_and_sampled_hits_beside_and_lets_neither_decide():
    curves = {"grpo": GRPO, "recast": BETTER, "sft": {"greedy": [0.2, 0.4, 0.5, 0.5, 0.5]}}
    found = judged("C1", main(frame(curves)))
    beside = {row.beside: row for row in found.rows if row.beside}
    assert found.verdict == "compatible"
    control = beside["control: sft in recast's place"]
    assert control.value == pytest.approx(1.0, abs=0.1)
    assert [row.counts for row in beside.values()] == [False] * 3
    assert {row.verdict for row in beside.values()} == {"not judged"}
    assert "control: sft" in claims_table([found])["beside"][0]
    assert "control" not in claims_table([found])["measured"][0]


def test_a_baseline_below_its_start_or_a_rate_on_an_edge_decides_nothing():
    sunk = frame({"grpo": {**GRPO, "greedy": [0.3, 0.2, 0.2, 0.2, 0.2]}, "recast": BETTER})
    edge = frame({"grpo": GRPO, "recast": BETTER})
    other = edge.with_columns(lr=0.01, tuned=False, run=pl.col("run") + "'")
    inside = other.with_columns(lr=0.001, run=pl.col("run") + "'")
    only_ours = pl.col("strategy") == "recast"
    low, high = pl.concat([edge, other]), pl.concat([edge, inside])
    fair = pl.concat([edge, other, inside]).filter(~only_ours)
    for evidence, verdict, text in (
        (main(pl.concat([fair, low.filter(only_ours)])), "compatible", ""),
        (main(pl.concat([fair, high.filter(only_ours)])), "inconclusive", "recast is best at an"),
        (main(sunk), "inconclusive", "below its own start"),
        (main(pl.concat([edge, other])), "inconclusive", "edge of its learning-rate grid"),
        (main(pl.concat([edge, other, inside])), "compatible", ""),
    ):
        found = judged("C1", evidence)
        assert found.verdict == verdict
        assert text in found.rows[0].note


def test_c2_is_refuted_when_no_run_ever_gets_there():
    stuck = {**BETTER, "greedy": [0.2, 0.2, 0.2, 0.2, 0.2]}
    found = judged("C2", main(frame({"grpo": GRPO, "recast": stuck}, noise=1e-4)))
    (row,) = found.rows
    assert (found.verdict, row.value, row.high) == ("not reproduced", None, None)
    assert row.low == pytest.approx(1.0)
    few = main(frame({"grpo": GRPO, "recast": stuck}, noise=1e-4, seeds=4))
    assert judged("C2", few).verdict == "inconclusive"


def test_c2_shows_how_many_prompts_supervision_needs():
    curves = {"grpo": GRPO, "recast": BETTER, "sft": {"greedy": [0.2, 0.3, 0.3, 0.3, 0.3]}}
    ours, control = judged("C2", main(frame(curves, noise=1e-4))).rows
    assert control.beside == "control: sft's share of the baseline's prompts"
    assert (ours.counts, control.counts) == (True, False)
    assert control.value == pytest.approx(0.125, abs=0.1)  # half-way to 10 of 40 steps


def test_c9_leaves_out_a_setting_that_begins_outside():
    grpo = {**GRPO, "all_zero": 0.9, "single_hit": 0.02}
    found = judged("C9", main(frame({"grpo": grpo, "recast": BETTER})))
    assert [row.counts for row in found.rows] == [False]
    assert "begins below 0.95" in found.rows[0].note
    assert found.verdict == "shown, not judged"


def test_every_claim_declares_what_it_needs_before_it_is_measured():
    assert [claim.key for claim in CLAIMS] == [f"C{i}" for i in range(1, 13)]
    for claim in CLAIMS:
        for text in (claim.says, claim.figure, claim.statistic, claim.threshold, claim.analogue):
            assert text
    for key in ("C1", "C2", "C3", "C9"):
        assert set(BY_KEY[key].modes) == {IID, OPENONEREC}


def test_the_tables_have_one_row_per_claim_and_one_per_setting():
    checked = [check(c, main(frame({"grpo": GRPO, "recast": BETTER}))) for c in CLAIMS]
    assert claims_table(checked)["claim"].to_list() == [c.key for c in CLAIMS]
    table = settings_table(checked)
    assert table.height == sum(len(c.rows) for c in checked)
    first = table.filter(claim="C1")
    assert first["setting"].to_list() == ["the whole sweep"] * first.height
    assert first["decides"].to_list() == [True, False, False, True]  # two companions, one baseline
    said = least_told(table)
    pairs = int(first["n"].max())
    assert (
        f"Holm over 1 rows of at most {pairs} pairs: none can be below {2 / 2**pairs:.2g}"
        in said[0]
    )
    assert len(said) == table.drop_nulls("p").select("claim", "beside").n_unique()


def test_prompts_encoded_once_per_group_shrink_the_ratio():
    evidence = main(frame({"grpo": GRPO, "recast": BETTER}))
    table = questions.prompt_cost(evidence, sid_tokens=3)
    every = table.filter(encoding="every row encodes its prompt")["ratio"]
    shared = table.filter(encoding="one prompt per group", prompt_tokens=512)["ratio"][0]
    assert every.to_list() == pytest.approx([16.0] * len(questions.PROMPT_TOKENS))
    assert shared == pytest.approx((512 + 32 * 2) / (512 + 2 * 2))

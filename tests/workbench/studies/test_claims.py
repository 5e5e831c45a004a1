"""Verdicts by hand; claims measured on planted effects; maps and searches on planted winners."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UserError
from workbench.real.efficiency import read_efficiency
from workbench.stats.estimates import interval
from workbench.stats.samples import mean
from workbench.studies import phase_map as phases
from workbench.studies import questions, search
from workbench.studies.claims import (
    CLAIMS,
    IID,
    MAIN,
    OPENONEREC,
    Checked,
    check,
    claims_table,
    settings_table,
)
from workbench.studies.evidence import SweepFrames, with_setting
from workbench.studies.measures import METRIC
from workbench.studies.stability import drawdown
from workbench.studies.verdicts import (
    Measured,
    judge_all,
    judge_close,
    judge_level,
    judge_number,
    judge_trend,
    side,
    together,
)

SEEDS = 10
STEPS = (0, 10, 20, 30, 40)
BY_KEY = {claim.key: claim for claim in CLAIMS}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "compatible"),
        (0.3, 0.9, "compatible"),
        (0.4, 0.9, "not reproduced"),
        (-0.3, 0.05, "not reproduced"),
        (-0.1, 0.2, "inconclusive"),  # holds "no effect" as well
        (None, 0.2, "inconclusive"),
        (0.4, None, "not reproduced"),
        (None, None, "inconclusive"),
    ],
)
def test_meeting_a_range_is_compatible_at_best(low, high, verdict):
    assert judge_number(low, high, (0.091, 0.366), 0.0) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.03, 0.06, "reproduced"),
        (0.0, 0.756, "inconclusive"),  # holds the figure, and everything else
        (0.041, 0.5, "inconclusive"),
        (0.1, 0.5, "not reproduced"),
        (0.001, 0.02, "not reproduced"),  # better than the paper is not the paper's figure
        (0.02, None, "inconclusive"),
        (0.2, None, "not reproduced"),
        (None, None, "inconclusive"),
    ],
)
def test_a_figure_needs_the_whole_interval_within_a_factor_of_it(low, high, verdict):
    assert judge_close(low, high, 0.041) == verdict


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_noise_is_no_evidence_for_a_share_that_is_not_the_papers(spread):
    """True median share .10, 2.4 times the paper's: noise may hide that, never turn it round."""
    rng = np.random.default_rng(1)
    found = [
        judge_close(*interval(0.1 * np.exp(rng.normal(0, spread, 10)), mean), 0.041)
        for _ in range(100)
    ]
    assert found.count("reproduced") <= 2


@pytest.mark.parametrize(
    ("low", "high", "trend", "level"),
    [
        (0.1, 0.2, "reproduced", "not reproduced"),
        (-0.2, -0.1, "not reproduced", "not reproduced"),
        (-0.1, 0.2, "inconclusive", "not reproduced"),
        (0.95, 0.99, "reproduced", "reproduced"),
        (0.5, 0.96, "reproduced", "inconclusive"),
        (0.0, 0.2, "inconclusive", "not reproduced"),
        (None, None, "inconclusive", "inconclusive"),
        (0.1, None, "reproduced", "inconclusive"),
    ],
)
def test_a_trend_excludes_zero_and_a_level_is_kept(low, high, trend, level):
    assert judge_trend(low, high) == trend
    assert judge_level(low, high, 0.95) == level


def row(verdict, counts: bool = True, setting: str = "s") -> Measured:
    return Measured("m", setting, 0.0, None, None, 10, None, verdict, "", counts)


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ("RR", "reproduced"),
        ("RN", "only where"),
        ("RI", "only where"),
        ("NN", "not reproduced"),
        ("NI", "not reproduced"),
        ("NII", "inconclusive"),
        ("II", "inconclusive"),
        ("CC", "compatible"),
        ("CR", "compatible"),
        ("CN", "only where"),
        ("TT", "shown, not judged"),
        ("", "shown, not judged"),
    ],
)
def test_settings_add_up_to_one_verdict(verdicts, overall):
    words = dict(
        zip(
            "RNITC",
            ("reproduced", "not reproduced", "inconclusive", "shown, not judged", "compatible"),
            strict=True,
        )
    )
    verdict, where = together([row(words[v], setting=f"cell {i}") for i, v in enumerate(verdicts)])
    assert verdict == overall
    assert where == ("m: cell 0" if overall == "only where" else "")


def test_rows_that_do_not_decide_do_not_count():
    assert together([row("reproduced"), row("not reproduced", counts=False)])[0] == "reproduced"


def frame(
    curves: Mapping[str, Mapping[str, object]],
    fields: Mapping[str, object] | None = None,
    seeds: int = SEEDS,
    noise: float = 0.002,
    tag: str = "",
) -> pl.DataFrame:
    """Runs of each strategy whose hits (C(1), `greedy`) follow a curve over STEPS, plus noise.

    The start differs between seeds, alike for all strategies. Other columns come as lists over
    STEPS or as constants.
    """
    rng = np.random.default_rng(len(tag) + 7)
    fields = fields or {}
    shared = rng.normal(0, 0.02, seeds)
    rows = []
    for strategy, columns in curves.items():
        own = rng.normal(0, noise, (seeds, len(STEPS)))
        unit = 0 if strategy == "sft" else 100
        for seed, (place, step), split in itertools.product(
            range(seeds), enumerate(STEPS), ("test", "validation")
        ):
            values = {
                name: value[place] if isinstance(value, list) else value
                for name, value in columns.items()
            }
            base = values.pop("greedy") + shared[seed] + own[seed, place]
            rows.append(
                {
                    "run": f"{tag}{strategy}-{seed}", "strategy": strategy, "seed": seed,
                    "cell": tag, "lr": 0.003, "tuned": True, "split": split, "slice": "all",
                    "step": step, "rollouts": unit * step, "updated_rows": 10 * step,
                    "greedy": base, "pass_at_1": base, "pass_at_1_matched": base,
                    "area": base, "c_at_1": base, "hr_at_10": 2 * base, "c_at_32": 3 * base,
                    "pass_at_32": 3 * base, "diverged_at": None,
                    "all_zero": 0.85, "single_hit": 0.13, "repaired": 0.5, "update_width": 32.0,
                    **fields, **values,
                }
            )  # fmt: skip
    return with_setting(
        pl.DataFrame(rows, infer_schema_length=None), [f for f in fields if "." in f]
    )


GRPO = {"greedy": [0.2, 0.22, 0.24, 0.25, 0.25], "updated_rows": [0, 320, 640, 960, 1280]}
BETTER = {"greedy": [0.2, 0.29, 0.3, 0.3, 0.3], "updated_rows": [0, 20, 40, 60, 80],
          "update_width": 2.0, "repaired": [None, 0.8, 0.7, 0.6, 0.5]}  # fmt: skip


def main(iid: pl.DataFrame, openonerec: pl.DataFrame | None = None) -> SweepFrames:
    found = {MAIN[IID]: iid}
    if openonerec is not None:
        found[MAIN[OPENONEREC]] = openonerec
    return SweepFrames(found)


def judged(key: str, evidence: SweepFrames) -> Checked:
    """A claim on the baselines that the evidence holds, as if there were no others."""
    claim = BY_KEY[key]
    present = {mode: sweep for mode, sweep in claim.modes.items() if sweep in evidence.sweeps}
    return check(replace(claim, modes=present), evidence)


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


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
@settings(deadline=None)
def test_an_interval_lies_on_one_side_exactly_when_the_number_is_missed(low, width, paper, span):
    figure = (paper, paper + span)
    missed = judge_number(low, low + width, figure, 99.0) == "not reproduced"
    assert bool(side(low, low + width, figure)) == missed


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


def searched(levels: Mapping[str, float], worlds: int = 4, noise: float = 2e-3) -> pl.DataFrame:
    return pl.concat(
        frame(
            {name: {"greedy": [0.1, level, level, level, level]} for name, level in levels.items()},
            {"world.seed": world},
            noise=noise,
            tag=f"w{world}",
        )
        for world in range(worlds)
    )


def test_a_planted_better_strategy_dominates_and_an_equal_one_does_not():
    better = search.points(
        searched({"sft": 0.3, "grpo": 0.3, "recast": 0.35, "rloo": 0.3}, noise=5e-4), "rollouts"
    )
    assert search.chosen(better, 1) == ["recast"]
    table = search.dominance(better, ["recast", "rloo"])
    outcome = dict(table.select("candidate", "outcome").unique().iter_rows())
    assert outcome["recast"] == "beats every control on all"
    assert outcome["rloo"].startswith("worse on none, better than")
    assert table["seeds"].unique().to_list() == [2 * SEEDS]  # two of four worlds judge


def test_a_strategy_that_trades_one_metric_for_another_does_not_dominate():
    runs = search.points(searched({"sft": 0.3, "grpo": 0.3, "recast": 0.35}), "rollouts")
    traded = runs.with_columns(
        hr_at_10=pl.when(pl.col("strategy") == "recast")
        .then(pl.col("hr_at_10") - 0.3)
        .otherwise(pl.col("hr_at_10"))
    )
    assert set(search.dominance(traded, ["recast"])["outcome"]) == {"does not dominate"}


PLANTED = search.points(
    searched({"sft": 0.3, "grpo": 0.25, "recast": 0.35, "rloo": 0.3}), "rollouts"
)


@given(st.floats(-1, 1), st.sampled_from(["recast", "rloo"]))
@settings(deadline=None)
def test_the_choice_of_candidates_never_looks_at_the_worlds_that_judge(shift, name):
    moved = PLANTED.with_columns(
        pl.when((pl.col("world.seed") % 2 == 1) & (pl.col("strategy") == name))
        .then(pl.col(m) + shift)
        .otherwise(pl.col(m))
        .alias(m)
        for m in search.METRICS
    )
    assert search.chosen(moved) == search.chosen(PLANTED)


def test_equal_updated_rows_read_every_run_where_the_cheapest_strategy_ends():
    curves = {
        "sft": {"greedy": [0.0, 0.1, 0.2, 0.3, 0.4], "updated_rows": [0, 10, 20, 30, 40]},
        "grpo": {"greedy": [0.0, 0.8, 0.9, 0.9, 0.9], "updated_rows": [0, 80, 160, 240, 320]},
    }
    runs = search.points(frame(curves, {"world.seed": 0}, noise=0.0), "updated_rows")
    means = dict(runs.group_by("strategy").agg(pl.col("area").mean()).iter_rows())
    # grpo is half-way to its first evaluation when sft has spent its 40 rows.
    assert means["grpo"] - means["sft"] == pytest.approx(0.0, abs=1e-12)


def test_worse_on_none_needs_a_margin_and_not_a_p_that_is_large():
    """A candidate of which little is known is never called non-inferior."""
    noisy = pl.concat(
        frame({"sft": {"greedy": 0.3}, "grpo": {"greedy": 0.3}, "new": {"greedy": 0.3}},
              {"world.seed": world}, noise=0.2, tag=f"w{world}")
        for world in range(2)
    )  # fmt: skip
    table = search.dominance(search.points(noisy, "rollouts"), ["new"])
    assert not (table["p"] < 0.05).any()
    assert set(table["outcome"]) == {"does not dominate"}
    assert not table["non_inferior"].all()


def test_without_worlds_that_judge_nobody_is_judged():
    runs = search.points(searched({"sft": 0.3, "grpo": 0.2, "new": 0.4}, worlds=1), "rollouts")
    assert search.chosen(runs) == ["new"]
    assert search.dominance(runs, ["new"]).is_empty()


def test_a_front_holds_what_nothing_dominates():
    runs = pl.DataFrame(
        {
            "strategy": ["a", "b", "c", "d"], "world.seed": [0] * 4,
            "u": [1.0, 2.0, 3.0, 1.5], "v": [3.0, 2.0, 1.0, 2.0],
        }
    )  # fmt: skip
    table = search.front(runs, "u", "v")
    assert dict(table.select("strategy", "on_front").iter_rows()) == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip


def test_prompts_encoded_once_per_group_shrink_the_ratio():
    evidence = main(frame({"grpo": GRPO, "recast": BETTER}))
    table = questions.prompt_cost(evidence, sid_tokens=3)
    every = table.filter(encoding="every row encodes its prompt")["ratio"]
    shared = table.filter(encoding="one prompt per group", prompt_tokens=512)["ratio"][0]
    assert every.to_list() == pytest.approx([16.0] * len(questions.PROMPT_TOKENS))
    assert shared == pytest.approx((512 + 32 * 2) / (512 + 2 * 2))


def test_curves_over_temperature_and_k_are_read_from_the_names_of_metrics():
    evidence = main(
        frame({"grpo": {**GRPO, "pass_at_1_t050": 0.4, "pass_at_1_t120": 0.1, "pass_at_4": 0.6}})
    )
    hot = questions.by_temperature(evidence, "the whole sweep")
    assert hot["temperature"].to_list() == [0.5, 1.0, 1.2]
    assert hot["mean"].to_list()[::2] == [0.4, 0.1]
    wide = questions.by_k(evidence, "the whole sweep")
    assert wide["k"].to_list() == [1.0, 4.0, 32.0]


def test_tempered_supervision_meets_its_rivals_at_their_own_temperature():
    cold = {"pass_at_1_t030": 0.5, "pass_at_1_t120": 0.9}
    evidence = main(frame({"grpo": GRPO, "recast": BETTER, "sft": {"greedy": 0.3, **cold}}))
    table = questions.tempered(evidence, "the whole sweep")
    assert table["label"].to_list() == [
        f"{ours} - {theirs}"
        for theirs in ("grpo", "recast")
        for ours in ("sft at T = 0.3", "sft at T = 1", "sft, each at its best T")
    ]
    against = dict(table.select("label", "value").iter_rows())
    assert against["sft at T = 0.3 - grpo"] == pytest.approx(0.25, abs=0.05)
    assert against["sft at T = 1 - recast"] == pytest.approx(0.0, abs=0.05)
    alone = 2 / 2**SEEDS
    assert table["p"][0] == pytest.approx(alone)  # one family, whatever its size


def test_every_question_has_a_table_for_a_store_that_answers_it_and_none_without():
    full = main(
        frame(
            {
                name: {"greedy": 0.3, "pass_at_1_t050": 0.4, "pass_at_4": 0.5, "entropy": 2.0}
                for name in ("grpo", "recast", "sft", "grpo_sft", "repair_only")
            }
        )
    )
    for name, (asks, table) in questions.QUESTIONS.items():
        assert asks.endswith("?")
        assert table(full, "the whole sweep").height, name
        assert table(SweepFrames({}), "the whole sweep").is_empty(), name


def test_settings_are_named_after_the_fields_that_vary():
    table = pl.DataFrame({"world.noise": [0.1], "train.group": [8]})
    assert with_setting(table, ["world.noise", "train.group"])["setting"].to_list() == [
        "noise 0.1, group 8"
    ]

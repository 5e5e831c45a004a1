"""How each claim is measured on the rows of its sweeps.

Every function takes the evidence and the sweeps by mode (which baseline), and returns one
`Measured` per mode and setting. Intervals are corrected for all settings of a claim, over its modes
(confidence 1 - .05 / m), p-values by Holm over the same family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from workbench.analysis.budget import cautions, final_value, reach_events
from workbench.analysis.tuning import edge
from workbench.stats import survival
from workbench.stats.estimates import (
    CONFIDENCE,
    FEWEST,
    Difference,
    detectable,
    estimate,
    interval,
    paired_difference,
    relative_gain,
)
from workbench.stats.p_values import holm
from workbench.stats.samples import Floats, finite
from workbench.studies.evidence import SweepFrames, pairs, per_run
from workbench.studies.verdicts import (
    Measured,
    Verdict,
    judge_close,
    judge_level,
    judge_number,
    judge_trend,
    side,
)

METRIC = "c_at_1"
"""What the claims call Pass@1: its value at the temperature that is best on validation users.
Sampled Pass@1 at T = 1 mostly measures sharpness; the questions show it beside this one."""

BASELINE, METHOD, CONTROL = "grpo", "recast", "sft"
COMPANIONS = {
    "area": "the same in the area, rates chosen by it",
    "hr_at_10": "the same in HR@10, rates chosen by it",
}
Modes = Mapping[str, str]
_NOTHING = "no pairs of seeds in the store"


def gain(evidence: SweepFrames, modes: Modes, paper: tuple[float, float]) -> list[Measured]:
    """C1: relative gain of the final metric over the baseline.

    Beside it: the same gain of the control (supervised training on the same targets), and in the
    area and HR@10. A setting whose baseline is worth nothing as one (`_unfair`) decides nothing.
    """

    def against_baseline(
        metric: str, strategy: str, judge: Callable[[Difference], Verdict]
    ) -> list[Measured]:
        return _by_setting(
            evidence,
            modes,
            lambda sweep, setting, confidence: relative_gain(
                *pairs(evidence.final(sweep, metric), metric, strategy, BASELINE, setting),
                confidence=confidence,
            ),
            judge,
        )

    found = []
    for row in against_baseline(METRIC, METHOD, lambda d: judge_number(d.low, d.high, paper, 0.0)):
        warning = _unfair(evidence, modes[row.mode], row.setting)
        note = "; ".join(filter(None, (row.note, side(row.low, row.high, paper), warning)))
        verdict: Verdict = "inconclusive" if warning else row.verdict
        found.append(replace(row, verdict=verdict, note=note))
    for metric, strategy, text in (
        (METRIC, CONTROL, f"control: {CONTROL} in {METHOD}'s place"),
        *((metric, METHOD, text) for metric, text in COMPANIONS.items()),
    ):
        found += _beside(text, against_baseline(metric, strategy, lambda _: "not judged"))
    return found


def budget_share(evidence: SweepFrames, modes: Modes, paper: float) -> list[Measured]:
    """C2: rollouts to the baseline's mean final metric, over all rollouts of the baseline.

    Beside it: the share of the baseline's prompts that the control needs, which rolls nothing out.
    The target is held fixed while seeds are resampled.
    """
    found = []
    for mode, sweep in modes.items():
        confidence = _corrected(evidence, modes)
        for setting in evidence.settings(sweep):
            warning = _unfair(evidence, sweep, setting)
            for strategy, axis in ((METHOD, "rollouts"), (CONTROL, "step")):
                reach = _to_target(evidence, sweep, setting, strategy, axis)
                if reach is None:
                    if strategy == METHOD:
                        found.append(missing(mode, setting))
                    continue
                low, high = (
                    None if end is None else end / reach.total
                    for end in interval(reach.runs, survival.median, None, confidence)
                )
                if low is None and reach.runs.shape[1] >= FEWEST:
                    # So few runs reach the target that the median's interval has no lower end.
                    low = float(reach.runs[0].min()) / reach.total
                number = judge_close(low, high, paper)
                row = Measured(
                    mode,
                    setting,
                    finite(float(survival.median(reach.runs)) / reach.total),
                    low,
                    high,
                    reach.runs.shape[1],
                    None,
                    "inconclusive" if warning else number,
                    "; ".join(filter(None, (reach.text, side(low, high, (paper, paper)), warning))),
                )
                if strategy == CONTROL:
                    share = f"control: {CONTROL}'s share of the baseline's prompts"
                    row = _beside(share, [replace(row, note=reach.text)])[0]
                found.append(row)
    return found


def budget_trend(evidence: SweepFrames, modes: Modes, field: str) -> list[Measured]:
    """C3: the share of the baseline's rollouts that is saved (`_saved`) at the greatest value of a
    field minus that at the least. Where nothing is saved at the greatest, nothing has widened.

    Beside it: the budget share itself at every value.
    """
    found, shares = [], []
    for mode, sweep in modes.items():
        frame = evidence.of(sweep)
        if frame.is_empty():
            continue
        cells = frame.select("setting", field).unique().sort(field)["setting"].to_list()
        label = f"{cells[0]} against {cells[-1]}"
        reaches = {name: _to_target(evidence, sweep, name, METHOD, "rollouts") for name in cells}
        for name, reach in reaches.items():
            if reach is not None:
                value = finite(float(survival.median(reach.runs)) / reach.total)
                share = shown(mode, name, value, reach.runs.shape[1], (None, None))
                shares.append(replace(share, note=reach.text))
        small, large = reaches[cells[0]], reaches[cells[-1]]
        if small is None or large is None or small.runs.shape != large.runs.shape:
            found.append(missing(mode, label))
            continue
        confidence = 1 - (1 - CONFIDENCE) / len(modes)
        warning = next(
            filter(None, (_unfair(evidence, sweep, n) for n in (cells[0], cells[-1]))), ""
        )
        found.append(_widening(mode, label, small, large, confidence, warning))
    return found + _beside("budget share", shares)


def _widening(
    mode: str, setting: str, small: _Reach, large: _Reach, confidence: float, warning: str
) -> Measured:
    """How much more is saved at the larger policy than at the smaller one, and its verdict.

    warning: why the setting decides nothing; empty where it does.
    """
    both = np.concatenate([small.runs, large.runs])

    def more(runs: Floats) -> Floats:
        saved: Floats = _saved(runs[2:], large.total) - _saved(runs[:2], small.total)
        return saved

    low, high = interval(both, more, confidence=confidence)
    most = interval(large.runs, lambda runs: _saved(runs, large.total), confidence=confidence)[1]
    verdict: Verdict = judge_trend(low, high)
    note = warning
    if warning:
        verdict = "inconclusive"
    elif most == 0:
        verdict, note = "not reproduced", "nothing is saved at the largest policy"
    return Measured(mode, setting, float(more(both)), low, high, both.shape[1], None, verdict, note)


def _saved(runs: Floats, total: float) -> Floats:
    """One minus the median budget share of samples `[2, ..., n]`, from 1 down to 0; 0 too where
    half of the runs or more never get there: whoever has spent all has saved nothing."""
    share: Floats = survival.median(runs) / total
    return 1 - np.minimum(share, 1.0)


def shown(
    mode: str, setting: str, value: float | None, n: int, ends: tuple[float | None, float | None]
) -> Measured:
    """A row that is shown and never judged."""
    return Measured(mode, setting, value, *ends, n, None, "shown, not judged")


def stays_sparse(
    evidence: SweepFrames, modes: Modes, least: float, sparse: float
) -> list[Measured]:
    """C9: the baseline's smallest all-zero + single-hit share at any evaluation after the start,
    minus that at the start.

    A setting that does not begin at or above `sparse` shows nothing about sparse groups and does
    not decide; one whose baseline has not learned (its metric has not risen, 95%) is inconclusive:
    an untrained baseline stays where it is.
    """

    def share(rows: pl.DataFrame) -> Floats:
        found: Floats = (rows["all_zero"] + rows["single_hit"]).to_numpy()
        return found

    def fall(rows: pl.DataFrame) -> float:
        return float(share(rows.filter(pl.col("step") > 0)).min() - share(rows)[0])

    def learned(rows: pl.DataFrame) -> float:
        return float(rows[METRIC][-1] - rows[METRIC][0])

    found = []
    for mode, sweep in modes.items():
        for setting in evidence.settings(sweep):
            falls = per_run(evidence.curves(sweep), BASELINE, setting, fall)
            if not falls:
                found.append(missing(mode, setting))
                continue
            level = estimate(list(falls.values()), confidence=_corrected(evidence, modes))
            begun = per_run(evidence.curves(sweep), BASELINE, setting, lambda r: float(share(r)[0]))
            start = estimate(list(begun.values())).value
            outside = "" if start >= sparse else f"begins below {sparse:g}: does not decide"
            rise = estimate(
                list(per_run(evidence.curves(sweep), BASELINE, setting, learned).values())
            )
            idle = "" if rise.low is not None and rise.low > 0 else "the baseline has not learned"
            verdict: Verdict = "inconclusive" if idle else judge_level(level.low, level.high, least)
            note = f"{start:.3f} at the start"
            found.append(
                Measured(
                    mode,
                    setting,
                    level.value,
                    level.low,
                    level.high,
                    level.n,
                    None,
                    verdict,
                    "; ".join(filter(None, (note, outside, idle, level.label))),
                    counts=not outside,
                )
            )
    return found


def repair_fades(evidence: SweepFrames, modes: Modes) -> list[Measured]:
    """C10: share of groups repaired up to the first evaluation minus that before the last."""

    def measure(sweep: str, setting: str, confidence: float) -> Difference:
        curves = evidence.curves(sweep).filter(pl.col("repaired").is_not_null())
        early = per_run(curves, METHOD, setting, lambda rows: float(rows["repaired"][0]))
        late = per_run(curves, METHOD, setting, lambda rows: float(rows["repaired"][-1]))
        return paired_difference(
            list(early.values()), list(late.values()), "mean", None, confidence
        )

    return _by_setting(evidence, modes, measure, lambda d: judge_trend(d.low, d.high))


def repair_hurts(evidence: SweepFrames, modes: Modes, field: str) -> list[Measured]:
    """C12: GRPO minus repair without contrast; only the strongest start decides.

    The note says which difference the pairs would show in 80% of repeats, so that an inconclusive
    verdict can be told from a small effect.
    """
    rows = _by_setting(
        evidence,
        modes,
        lambda sweep, setting, confidence: paired_difference(
            *pairs(evidence.final(sweep), METRIC, BASELINE, "repair_only", setting),
            "mean",
            None,
            confidence,
        ),
        lambda found: judge_trend(found.low, found.high),
    )
    strongest = {}
    for mode, sweep in modes.items():
        frame = evidence.of(sweep)
        if not frame.is_empty():
            strongest[mode] = frame.sort(field)["setting"][0]
    return [
        replace(
            row, counts=strongest.get(row.mode) == row.setting, note=_power(evidence, modes, row)
        )
        for row in rows
    ]


def _power(evidence: SweepFrames, modes: Modes, row: Measured) -> str:
    """What the pairs of a C12 row could have shown, in words, after what the row says already."""
    last = evidence.final(modes[row.mode])
    first, second = pairs(last, METRIC, BASELINE, "repair_only", row.setting)
    least = detectable(first - second, 1 - _corrected(evidence, modes)) if len(first) > 1 else None
    text = "" if least is None else f"a difference of {least:.4f} shows in 80% of repeats"
    return "; ".join(filter(None, (row.note, text)))


def _by_setting(
    evidence: SweepFrames,
    modes: Modes,
    measure: Callable[[str, str, float], Difference],
    judge: Callable[[Difference], Verdict],
) -> list[Measured]:
    """One row per mode and setting, p-values Holm-adjusted over all of them."""
    rows = []
    for mode, sweep in modes.items():
        for setting in evidence.settings(sweep):
            try:
                d = measure(sweep, setting, _corrected(evidence, modes))
            except ValueError:
                rows.append(missing(mode, setting))
                continue
            rows.append(
                Measured(mode, setting, d.value, d.low, d.high, d.n, d.p, judge(d), d.label)
            )
    adjusted = iter(holm([row.p for row in rows if row.p is not None]))
    return [row if row.p is None else replace(row, p=next(adjusted)) for row in rows]


@dataclass(frozen=True)
class _Reach:
    """Budgets of runs `[2, n]` to a target, all that the baseline spends, and both in words."""

    runs: Floats
    total: float
    text: str


def _to_target(
    evidence: SweepFrames, sweep: str, setting: str, strategy: str, axis: str
) -> _Reach | None:
    """A strategy's way to the baseline's mean final metric; None without runs of both."""
    curves = evidence.curves(sweep).filter(pl.col("setting") == setting)
    try:
        target = final_value(curves, METRIC, BASELINE)
    except ValueError:
        return None
    events = reach_events(curves, METRIC, axis, target)
    ours = events.filter(pl.col("strategy") == strategy).sort("seed")
    theirs = events.filter(pl.col("strategy") == BASELINE)
    if ours.is_empty() or theirs.is_empty():
        return None
    runs = survival.sample(ours["budget"].to_numpy(), ours["reached"].to_numpy())
    points = _points(curves, strategy)
    text = f"{int(runs[1].sum())} of {runs.shape[1]} runs reach {target:.4f}"
    text += f", read at {points} points of {100 / points:.2g}% each" if points else ""
    return _Reach(runs, float(np.median(theirs["spent"].to_numpy())), text)


def _points(curves: pl.DataFrame, strategy: str) -> int:
    """Evaluations of a strategy's runs after the start: budgets are interpolated between these."""
    steps = curves.filter((pl.col("strategy") == strategy) & (pl.col("step") > 0))["step"]
    return steps.n_unique()


def _unfair(evidence: SweepFrames, sweep: str, setting: str) -> str:
    """Why nothing follows from this comparison; empty when it is fair.

    The baseline ends below its own start or sits at an edge of its grid of rates, or the method
    sits at the upper edge. (At the lower edge it is at its best when it is hardly trained: there
    no further rate would help it.)
    """
    here = evidence.of(sweep).filter(pl.col("setting") == setting)
    tried = here.filter(pl.col("strategy") == METHOD)
    rates = tried["lr"].unique().to_list()
    blocking = {(BASELINE, "below_start"), (BASELINE, "edge_of_grid")}
    if any(edge(rates, lr) == "upper" for lr in tried.filter("tuned")["lr"].unique()):
        blocking.add((METHOD, "edge_of_grid"))
    told = cautions(here, METRIC, BASELINE)
    return "; ".join(c.text for c in told if (c.strategy, c.kind) in blocking)


def _corrected(evidence: SweepFrames, modes: Modes) -> float:
    """Confidence of each interval of a claim: corrected for its settings, over all modes."""
    family = sum(len(evidence.settings(sweep)) for sweep in modes.values())
    return 1 - (1 - CONFIDENCE) / max(family, 1)


def _beside(what: str, rows: list[Measured]) -> list[Measured]:
    """Rows that show another quantity beside a claim; those without a run are left out."""
    shown = [row for row in rows if row.n]
    return [replace(row, verdict="not judged", counts=False, beside=what) for row in shown]


def missing(mode: str, setting: str, verdict: Verdict = "inconclusive") -> Measured:
    """A setting without a pair of seeds."""
    return Measured(mode, setting, None, None, None, 0, None, verdict, _NOTHING)

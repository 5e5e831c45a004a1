"""How each claim is measured on the rows of its sweeps.

Every function takes the evidence and the sweeps by mode (which baseline), and returns one
`Measured` per mode and setting. Intervals are corrected for the settings of a mode, the declared
family (confidence 1 - .05 / m), p-values by Holm over the same family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from workbench import survival
from workbench.budget import cautions, final_value, reach_events
from workbench.evidence import Evidence, pairs, per_run
from workbench.stats import (
    CONFIDENCE,
    Difference,
    Floats,
    estimate,
    finite,
    holm,
    interval,
    paired_difference,
    relative_gain,
)
from workbench.verdicts import Measured, Verdict, judge_level, judge_number, judge_trend

METRIC = "greedy"
"""What the claims call Pass@1: the hit of the first item, as a beam-search evaluation reads it.
Sampled Pass@1 at T = 1 mostly measures sharpness; the questions show it beside this one."""

BASELINE, METHOD = "grpo", "recast"
Modes = Mapping[str, str]
_NOTHING = "no pairs of seeds in the store"


def gain(evidence: Evidence, modes: Modes, paper: tuple[float, float]) -> list[Measured]:
    """C1: relative gain of the final metric over the baseline."""
    return _over_settings(
        evidence,
        modes,
        lambda frame, setting, confidence: relative_gain(
            *pairs(frame, METRIC, METHOD, BASELINE, setting), confidence=confidence
        ),
        lambda found: judge_number(found.low, found.high, paper, 0.0),
    )


def budget_share(evidence: Evidence, modes: Modes, paper: tuple[float, float]) -> list[Measured]:
    """C2: rollouts to the baseline's mean final metric, over all rollouts of the baseline."""
    found = []
    for mode, sweep in modes.items():
        settings = evidence.settings(sweep)
        for setting in settings:
            sample, total, target, warning = _to_target(evidence, sweep, setting)
            if sample is None:
                found.append(_missing(mode, setting))
                continue
            value = float(survival.median(sample)) / total
            low, high = (
                None if end is None else end / total
                for end in interval(sample, survival.median, None, _corrected(len(settings)))
            )
            verdict = judge_number(low, high, paper, 1.0)
            reached = f"{int(sample[1].sum())} of {sample.shape[1]} runs reach {target:.4f}"
            found.append(
                Measured(
                    mode,
                    setting,
                    finite(value),
                    low,
                    high,
                    sample.shape[1],
                    None,
                    "inconclusive" if warning else verdict,
                    "; ".join(filter(None, (reached, warning))),
                )
            )
    return found


def budget_trend(evidence: Evidence, modes: Modes, field: str) -> list[Measured]:
    """C3: log of the budget share at the least value of a field minus that at the greatest."""
    found = []
    for mode, sweep in modes.items():
        frame = evidence.of(sweep)
        if frame.is_empty():
            continue
        cells = frame.select("setting", field).unique().sort(field)
        least, most = cells["setting"][0], cells["setting"][-1]
        label = f"{least} against {most}"
        small, large = (_to_target(evidence, sweep, name) for name in (least, most))
        if small[0] is None or large[0] is None or small[0].shape != large[0].shape:
            found.append(_missing(mode, label))
            continue
        scale = math.log(small[1] / large[1])
        both = np.concatenate([small[0], large[0]])
        low, high = interval(both, lambda s, scale=scale: _log_ratio(s) - scale)  # type: ignore[misc]
        value = float(_log_ratio(both)) - scale
        note = "; ".join(filter(None, (small[3], large[3])))
        found.append(
            Measured(
                mode,
                label,
                finite(value),
                low,
                high,
                both.shape[1],
                None,
                "inconclusive" if note else judge_trend(low, high),
                note,
            )
        )
    return found


def cost_ratio(
    evidence: Evidence,
    modes: Modes,
    cost: Callable[[pl.DataFrame], float] | None,
    column: str,
) -> list[Measured]:
    """C4-C8: the baseline's cost over the method's; shown, never judged.

    cost: what a run spent, from the ledger (None: the simulator has no such thing); column: the
    same of `recast lm efficiency` on a small real model, where its rows are given.
    """
    found = []
    for mode, sweep in modes.items():
        curves = evidence.curves(sweep)
        for setting in evidence.settings(sweep) if cost is not None else []:
            assert cost is not None
            theirs, ours = (per_run(curves, name, setting, cost) for name in (BASELINE, METHOD))
            seeds = sorted(theirs.keys() & ours.keys())
            if not seeds:
                found.append(_missing(mode, setting, "not testable here"))
                continue
            ratio = estimate([theirs[s] / ours[s] for s in seeds])
            found.append(_shown(mode, setting, ratio.value, ratio.n, (ratio.low, ratio.high)))
    return found + _on_a_real_model(evidence.efficiency, column)


def _on_a_real_model(table: pl.DataFrame, column: str) -> list[Measured]:
    if table.is_empty():
        return []
    keys = ["group", "prompt_tokens", "micro_rows", "prefix"]
    both = table.filter(pl.col("strategy") == METHOD).join(
        table.filter(pl.col("strategy") == BASELINE), on=keys, suffix="_baseline"
    )
    return [
        _shown(
            "small real model, CPU",
            f"G {row['group']}, prompt {row['prompt_tokens']}, prompts {row['prefix']}, "
            f"micro-batch {row['micro_rows'] or 'whole'}",
            row["mfu"] / row["mfu_baseline"] if column == "mfu" else float(row[column]),
            1,
            (None, None),
        )
        for row in both.sort(keys).iter_rows(named=True)
    ]


def _shown(
    mode: str, setting: str, value: float, n: int, ends: tuple[float | None, float | None]
) -> Measured:
    return Measured(mode, setting, value, *ends, n, None, "not testable here")


def stays_sparse(evidence: Evidence, modes: Modes, least: float) -> list[Measured]:
    """C9: the baseline's smallest all-zero + single-hit share at any evaluation after the start."""

    def lowest(rows: pl.DataFrame) -> float:
        after = rows.filter(pl.col("step") > 0)
        return float((after["all_zero"] + after["single_hit"]).to_numpy().min())

    def at_start(rows: pl.DataFrame) -> float:
        return float(rows["all_zero"][0] + rows["single_hit"][0])

    found = []
    for mode, sweep in modes.items():
        settings = evidence.settings(sweep)
        for setting in settings:
            shares = per_run(evidence.curves(sweep), BASELINE, setting, lowest)
            if not shares:
                found.append(_missing(mode, setting))
                continue
            level = estimate(list(shares.values()), confidence=_corrected(len(settings)))
            verdict = judge_level(level.low, level.high, least)
            begun = per_run(evidence.curves(sweep), BASELINE, setting, at_start)
            note = f"{estimate(list(begun.values())).value:.3f} at the start"
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
                    "; ".join(filter(None, (note, level.label))),
                )
            )
    return found


def repair_fades(evidence: Evidence, modes: Modes) -> list[Measured]:
    """C10: share of groups repaired up to the first evaluation minus that before the last."""

    def measure(sweep: str, setting: str, confidence: float) -> Difference:
        curves = evidence.curves(sweep).filter(pl.col("repaired").is_not_null())
        early = per_run(curves, METHOD, setting, lambda rows: float(rows["repaired"][0]))
        late = per_run(curves, METHOD, setting, lambda rows: float(rows["repaired"][-1]))
        return paired_difference(
            list(early.values()), list(late.values()), "mean", None, confidence
        )

    return _by_setting(evidence, modes, measure, lambda d: judge_trend(d.low, d.high))


def steadier(evidence: Evidence, modes: Modes) -> list[Measured]:
    """C11: largest drawdown over the last half, baseline minus method; log ratio of seed SDs."""
    found = []
    for mode, sweep in modes.items():
        curves, settings = evidence.curves(sweep), evidence.settings(sweep)
        confidence = _corrected(2 * len(settings))
        for setting in settings:
            falls = [per_run(curves, s, setting, drawdown) for s in (BASELINE, METHOD)]
            seeds = sorted(falls[0].keys() & falls[1].keys())
            theirs, ours = pairs(evidence.final(sweep), METRIC, BASELINE, METHOD, setting)
            if not seeds or not len(theirs):
                found.append(_missing(mode, setting))
                continue
            worst = [[fall[s] for s in seeds] for fall in falls]
            gap = paired_difference(worst[0], worst[1], confidence=confidence)
            found.append(
                Measured(
                    mode,
                    f"{setting}, drawdown",
                    gap.value,
                    gap.low,
                    gap.high,
                    gap.n,
                    gap.p,
                    judge_trend(gap.low, gap.high),
                    gap.label,
                )
            )
            spread = np.stack([theirs, ours])
            low, high = interval(spread, _log_spread, None, confidence)
            found.append(
                Measured(
                    mode,
                    f"{setting}, seed SD",
                    finite(float(_log_spread(spread))),
                    low,
                    high,
                    len(theirs),
                    None,
                    judge_trend(low, high),
                    "log ratio of standard deviations",
                )
            )
    return found


def repair_hurts(evidence: Evidence, modes: Modes, field: str) -> list[Measured]:
    """C12: GRPO minus repair without contrast; only the strongest start decides."""
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
    return [replace(row, counts=strongest.get(row.mode) == row.setting) for row in rows]


def drawdown(rows: pl.DataFrame) -> float:
    """Largest fall of the metric below its best so far, over the last half of the evaluations."""
    values = rows[METRIC].to_numpy()
    half = values[len(values) // 2 :]
    return float((np.maximum.accumulate(half) - half).max())


def _over_settings(
    evidence: Evidence,
    modes: Modes,
    measure: Callable[[pl.DataFrame, str, float], Difference],
    judge: Callable[[Difference], Verdict],
) -> list[Measured]:
    return _by_setting(
        evidence,
        modes,
        lambda sweep, setting, confidence: measure(evidence.final(sweep), setting, confidence),
        judge,
    )


def _by_setting(
    evidence: Evidence,
    modes: Modes,
    measure: Callable[[str, str, float], Difference],
    judge: Callable[[Difference], Verdict],
) -> list[Measured]:
    """One row per mode and setting, p-values Holm-adjusted within each mode."""
    rows = []
    for mode, sweep in modes.items():
        family = evidence.settings(sweep)
        tested = []
        for setting in family:
            try:
                d = measure(sweep, setting, _corrected(len(family)))
            except ValueError:
                rows.append(_missing(mode, setting))
                continue
            tested.append(
                Measured(mode, setting, d.value, d.low, d.high, d.n, d.p, judge(d), d.label)
            )
        adjusted = holm([row.p for row in tested if row.p is not None])
        rows += [replace(row, p=p) for row, p in zip(tested, adjusted, strict=True)]
    return rows


def _to_target(
    evidence: Evidence, sweep: str, setting: str
) -> tuple[Floats | None, float, float, str]:
    """The method's budgets `[2, n]`, all the baseline spends, the target, and what is wrong."""
    here = evidence.of(sweep).filter(pl.col("setting") == setting)
    curves = evidence.curves(sweep).filter(pl.col("setting") == setting)
    try:
        target = final_value(curves, METRIC, BASELINE)
    except ValueError:
        return None, math.nan, math.nan, _NOTHING
    events = reach_events(curves, METRIC, "rollouts", target)
    ours = events.filter(pl.col("strategy") == METHOD).sort("seed")
    theirs = events.filter(pl.col("strategy") == BASELINE)
    if ours.is_empty() or theirs.is_empty():
        return None, math.nan, math.nan, _NOTHING
    sample = survival.sample(ours["budget"].to_numpy(), ours["reached"].to_numpy())
    told = [c.text for c in cautions(here, METRIC, BASELINE) if c.kind == "below_start"]
    return sample, float(np.median(theirs["spent"].to_numpy())), target, "; ".join(told)


def _log_ratio(runs: Floats) -> Floats:
    """Log of one median budget over another, of samples `[4, ..., n]`; NaN when neither is."""
    first, second = survival.median(runs[:2]), survival.median(runs[2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.log(first) - np.log(second)
    return ratio


def _log_spread(pair: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.log(pair[0].std(axis=-1, ddof=1)) - np.log(pair[1].std(axis=-1, ddof=1))
    return ratio


def _corrected(family: int) -> float:
    return 1 - (1 - CONFIDENCE) / max(family, 1)


def _missing(mode: str, setting: str, verdict: Verdict = "inconclusive") -> Measured:
    return Measured(mode, setting, None, None, None, 0, None, verdict, _NOTHING)

"""C11: how steady training is, as drawdowns within runs and as the spread over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from workbench.stats.estimates import CONFIDENCE, interval, paired_difference
from workbench.stats.p_values import holm
from workbench.stats.samples import Floats, finite, mean
from workbench.studies.evidence import SweepFrames, per_run
from workbench.studies.measures import BASELINE, METHOD, METRIC, Modes, missing
from workbench.studies.verdicts import Measured, judge_all, judge_trend


def steadier(evidence: SweepFrames, modes: Modes) -> list[Measured]:
    """C11: largest drawdown over the last half, baseline minus method; log ratio of seed SDs.

    One setting tells seed SDs apart only where they differ threefold (10 seeds), so all settings of
    a mode are taken together: seeds are resampled within settings, SDs compared within them and the
    log ratios averaged. A mode needs both: its two rows share one verdict.
    """
    found = []
    for mode, sweep in modes.items():
        curves, settings = evidence.curves(sweep), evidence.settings(sweep)
        confidence = 1 - (1 - CONFIDENCE) / (2 * len(modes))
        falls, ends, strata = [list[float](), list[float]()], [list[float](), list[float]()], []
        for setting in settings:
            here = [per_run(curves, s, setting, drawdown) for s in (BASELINE, METHOD)]
            last = [
                per_run(curves, s, setting, lambda rows: float(rows[METRIC][-1]))
                for s in (BASELINE, METHOD)
            ]
            seeds = sorted(here[0].keys() & here[1].keys())
            strata += [setting] * len(seeds)
            for side_, (fall, end) in enumerate(zip(here, last, strict=True)):
                falls[side_] += [fall[s] for s in seeds]
                ends[side_] += [end[s] for s in seeds]
        label = settings[0] if len(settings) == 1 else f"{len(settings)} settings together"
        if not strata:
            if settings:
                found.append(missing(mode, label))
            continue
        gap = paired_difference(falls[0], falls[1], strata=strata, confidence=confidence)
        groups = [np.flatnonzero(np.array(strata) == name) for name in dict.fromkeys(strata)]

        def spread(pair: Floats, groups: list[np.ndarray] = groups) -> Floats:
            return mean(np.stack([_log_spread(pair[..., g]) for g in groups], axis=-1))

        both = np.array(ends)
        ratio, n = finite(float(spread(both))), len(strata)
        low, high = interval(both, spread, strata, confidence)
        verdict = judge_all([judge_trend(gap.low, gap.high), judge_trend(low, high)])
        falling, varying = f"{label}, drawdown", f"{label}, seed SD"
        text = "log ratio of standard deviations"
        found += [
            Measured(mode, falling, gap.value, gap.low, gap.high, gap.n, gap.p, verdict, gap.label),
            Measured(mode, varying, ratio, low, high, n, None, verdict, text),
        ]
    adjusted = iter(holm([row.p for row in found if row.p is not None]))
    return [row if row.p is None else replace(row, p=next(adjusted)) for row in found]


def drawdown(rows: pl.DataFrame) -> float:
    """Largest fall of the metric below its best so far, over the last half of the evaluations."""
    values = rows[METRIC].to_numpy()
    half = values[len(values) // 2 :]
    return float((np.maximum.accumulate(half) - half).max())


def _log_spread(pair: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.log(pair[0].std(axis=-1, ddof=1)) - np.log(pair[1].std(axis=-1, ddof=1))
    return ratio

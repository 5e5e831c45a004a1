"""The paper's claims C1..C12 as checks: statistic, threshold and analogue fixed before measuring.

Source: arXiv 2604.22169; some figures come from public summaries of it. A number is
reproduced when the whole interval lies within a factor of it, compatible when it meets a range and
excludes "no effect"; a trend when the interval excludes 0. Intervals are corrected for all settings
of a claim, over both baselines. The claims about cost are shown, not judged: the simulator's
ledger and measurements on real architectures stand beside the paper's figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import polars as pl

from workbench.stats.p_values import least_after_holm
from workbench.studies import costs, measures, stability
from workbench.studies.evidence import WHOLE, SweepFrames
from workbench.studies.verdicts import Measured, Verdict, together

IID = "i.i.d. GRPO"
OPENONEREC = "openonerec"
MAIN: Mapping[str, str] = MappingProxyType({IID: "claims", OPENONEREC: "claims-openonerec"})
SCALE: Mapping[str, str] = MappingProxyType(
    {IID: "claims-scale", OPENONEREC: "claims-scale-openonerec"}
)
START: Mapping[str, str] = MappingProxyType({IID: "claims-start"})
_TABLES = (MAIN, SCALE, START)
STRICT_START, STRICT_WIDTH = "start.all_zero", "policy.width"
SWEEPS = tuple(table[mode] for mode in (IID, OPENONEREC) for table in _TABLES if mode in table)
"""In the order in which they run: all of a baseline before the next, the cheap one first."""

Measure = Callable[[SweepFrames, Mapping[str, str]], list[Measured]]


@dataclass(frozen=True)
class Claim:
    """One claim. says, figure: the paper's; statistic, threshold, analogue: how it is checked here;
    modes: which baseline is measured on which packaged sweep; judged: False where the ledger is
    shown and no verdict is given."""

    key: str
    says: str
    figure: str
    statistic: str
    threshold: str
    analogue: str
    modes: Mapping[str, str]
    measure: Measure
    judged: bool = True


@dataclass(frozen=True)
class Checked:
    """A claim, what was measured in each setting, and the verdict over all; where: the settings in
    which it holds, when it holds in some only."""

    claim: Claim
    rows: tuple[Measured, ...]
    verdict: Verdict
    where: str


_HITS = "C(1) (Pass@1 at its best temperature), each strategy at its own best rate, test users"
_REAL = (
    "`benchmarks/gpu.sh` measured it on one GPU at the architecture of Qwen3, random weights; "
    "`recast lm efficiency` measures it on a small real model (--efficiency FILE)"
)


def _cost(
    key: str,
    says: str,
    figure: str,
    *,
    statistic: str,
    analogue: str,
    cost: Callable[[pl.DataFrame], float] | None,
    column: str,
) -> Claim:
    """A claim about cost: shown, not judged. cost, column: as `costs.cost_ratio` takes them."""
    return Claim(
        key=key,
        says=says,
        figure=figure,
        statistic=statistic,
        threshold="not judged: the paper does not state the prompts and micro-batches of its "
        "figure",
        analogue=f"{_REAL}; {analogue}",
        modes=MAIN,
        measure=partial(costs.cost_ratio, cost=cost, column=column),
        judged=False,
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        key="C1",
        says="Pass@1 over OpenOneRec-RL on five tasks",
        figure="+9.1% to +36.6%",
        statistic=f"relative gain over GRPO in {_HITS}, paired by seed",
        threshold="compatible: interval meets [9.1%, 36.6%] and excludes 0",
        analogue="five worlds of the simulator and all of them mixed, for five benchmark tasks",
        modes=MAIN,
        measure=partial(measures.gain, paper=(0.091, 0.366)),
    ),
    Claim(
        key="C2",
        says="rollout budget to reach the baseline's final performance",
        figure="4.1% of the baseline's",
        statistic=f"median rollouts to the baseline's mean final {_HITS}, over the baseline's "
        "rollouts",
        threshold="interval wholly within a factor of 2 of 4.1%",
        analogue="the simulator's rollouts",
        modes=MAIN,
        measure=partial(measures.budget_share, paper=0.041),
    ),
    Claim(
        key="C3",
        says="the budget advantage widens with model scale",
        figure="trend over 1.7B, 8B, 14B",
        statistic="share of GRPO's rollouts that is saved (one minus the budget share of C2, 0 "
        "where the median run never gets there) at the largest policy minus that at the smallest",
        threshold="interval above 0; nothing saved at the largest policy refutes",
        analogue="hidden width of the policy for model scale",
        modes=SCALE,
        measure=partial(measures.budget_trend, field=STRICT_WIDTH),
    ),
    _cost(
        "C4",
        "actor-side update time, G = 32, 8B",
        "16.60x less (211.04 s -> 12.71 s)",
        statistic="seconds of the actor's update, GRPO's over ReCast's, where they were measured",
        analogue="beside it rows in the update, from the ledger",
        cost=costs.rows,
        column="ratio",
    ),
    _cost(
        "C5",
        "whole step",
        "4.83x less (371.54 s -> 77.00 s; from a public summary)",
        statistic="seconds of the whole step, GRPO's over ReCast's, where they were measured",
        analogue="beside it row passes from the ledger, 1 per rollout + 3 per updated row",
        cost=costs.row_passes,
        column="step_ratio",
    ),
    _cost(
        "C6",
        "effective tokens in the actor update",
        "14.7x less (6.93M -> 0.47M; from a public summary)",
        statistic="tokens of the actor's update, GRPO's over ReCast's, where they were measured",
        analogue="beside it rows in the update, prompts not counted",
        cost=costs.rows,
        column="token_ratio",
    ),
    _cost(
        "C7",
        "peak allocated memory",
        "-16.5% (1.20x less)",
        statistic="peak memory, GRPO's over ReCast's, where it was measured",
        analogue="beside it rows held for one backward pass, without weights",
        cost=costs.width,
        column="memory_ratio",
    ),
    _cost(
        "C8",
        "actor MFU (model FLOPs utilisation)",
        "+14.2% (1.14x)",
        statistic="ReCast's MFU over GRPO's",
        analogue="the simulator has none",
        cost=None,
        column="mfu",
    ),
    Claim(
        key="C9",
        says="the baseline stays in all-zero / single-hit throughout training",
        figure="trend (98% at the start; from a public summary)",
        statistic="GRPO's smallest all-zero + single-hit share after the start, minus the start's "
        "(exact, i.i.d. groups), where GRPO's own C(1) has risen",
        threshold="interval at or above -2 points",
        analogue="the simulator's groups of the same width; of beam sets, what i.i.d. groups would "
        "have",
        modes=MAIN,
        measure=partial(measures.stays_sparse, least=-0.02, sparse=0.95),
    ),
    Claim(
        key="C10",
        says="repair is needed early and becomes less necessary",
        figure="trend",
        statistic="ReCast's share of repaired groups before the first evaluation minus before the "
        "last",
        threshold="interval above 0",
        analogue="the same quantity; it is ReCast's all-zero share, so it falls wherever its "
        "Pass@G "
        "rises",
        modes=MAIN,
        measure=measures.repair_fades,
    ),
    Claim(
        key="C11",
        says="the boundary update is more stable than full-group normalisation",
        figure="trend",
        statistic="largest drawdown of C(1) over the last half, and log seed SD: GRPO minus ReCast",
        threshold="both intervals above 0, over all settings of a baseline together",
        analogue="the same quantities; seed SDs are compared within settings and averaged over "
        "them",
        modes=MAIN,
        measure=stability.steadier,
    ),
    Claim(
        key="C12",
        says="repair without contrast can hurt when the starting policy is strong",
        figure="sign",
        statistic=f"GRPO minus repair_only in {_HITS}, at the strongest start",
        threshold="interval above 0",
        analogue="the warm start's all-zero share for strength; weaker starts are shown beside it",
        modes=START,
        measure=partial(measures.repair_hurts, field=STRICT_START),
    ),
)


def check(claim: Claim, evidence: SweepFrames) -> Checked:
    """Measure one claim and judge it; a cell that the store lacks is a setting not measured."""
    rows = claim.measure(evidence, claim.modes)
    if claim.judged:
        rows += [
            Measured(mode, cell, None, None, None, 0, None, "not measured", f"recast sweep {sweep}")
            for mode, sweep in claim.modes.items()
            for cell in (
                (WHOLE,) if evidence.of(sweep).is_empty() else evidence.absent.get(sweep, ())
            )
        ]
    verdict, where = together(rows)
    return Checked(claim, tuple(rows), verdict, where)


def claims_table(checked: list[Checked]) -> pl.DataFrame:
    """One row per claim: claim, says, paper, measured, beside (controls and other metrics),
    verdict, where, statistic, threshold, analogue, sweeps."""
    return pl.DataFrame(
        [
            {
                "claim": c.claim.key,
                "says": c.claim.says,
                "paper": c.claim.figure,
                "measured": _span([row for row in c.rows if row.counts]),
                "beside": _companions(c.rows),
                "verdict": c.verdict,
                "where": c.where,
                "statistic": c.claim.statistic,
                "threshold": c.claim.threshold,
                "analogue": c.claim.analogue,
                "sweeps": ", ".join(c.claim.modes.values()),
            }
            for c in checked
        ],
        schema=dict.fromkeys(
            (
                "claim",
                "says",
                "paper",
                "measured",
                "beside",
                "verdict",
                "where",
                "statistic",
                "threshold",
                "analogue",
                "sweeps",
            ),
            pl.String,
        ),
    )


def settings_table(checked: list[Checked]) -> pl.DataFrame:
    """One row per claim, mode and setting: claim, mode, setting, beside, value, low, high, n, p,
    verdict, decides, note."""
    return pl.DataFrame(
        [
            {
                "claim": c.claim.key,
                "mode": row.mode,
                "setting": row.setting,
                "beside": row.beside,
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "n": row.n,
                "p": row.p,
                "verdict": row.verdict,
                "decides": row.counts,
                "note": row.note,
            }
            for c in checked
            for row in c.rows
        ],
        schema={
            "claim": pl.String,
            "mode": pl.String,
            "setting": pl.String,
            "beside": pl.String,
            "value": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "n": pl.Int64,
            "p": pl.Float64,
            "verdict": pl.String,
            "decides": pl.Boolean,
            "note": pl.String,
        },
    )


def _span(rows: Sequence[Measured]) -> str:
    """What was measured, per mode: one value with its interval, or the range over settings."""
    parts = []
    for mode in dict.fromkeys(row.mode for row in rows):
        shown = [row for row in rows if row.mode == mode]
        values = [row.value for row in shown if row.value is not None]
        if not values:
            unmeasured = all(row.verdict == "not measured" for row in shown)
            text = "not measured" if unmeasured else "no value"
        elif len(shown) == 1:
            low, high = (
                ("?" if end is None else f"{end:.3g}") for end in (shown[0].low, shown[0].high)
            )
            text = f"{values[0]:.3g} [{low}, {high}]"
        else:
            absent = len(shown) - len(values)
            text = f"{min(values):.3g} to {max(values):.3g} in {len(shown)} settings"
            text += f" ({absent} without a value)" if absent else ""
        parts.append(f"{mode}: {text}")
    return "; ".join(parts)


def _companions(rows: Sequence[Measured]) -> str:
    return " | ".join(
        f"{what}: {_span([row for row in rows if row.beside == what])}"
        for what in dict.fromkeys(row.beside for row in rows if row.beside)
    )


def least_told(settings: pl.DataFrame) -> list[str]:
    """The least p that the settings of a claim can show, one line per claim and quantity that has
    any. settings: as `settings_table` gives."""
    family = settings.drop_nulls("p").group_by("claim", "beside", maintain_order=True)
    families = family.agg(pl.len(), pl.col("n").max())
    return [
        f"{claim}{f', {beside}' if beside else ''}: p by sign flips, Holm over {rows} rows of at "
        f"most {pairs} pairs: none can be below {least_after_holm(pairs, rows):.2g}."
        for claim, beside, rows, pairs in families.iter_rows()
    ]

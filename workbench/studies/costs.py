"""What the claims about cost are measured on: ratios of the ledger, of a small real model, and of
published architectures on one GPU.

Shown beside the paper's figures and never judged: those are of an 8B model on a cluster, with
prompts and micro-batches that the paper does not state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from workbench.real import gpu
from workbench.stats.estimates import estimate
from workbench.studies.evidence import SweepFrames, per_run
from workbench.studies.measures import BASELINE, METHOD, Modes, missing, shown
from workbench.studies.verdicts import Measured


def rows(curve: pl.DataFrame) -> float:
    """Rows that a run sent through the actor's update."""
    return float(curve["updated_rows"][-1])


def row_passes(curve: pl.DataFrame) -> float:
    """One forward per rollout; three for a row of the update (forward, and backward as two)."""
    return float(curve["rollouts"][-1] + 3 * curve["updated_rows"][-1])


def width(curve: pl.DataFrame) -> float:
    """Mean rows of a group that reach the actor."""
    return float(curve["update_width"].drop_nulls().to_numpy().mean())


def cost_ratio(
    evidence: SweepFrames,
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
                found.append(missing(mode, setting, "shown, not judged"))
                continue
            ratio = estimate([theirs[s] / ours[s] for s in seeds])
            found.append(shown(mode, setting, ratio.value, ratio.n, (ratio.low, ratio.high)))
    measured = _on_a_gpu(column) + _on_a_real_model(evidence.efficiency, column)
    if measured:
        # The verdict rests on measured costs; the simulator's counts are shown beside them.
        found = [
            replace(row, counts=False, beside="counted in the simulator's ledger") for row in found
        ]
    return found + measured


def _on_a_gpu(column: str) -> list[Measured]:
    """The packaged measurements at the paper's G = 32, random weights."""
    table = gpu.costs().filter(pl.col("strategy") == METHOD)
    name = "mfu_ratio" if column == "mfu" else column
    return [
        shown(
            f"{row['model']} architecture, {row['card']}",
            f"G {row['group']}, prompt {row['prompt_tokens']}, prompts {row['prefix']}, "
            f"micro-batch {row['micro_tokens']} tokens",
            float(row[name]),
            1,
            (None, None),
        )
        for row in table.sort("model", "prompt_tokens", "prefix").iter_rows(named=True)
    ]


def _on_a_real_model(table: pl.DataFrame, column: str) -> list[Measured]:
    if table.is_empty():
        return []
    keys = ["group", "prompt_tokens", "micro_rows", "prefix"]
    both = table.filter(pl.col("strategy") == METHOD).join(
        table.filter(pl.col("strategy") == BASELINE), on=keys, suffix="_baseline"
    )
    return [
        shown(
            "small real model, CPU",
            f"G {row['group']}, prompt {row['prompt_tokens']}, prompts {row['prefix']}, "
            f"micro-batch {row['micro_rows'] or 'whole'}",
            row["mfu"] / row["mfu_baseline"] if column == "mfu" else float(row[column]),
            1,
            (None, None),
        )
        for row in both.sort(keys).iter_rows(named=True)
    ]

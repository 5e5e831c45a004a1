"""Where each signal points and how noisy it is, by enumeration: the rows of `recast exact`."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
from torch import Tensor

from recast.progress import Progress
from recast.strategy import STAGES, Strategy
from recast.theory.by_hits import by_hits, why_undefined
from recast.theory.objective import weight
from sim.exact import (
    OBJECTIVES,
    ExactWorld,
    cosine,
    exact_update,
    objective_gradient,
    why_not_enumerable,
)

NUMBERS = (
    "norm",
    "bias",
    *(f"cos_{name}" for name in OBJECTIVES),
    "cos_own",
    "variance",
    "snr",
)
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "strategy": pl.String,
    "batch": pl.Int64,
    "rollouts": pl.Int64,
    "state": pl.String,
    **dict.fromkeys(NUMBERS, pl.Float64),
    "note": pl.String,
}


def exact_table(
    chosen: dict[str, Strategy],
    world: ExactWorld,
    group: int,
    progress: Progress = lambda done, total, text: None,
) -> pl.DataFrame:
    """One row per strategy, columns of `SCHEMA`; null where a strategy has no such number.

    cos_own is null where hits alone do not determine the signal; note says why a row is empty, or
    what a reader must know.
    """
    rows: list[dict[str, Any]] = []
    truth = objective_gradient(world, OBJECTIVES["p"])
    for done, (name, strategy) in enumerate(chosen.items()):
        progress(done, len(chosen), name)
        reason = why_not_enumerable(strategy, world, group)
        if reason is not None:
            rows.append({"strategy": name, "note": f"not enumerable: {reason}"})
            continue
        found = exact_update(strategy, world, group)
        noise = math.sqrt(found.variance)
        norm = float(found.mean.norm())
        numbers = {
            "norm": norm,
            "bias": float((found.mean - truth).norm()),
            **{
                f"cos_{objective}": cosine(found.mean, objective_gradient(world, slope))
                for objective, slope in OBJECTIVES.items()
            },
            "cos_own": _own(strategy, world, group, found.mean),
            "variance": found.variance,
            "snr": norm / noise if noise > 1e-9 else math.nan,
        }
        rows.append(
            {
                "strategy": name,
                "batch": found.batch,
                "rollouts": found.width,
                "state": found.state,
                **{key: value if math.isfinite(value) else None for key, value in numbers.items()},
                "note": _note(strategy, norm, found.batch, group),
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def _own(strategy: Strategy, world: ExactWorld, group: int, mean: Tensor) -> float:
    """Cosine to the gradient of the strategy's own objective f, from its w(p)."""
    if why_undefined(strategy):
        return math.nan
    pull = weight(strategy, world.p, group).total.unsqueeze(-1)
    return cosine(mean, pull * world.target_gradient)


def _note(strategy: Strategy, norm: float, batch: int, group: int) -> str:
    notes = []
    if norm < 1e-14:
        notes.append("learns nothing at this G")
    if strategy.rounds is not None:
        refills = strategy.rounds.kind == "refill"
        notes.append(
            "without the prompts that replace dropped groups"
            if refills
            else "its first round of sampling alone"
        )
    if strategy.has_gate:
        notes.append("fresh gate: every prompt is rolled out")
    if "reference" in strategy.needs:
        notes.append("at the reference policy")
    if any(strategy.stage(kind).stage.by_code for kind in STAGES):
        notes.append("cos_own takes an item to have one code")
    notes += [note for kind in STAGES if (note := strategy.stage(kind).stage.note)]
    if not why_undefined(strategy) and bool(by_hits(strategy, group).apart.any()):
        notes.append("picks misses by their structure, which no f(p) holds")
    if batch > 1:
        notes.append("cos_own takes the other prompt to have the same p")
    return "; ".join(notes)

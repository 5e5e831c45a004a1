"""Frames of the theory: what each strategy makes of a hit rate, before anything is trained.

Prompts' hit probabilities are Beta-distributed with a mean and a coefficient of variation; shares
lie in [0, 1]. A strategy that hits alone do not determine is left out and named in `left_out`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from recast import STRATEGIES, Strategy
from recast.theory.by_hits import any_signal, by_hits, sampled_width, why_undefined
from recast.theory.closed_forms import CLOSED_FORMS
from recast.theory.learnability import expected_signal, hit_count_pmf
from recast.theory.objective import objective, signal_to_noise, weight

LOWEST = 1e-4
POINTS = 81
NARROW = 4
_CURVES = {"strategy": pl.String} | dict.fromkeys(
    ("p", "w", "f", "w_scaled", "f_scaled"), pl.Float64
)


def left_out(names: Sequence[str], group: int) -> dict[str, str]:
    """Why a strategy has no theory at this G, by name; those that have one are absent."""
    found = {}
    for name in names:
        reason = why_undefined(STRATEGIES[name]) or _refusal(STRATEGIES[name], group)
        if reason:
            found[name] = reason
    return found


def reach_frame(
    names: Sequence[str], mean: float, cv: float, widths: Sequence[int]
) -> pl.DataFrame:
    """strategy, group, learnable: share of groups with a signal under it, and cost: rollouts
    sampled per such group (null where no group has one, or no rollout is sampled).

    A strategy that looks at the batch, or refuses a width, has no row there.
    """
    rows = []
    for name in names:
        strategy = STRATEGIES[name]
        for group in widths:
            if left_out([name], group) or _looks_at_the_batch(strategy):
                continue
            width = sampled_width(strategy, group)
            share = float(hit_count_pmf(mean, cv, width) @ any_signal(strategy, group))
            sampled = strategy.sampled(group)
            cost = sampled / share if share > 0 and sampled else None
            rows.append({"strategy": name, "group": group, "learnable": share, "cost": cost})
    schema = {"strategy": pl.String, "group": pl.Int64, "learnable": pl.Float64, "cost": pl.Float64}
    return pl.DataFrame(rows, schema=schema)


def weight_frame(names: Sequence[str], p_here: float, group: int) -> pl.DataFrame:
    """strategy, p, w, f, w_scaled, f_scaled on a grid of p from `LOWEST` to 1.

    w, f: with each loss's own divisor, f(1) = 0. w_scaled: w over w at p_here; f_scaled: share of
    the climb from `LOWEST` to 1 that lies below p. Null where a scale is 0.
    """
    grid = torch.logspace(math.log10(LOWEST), 0, POINTS, dtype=torch.float64)
    p = torch.cat([grid, torch.tensor([p_here], dtype=torch.float64)]).sort().values
    here = int((p - p_here).abs().argmin())
    columns: dict[str, list[Any]] = {name: [] for name in _CURVES}
    for name in names:
        if left_out([name], group):
            continue
        w, f = weight(name, p, group).total, objective(name, p, group)
        climb = float(f[-1] - f[0])
        nothing = [None] * len(p)
        for column, values in (
            ("strategy", [name] * len(p)),
            ("p", p.tolist()),
            ("w", w.tolist()),
            ("f", f.tolist()),
            ("w_scaled", (w / w[here]).tolist() if w[here] != 0 else nothing),
            ("f_scaled", ((f - f[0]) / climb).tolist() if climb else nothing),
        ):
            columns[column] += values
    return pl.DataFrame(columns, schema=_CURVES) if columns["p"] else pl.DataFrame()


def same_lines(curves: pl.DataFrame, closer: float = 0.01) -> list[list[str]]:
    """Groups of two or more strategies whose scaled w(p) differ by less than `closer`, relatively,
    at every p up to one half, where a picture shows one line. curves: as `weight_frame` gives."""
    lines: list[tuple[list[str], np.ndarray[Any, Any]]] = []
    for (name,), rows in curves.filter(pl.col("p") <= 0.5).group_by(
        "strategy", maintain_order=True
    ):
        if rows["w_scaled"].null_count():
            continue
        here = rows["w_scaled"].to_numpy()
        for names, line in lines:
            if bool((abs(here - line) <= closer * abs(line)).all()):
                names.append(str(name))
                break
        else:
            lines.append(([str(name)], here))
    return [names for names, _ in lines if len(names) > 1]


def summary_frame(names: Sequence[str], p_here: float, group: int) -> pl.DataFrame:
    """One row per strategy: w at p_here, its divisor, what is known in closed form, noise."""
    at = torch.tensor([p_here], dtype=torch.float64)
    rows = []
    for name in names:
        if left_out([name], group):
            continue
        found, form = weight(name, at, group), CLOSED_FORMS.get(name)
        rows.append(
            {
                "strategy": name,
                "w": float(found.total[0]),
                "divided_by": found.divisor,
                "w_closed_form": form.weight_text if form else "exact sum over hits",
                "climbs": form.objective_text if form else "exact sum over hits",
                "apart": float(found.apart[0]),
                "snr": float(signal_to_noise(name, at, group)[0]),
                "note": _note(found.batch, found.shifted, bool(found.apart.any())),
            }
        )
    return pl.DataFrame(rows)


def count_frame(names: Sequence[str], mean: float, cv: float, group: int) -> pl.DataFrame:
    """strategy, signal_count, square (sum of squared advantages), learnable; per group.

    Strategies that have no value per group are absent.
    """
    rows = []
    for name in names:
        if left_out([name], group) or by_hits(STRATEGIES[name], group).batch > 1:
            continue
        pmf = hit_count_pmf(mean, cv, sampled_width(STRATEGIES[name], group))
        found = expected_signal(name, pmf, group)
        rows.append(
            {
                "strategy": name,
                "signal_count": found.count,
                "square": found.square,
                "learnable": found.learnable,
            }
        )
    numbers = ("signal_count", "square", "learnable")
    return pl.DataFrame(rows, schema={"strategy": pl.String, **dict.fromkeys(numbers, pl.Float64)})


def _looks_at_the_batch(strategy: Strategy) -> bool:
    """Seen at a narrow width, where the tables are small: the stages do not change with G."""
    return by_hits(strategy, max(NARROW, strategy.least_group)).batch > 1


def _refusal(strategy: Strategy, group: int) -> str:
    try:
        strategy.check_group(group)
    except ValueError as problem:
        return str(problem)
    return ""


def _note(batch: int, shifted: bool, apart: bool) -> str:
    notes = []
    if batch > 1:
        notes.append("two prompts of the same p in the batch")
    if shifted:
        notes.append("misses that match no code of the target")
    if apart:
        notes.append("w leaves out the misses that it picks by structure")
    return "; ".join(notes)
